#!/bin/bash
set -euo pipefail

export CARGO_PROFILE_RELEASE_STRIP=symbols
cargo-bundle-licenses --format yaml --output THIRDPARTY.yml
cargo install --locked --no-track --root "$PREFIX" --path .

mkdir -p "$PREFIX/share/bash-completion/completions" "$PREFIX/share/zsh/site-functions" "$PREFIX/share/fish/vendor_completions.d" "$PREFIX/share/man/man1"
"$PREFIX/bin/ntkpipe" completions bash > "$PREFIX/share/bash-completion/completions/ntkpipe"
"$PREFIX/bin/ntkpipe" completions zsh > "$PREFIX/share/zsh/site-functions/_ntkpipe"
"$PREFIX/bin/ntkpipe" completions fish > "$PREFIX/share/fish/vendor_completions.d/ntkpipe.fish"
"$PREFIX/bin/ntkpipe" man > "$PREFIX/share/man/man1/ntkpipe.1"
for command in run ingest kernel spectrum test fit predict cross-validate report train network simulate status plan init schema; do
  "$PREFIX/bin/ntkpipe" man "$command" > "$PREFIX/share/man/man1/ntkpipe-$command.1"
done
