#!/usr/bin/env python3
"""ntkpipe beside neural-tangents and LAPACK `eigh`: the same cohort, the same stopping times, side by side.

    python benches/compare/compare.py --samples 6000 --features 1000 --phenotypes 50

Run it with an interpreter that has requirements.txt, after `cargo build --release`. Exit code 1 when a t_hat differs by more
than the tolerance. ntkpipe's time is that of its process; the rival's is given twice, and the ratio is of its stages alone, without
the start of the interpreter and the imports, which are no part of the method.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pandas as pd

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import watch


def differences(ours, theirs):
    """Largest relative differences of t_hat and of -log10 p, and phenotypes on whose kind of answer the two disagree."""
    both = ours.merge(theirs, on="phenotype", suffixes=("", "_rival"), validate="one_to_one")
    kind = np.select([np.isinf(both.t_hat_rival), both.t_hat_rival == 0], ["unbounded", "at_zero"], "ok")
    disagree = both.phenotype[(both.status != kind).to_numpy() | (len(both) != len(theirs))]
    fitted = both[(both.status == "ok").to_numpy() & (kind == "ok")]
    relative = lambda column: (fitted[column] / fitted[f"{column}_rival"] - 1).abs().max()
    return relative("t_hat"), relative("neg_log10_p"), len(fitted), list(disagree)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=6000)
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--phenotypes", type=int, default=50)
    parser.add_argument("--precision", choices=("32", "64"), default="64", help="bits of the rival's K")
    parser.add_argument("--ntkpipe", type=pathlib.Path, default=HERE.parents[1] / "target/release/ntkpipe")
    parser.add_argument("--repeats", type=int, default=3,
                        help="runs of ntkpipe, before and after the rival's one; the middle one counts")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative difference of t_hat")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        cohort = folder / "cohort"
        subprocess.run([options.ntkpipe, "simulate", "--quiet", "--out", cohort, "--samples", str(options.samples),
                        "--features", str(options.features), "--phenotypes", str(options.phenotypes),
                        "--masked-share", "0"], check=True)
        tables = ["--features", cohort / "proteins.parquet", "--phenotypes", cohort / "phenotypes.parquet",
                  "--covariates", cohort / "covariates.parquet"]
        runs = []
        for turn in range(options.repeats):
            if turn == options.repeats // 2:  # between ntkpipe's runs, for a shared machine slows down and recovers
                rival = watch.run([sys.executable, HERE / "rival.py", *tables, "--out", folder / "rival",
                                   "--precision", options.precision])
            # Without the gate, for the rival fits every phenotype.
            runs.append(watch.run([options.ntkpipe, "run", "--quiet", "--no-gate", *tables, "--out", folder / f"run{turn}"]))
        ours = sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]
        figures = [stage["figures"] for stage in json.loads((folder / "run0/run.json").read_text())["stages"].values()]
        stages = json.loads((folder / "rival/seconds.json").read_text())
        time, p, n_fitted, disagree = differences(pd.read_parquet(folder / "run0/phenotypes.parquet"),
                                                  pd.read_csv(folder / "rival/phenotypes.csv"))
    n = stages.pop("samples")
    work = sum(seconds for stage, seconds in stages.items() if stage != "import")
    row = lambda name, theirs, mine, unit: [name, f"{theirs:.2f} {unit}", f"{mine:.2f} {unit}", f"{theirs / mine:.1f}"]
    print(f"n = {n} of {options.samples}, p = {options.features}, m = {options.phenotypes}, float{options.precision}\n")
    print(watch.markdown(["", "neural-tangents + eigh", "ntkpipe", "ratio"], [
        row("time, without start and imports", work, ours["seconds"], "s"),
        row("time of the process", rival["seconds"], ours["seconds"], "s"),
        row("peak resident", rival["resident"] / 1e9, ours["resident"] / 1e9, "GB"),
        row("peak anonymous", rival["anonymous"] / 1e9, ours["anonymous"] / 1e9, "GB"),
    ]))
    print("\nrival's seconds: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages.items()))
    print("ntkpipe's runs: " + ", ".join(f"{run['seconds']:.2f} s" for run in runs))
    total = lambda key: sum(stage.get(key, 0) for stage in figures)
    print(f"ntkpipe's passes: {total('passes')}, {total('columns'):,} columns, {total('bytes_read') / 1e9:.2f} GB mapped, "
          f"{total('bytes_written') / 1e9:.2f} GB of tiles written")
    print(f"largest relative difference over {n_fitted} fitted phenotypes: t_hat {time:.1e}, -log10 p {p:.1e}")
    print(f"time ratio {work / ours['seconds']:.1f} (target 20)")
    if disagree or not time <= options.tolerance:
        sys.exit(f"error: t_hat differs by {time:.1e}, expected {options.tolerance:.0e}; another status: {disagree or 'none'}")


if __name__ == "__main__":
    main()
