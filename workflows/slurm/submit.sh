#!/usr/bin/env bash
# Submits a whole run of ntkpipe as Slurm jobs, each waiting for those it builds on; kernel and fit are job arrays of shards.
#
#   [SHARDS=8] [THREADS=8] [MEM=8G] [TIME=12:00:00] [RESTARTS=5] submit.sh OUT OPTIONS...
#
#   OUT       run directory, on a file system that every node sees; logs go to OUT/slurm/
#   OPTIONS   of `ntkpipe run`: tables, network, model
#   SHARDS    jobs that kernel and fit are each done by
#   THREADS, MEM, TIME   of each job; ntkpipe's --memory is four fifths of MEM
#   RESTARTS  times that a job near its time limit goes back into the queue, to go on where it was
#
# sbatch reads SBATCH_ACCOUNT, SBATCH_PARTITION, SBATCH_QOS and the like itself; NTKPIPE is the program, where it is not on the PATH.
# Submitting again goes on with what is there. Prints stage and job id, one line per job.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" >&2 && exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
out=$1 shards=${SHARDS:-${SHARES:-8}}
shift
mkdir -p "$out/slurm"
export RESTARTS=${RESTARTS:-5}
last=

submit() { # submit NAME SBATCH-OPTIONS... -- STAGE OPTIONS...: after the job before it
  local name=$1 options=()
  shift
  while [ "$1" != -- ]; do options+=("$1") && shift; done
  shift
  [ -z "$last" ] || options+=(--dependency="afterok:$last" --kill-on-invalid-dep=yes)
  # USR1 comes to the script alone, two minutes before the limit.
  last=$(sbatch --parsable --job-name="ntkpipe-$name" --cpus-per-task="${THREADS:-8}" --mem="${MEM:-8G}" \
    --time="${TIME:-12:00:00}" --signal=B:USR1@120 --requeue --open-mode=append \
    "${options[@]}" "$here/stage.sh" "$@" --out "$out")
  last=${last%%;*} # of several clusters, the id alone
  echo "$name $last"
}
alone() { # alone NAME STAGE OPTIONS...
  submit "$1" --output="$out/slurm/$1.log" -- "${@:2}"
}
in_shards() { # in_shards STAGE
  submit "$1-shards" --array="1-$shards" --output="$out/slurm/$1-%a-of-$shards.log" -- "$1/$shards"
}

alone ingest ingest "$@"
in_shards kernel
alone kernel kernel --join-shards
alone spectrum spectrum
in_shards fit
alone fit fit --join-shards
alone predict predict
alone cross-validate cross-validate # nothing to do without --folds and --holdout
alone report report
