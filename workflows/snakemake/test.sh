#!/usr/bin/env bash
# Runs the workflow and the wrapper for real on a simulated cohort and compares with single runs.
#
#   NTKPIPE=target/release/ntkpipe workflows/snakemake/test.sh FOLDER
#
# FOLDER keeps the Python environment (FOLDER/venv) from one call to the next; the rest in it is made anew. Where pip cannot install
# Snakemake, says so and ends with 0.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
ntkpipe=$(realpath "${NTKPIPE:?path of the ntkpipe binary}")
mkdir -p "${1:?folder to work in}" && cd "$1"
passed=0 failed=0

check() { # check NAME COMMAND...: counts whether the command succeeds, and shows what it says if not
  local name=$1 said
  shift
  if said=$("$@" 2>&1); then
    passed=$((passed + 1)) && echo "ok      $name"
  else
    failed=$((failed + 1)) && printf 'FAILED  %s\n%s\n' "$name" "$said"
  fi
}
refuses() { ! "$@"; }
says() { # says WORDS COMMAND...: whether these words are among what it says
  local words=$1
  shift
  "$@" > last.log 2>&1 || true
  grep -q -- "$words" last.log || { cat last.log && false; }
}

python3 -m venv venv && venv/bin/pip install --quiet --requirement "$here/requirements.txt" || {
  echo "SKIPPED: pip cannot install Snakemake here; the workflow was NOT run"
  exit 0
}
rm -rf bin work single wrapper
mkdir -p bin work wrapper
ln -s "$ntkpipe" bin/ntkpipe
export PATH="$PWD/bin:$PWD/venv/bin:$PATH" XDG_CACHE_HOME="$PWD/cache"

check "snakefmt" snakefmt --check "$here/workflow" "$here/wrapper"

ntkpipe simulate --quiet --out work --samples 700 --features 40 --phenotypes 8
(cd work && ntkpipe run --quiet --features proteins.parquet --phenotypes phenotypes.parquet --covariates covariates.parquet \
  --tile 128 --out ../single)

workflow() { # workflow OPTIONS ARGUMENTS...: the workflow with its own configuration and these options of ntkpipe, 4 shards
  local options=$1
  shift
  snakemake --snakefile "$here/workflow/Snakefile" --directory work --configfile "$here/config/config.yaml" \
    --config "options=$options" --cores 2 "$@"
}
check "lint" workflow '{tile: 128}' --lint
check "run in 4 shards" workflow '{tile: 128}'
# 30 minutes as configured, and one for the seconds planned.
check "the time of a shard is from the plan" grep -qr "runtime=31" work/.snakemake/log
for name in phenotypes.parquet phenotypes.tsv predictions.parquet curves.parquet samples.parquet features.parquet \
  kernel.zarr spectrum model ntkpipe_mqc.json; do
  check "$name as by one job" diff -r "single/$name" "work/results/$name"
done
check "report" grep -q '</html>' work/results/report.html
for rule in plan ingest kernel kernel-1-of-4 kernel-4-of-4 spectrum fit fit-1-of-4 fit-4-of-4 predict cross-validate report; do
  check "log and benchmark of $rule" test -f "work/logs/$rule.log" -a -s "work/benchmarks/$rule.tsv"
done
check "no shard is left over" refuses test -e work/results/shards
check "planning leaves nothing but the plan" refuses test -e work/results/.plan
check "nothing is left to do" says "Nothing to be done" workflow '{tile: 128}'

# A result that is lost, and a shard that is killed on the way back to it.
rm work/results/curves.parquet
cat > bin/killed <<'END'
#!/usr/bin/env bash
[ "$1 $2 $3" = "fit --shard 3/4" ] && kill -9 $$
exec ntkpipe "$@"
END
chmod +x bin/killed
check "a killed shard stops the workflow" says "Error in rule fit_shard" workflow '{tile: 128}' --config program=killed 'options={tile: 128}'
check "and nothing is made of the others" refuses test -e work/results/curves.parquet
check "the workflow goes on" workflow '{tile: 128}' --rerun-incomplete
for name in phenotypes.parquet curves.parquet predictions.parquet model; do
  check "$name as by one job" diff -r "single/$name" "work/results/$name"
done

# Other options: all again, with the tiles that are there.
check "other options" workflow '{tile: 128, no-gate: true}'
check "tiles are kept" grep -q "5 tiles, 5 of them found" work/logs/kernel-1-of-4.log
check "every phenotype is fitted" refuses grep -q not_warranted work/results/phenotypes.tsv
check "and without them" workflow '{tile: 128}'
check "phenotypes.parquet as by one job" cmp single/phenotypes.parquet work/results/phenotypes.parquet
# Exit codes, as Snakemake takes them: 3 is too little memory, and another attempt has more; 1 is wrong input, and is no better for it.
rm -r work/results
cat > bin/counted <<'END'
#!/usr/bin/env bash
code=0
ntkpipe "$@" || code=$?
echo "$1 $code" >> codes
exit $code
END
chmod +x bin/counted
check "too little memory is tried again with more" workflow '{tile: 128}' --config program=counted 'options={tile: 128}' memory_mb=6 --retries 2
check "it was exit code 3" grep -q "^fit 3$" work/codes
check "and then went well" grep -q "^fit 0$" work/codes
check "phenotypes.parquet as by one job" cmp single/phenotypes.parquet work/results/phenotypes.parquet
rm work/codes
check "wrong input stops it" says "Error in rule plan" workflow '{tile: 128, id-column: nobody}' --config program=counted 'options={tile: 128, id-column: nobody}' --retries 1
check "with exit code 1 each time" test "$(sort -u work/codes)" = "plan 1"
check "an unknown key is refused" says "ValidationError" workflow '{tile: 128, threads: 3}' --dry-run
check "an id column that is not there stops it" says "Error in rule" workflow '{tile: 128, id-column: nobody}'
check "and is named in a log" grep -q nobody work/logs/plan.log work/logs/ingest.log

# The wrapper, where the repository of wrappers would have it.
mkdir -p wrapper/prefix/master/bio
cp -r "$here/wrapper/ntkpipe" wrapper/prefix/master/bio/
cp "$here"/wrapper/ntkpipe/test/* wrapper/
check "wrapper" snakemake --directory wrapper --snakefile wrapper/Snakefile --cores 2 --wrapper-prefix "file:$PWD/wrapper/prefix/"
(cd wrapper && ntkpipe run --quiet --features features.csv --phenotypes phenotypes.csv --covariates covariates.csv --alpha 0.01 --out single)
for name in phenotypes.tsv predictions.parquet; do
  check "$name of the wrapper" cmp "wrapper/single/$name" "wrapper/results/$name"
done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
