#!/usr/bin/env bash
# A job of submit.sh: `stage.sh STAGE OPTIONS...`, or `stage.sh STAGE/N OPTIONS...` for one of N shards, the array's index.
#
# A job that is killed, requeued or sent again goes on: what it made is whole or not there. USR1, shortly before the time limit, stops
# the program and puts the job back into the queue. TERM, of scancel, just ends it.
set -euo pipefail

stage=${1%/*} options=("${@:2}")
[ "$stage" = "$1" ] || options+=(--shard "$SLURM_ARRAY_TASK_ID/${1#*/}")
[ -z "${SLURM_MEM_PER_NODE:-}" ] || options+=(--memory "$((SLURM_MEM_PER_NODE * 4 / 5))MiB")

again() {
  trap - TERM
  kill -TERM "$program" && wait "$program" || true
  if [ "${SLURM_RESTART_COUNT:-0}" -ge "${RESTARTS:-5}" ]; then
    echo "stage.sh: stopped at the time limit after $SLURM_RESTART_COUNT restarts; give TIME more" >&2
    exit 1
  fi
  echo "stage.sh: stopped before the time limit; goes back into the queue" >&2
  scontrol requeue "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
  sleep 60 # until Slurm ends it
  exit 1
}
trap again USR1
trap 'kill -TERM "$program" 2> /dev/null; exit 143' TERM

"${NTKPIPE:-ntkpipe}" "$stage" "${options[@]}" --threads "${SLURM_CPUS_PER_TASK:-1}" &
program=$!
wait "$program"
