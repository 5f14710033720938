"""Snakemake wrapper of `ntkpipe run`."""

__author__ = "The ntkpipe authors"
__license__ = "MIT"

import shlex
from pathlib import Path

from snakemake.shell import shell

folders = {str(Path(path).parent) for path in snakemake.output}
if len(folders) != 1:
    raise ValueError(
        f"outputs in {len(folders)} folders, expected one, the run directory: {sorted(folders)}"
    )

names = ["features", "phenotypes", "covariates", "keep", "remove", "network"]
options = [(name, snakemake.input.get(name)) for name in names]
options += [("out", folders.pop()), ("threads", snakemake.threads)]
memory = snakemake.resources.get("mem_mb")
if memory:
    options.append(("memory", f"{int(0.8 * memory)}MB"))
flags = " ".join(
    shlex.quote(f"--{name}={value}") for name, value in options if value
)
extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=True, stderr=True)

shell("ntkpipe run {flags} {extra} {log}")
