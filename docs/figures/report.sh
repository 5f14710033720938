#!/usr/bin/env bash
# Draws docs/figures/report.png: the beginning of the report of the README's main job, as a browser shows it.
#
#     docs/figures/report.sh [target/results]
#
# Run it after the README's main job. It needs Chromium (another one in NTKPIPE_CHROMIUM).
set -euo pipefail
results=$(realpath "${1:-target/results}")
cd "$(dirname "$0")"
test -f "$results/report.html" || { echo "no report.html in \`$results\`: run the README's main job first" >&2; exit 1; }
profile=$(mktemp -d)
trap 'rm -r "$profile"' EXIT
"${NTKPIPE_CHROMIUM:-chromium}" --headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars --user-data-dir="$profile" \
  --virtual-time-budget=2000 --window-size=1180,1290 --screenshot="$PWD/report.png" "file://$results/report.html" 2>/dev/null
size=$(stat -c %s report.png)
test "$size" -le 200000 || { echo "report.png has $size bytes, more than 200,000: take a smaller window" >&2; exit 1; }
