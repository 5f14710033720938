#!/usr/bin/env python3
"""How time and memory of a whole `run` grow with the number of samples.

    python benches/growth.py 6250 12500 25000 50000
    python benches/growth.py 1500 3000 --features 300 --phenotypes 20 --cgroup 3G

Run it after `cargo build --release`; it needs Python 3.9 and nothing else. For each size a cohort is simulated, half of its
phenotypes with masks of their own, and analysed in an empty run directory. Prints a markdown table and, for each stage, the
slope of log seconds on log samples (target: at most 2.1 for the kernel and the stages that pass over it).
"""
import argparse
import json
import math
import pathlib
import shutil
import subprocess

import watch

ROOT = pathlib.Path(__file__).resolve().parents[1]
STAGES = ("ingest", "kernel", "spectrum", "fit", "predict")


def memory_cgroup(limit):
    """A new cgroup, version 2 or 1, whose processes share `limit` bytes of memory, or why there is none."""
    mounts = [line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    second = next((pathlib.Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)
    first = next((pathlib.Path(words[1]) for words in mounts if words[2] == "cgroup" and "memory" in words[3].split(",")), None)
    try:
        if first:
            folder = first / "ntkpipe-growth"
            folder.mkdir(exist_ok=True)
            (folder / "memory.limit_in_bytes").write_text(limit)
            return folder, None
        if second is None:
            return None, "no cgroup with a memory controller is mounted"
        lines = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
        own = next((line[3:] for line in lines if line.startswith("0::")), "/")
        # A cgroup with processes of its own passes no controller on, so the new one stands beside ours.
        parent = (second / own.strip("/")).parent if own != "/" else second
        if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
            return None, f"`{parent}` passes no memory controller on"
        folder = parent / "ntkpipe-growth"
        folder.mkdir(exist_ok=True)
        (folder / "memory.max").write_text(limit)
        if (folder / "memory.swap.max").exists():
            (folder / "memory.swap.max").write_text("0")
    except OSError as error:
        return None, str(error)
    return folder, None


def measure(n, options, cgroup):
    """One size: simulate, run, read run.json; returns what the table shows."""
    folder = options.folder / f"growth-{n}"
    shutil.rmtree(folder, ignore_errors=True)
    cohort, results = folder / "cohort", folder / "results"
    try:
        subprocess.run([options.ntkpipe, "simulate", "--quiet", "--out", cohort, "--samples", str(n), "--features",
                        str(options.features), "--phenotypes", str(options.phenotypes), "--masked-share", "0.5"], check=True)
        run = watch.run([options.ntkpipe, "run", "--quiet", "--features", cohort / "proteins.parquet",
                         "--phenotypes", cohort / "phenotypes.parquet", "--covariates", cohort / "covariates.parquet",
                         "--memory", options.memory, "--out", results], cgroup)
        record = json.loads((results / "run.json").read_text())
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    # The test runs within the fit and its seconds are part of the fit's.
    assert record["stages"]["test"]["figures"].get("with") == "fit", "the test no longer runs within the fit: add its seconds"
    stages = {name: record["stages"][name] for name in STAGES}
    total = lambda key: sum(stage["figures"].get(key, 0) for stage in stages.values())
    return {
        "samples": record["samples"]["kernel_samples"],
        "seconds": {name: stage["seconds"] for name, stage in stages.items()},
        "fit_columns": stages["fit"]["figures"]["columns"],
        "passes": total("passes"), "columns": total("columns"),
        "read": total("bytes_read"), "written": total("bytes_written"), **{key: run[key] for key in ("anonymous", "resident")},
        "wall": run["seconds"], "estimate": sum(record["plan"]["seconds"].values()),
    }


def slope(samples, values):
    """Least-squares slope of log values on log samples."""
    x, y = [math.log(n) for n in samples], [math.log(max(value, 1e-9)) for value in values]
    centre = sum(x) / len(x)
    return sum((a - centre) * b for a, b in zip(x, y)) / sum((a - centre) ** 2 for a in x)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", type=int, nargs="*", default=[6250, 12500, 25000, 50000])
    parser.add_argument("--features", type=int, default=2923)
    parser.add_argument("--phenotypes", type=int, default=200)
    parser.add_argument("--memory", default="2GiB", help="as for `ntkpipe run`")
    parser.add_argument("--cgroup", metavar="LIMIT",
                        help="run in a cgroup with this much memory, such as 3G, where one can be made")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "target/growth", help="on a disk with 2 n^2 bytes to spare")
    parser.add_argument("--keep", action="store_true", help="keep cohorts and run directories")
    parser.add_argument("--ntkpipe", type=pathlib.Path, default=ROOT / "target/release/ntkpipe")
    options = parser.parse_args()
    cgroup, reason = memory_cgroup(options.cgroup) if options.cgroup else (None, None)
    if reason:
        print(f"No cgroup limited to {options.cgroup}: {reason}. The runs below are without a limit; try again under\n"
              f"`systemd-run --user --scope -p MemoryMax={options.cgroup} -p MemorySwapMax=0 python benches/growth.py ...`.\n")
    elif cgroup:
        print(f"Each run in a cgroup limited to {options.cgroup}.\n")
    try:
        measured = [measure(n, options, cgroup) for n in options.sizes]
    finally:
        if cgroup:
            cgroup.rmdir()
    print(f"p = {options.features}, m = {options.phenotypes}, half with masks of their own, --memory {options.memory}\n")
    rows = [[f"{m['samples']:,}", f"{m['wall']:.1f}", f"{m['estimate']:.1f}", *(f"{m['seconds'][name]:.2f}" for name in STAGES), str(m["passes"]),
             f"{m['columns']:,}", f"{m['read'] / 1e9:.2f} GB", f"{m['written'] / 1e9:.2f} GB", f"{m['anonymous'] / 1e9:.2f} GB",
             f"{m['resident'] / 1e9:.2f} GB"]
            for m in measured]
    head = ["n", "wall s", "estimated s", *STAGES[:3], "test and fit", "predict", "passes", "columns", "mapped", "tiles", "anonymous", "resident"]
    print(watch.markdown(head, rows))
    samples = [m["samples"] for m in measured]
    if len(set(samples)) > 1:
        # Masked phenotypes need more or fewer passes from size to size; a column's time does not depend on how many.
        series = {**{name: [m["seconds"][name] for m in measured] for name in STAGES},
                  "fit, a column": [m["seconds"]["fit"] / m["fit_columns"] for m in measured],
                  "wall": [m["wall"] for m in measured], "anonymous memory": [m["anonymous"] for m in measured]}
        print("\n" + watch.markdown(["", "log-log slope"], [[name, f"{slope(samples, v):.2f}"] for name, v in series.items()]))


if __name__ == "__main__":
    main()
