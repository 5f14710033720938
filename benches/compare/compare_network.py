#!/usr/bin/env python3
"""`ntkpipe run --network` beside the kernel from a dense Jacobian: the same network and phenotype, the same stopping time.

    python benches/compare/compare_network.py --samples 2000 --features 100 --width 500

Run it with an interpreter that has requirements-network.txt, after `cargo build --release`. Exit code 1 when t_hat differs by more than
the tolerance. The fastest of the repeats counts for either; ntkpipe's time is that of its process, the rival's of its stages
without the start of the interpreter and the imports, and of its process.
"""
import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile

import numpy as np
import pandas as pd

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import watch


def cohort(folder, n, p):
    """Writes features of standard normal values and one phenotype, half of it a sum of sines of ten features."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, p))
    signal = np.sin(x[:, :10]).sum(axis=1)
    tables = {"features": x, "phenotypes": (signal / signal.std() + rng.standard_normal(n))[:, None]}
    words = []
    for name, values in tables.items():
        table = pd.DataFrame(values, columns=[f"{name[0]}{j}" for j in range(values.shape[1])])
        table.insert(0, "sample_id", [f"s{i:06d}" for i in range(n)])
        table.to_parquet(folder / f"{name}.parquet", index=False)
        words += [f"--{name}", folder / f"{name}.parquet"]
    return words


def measured(command):
    """As `watch.run`, with the seconds of the processors beside those of the clock."""
    spent = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    before = spent()
    run = watch.run(command)
    return {**run, "processor": spent() - before}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--features", type=int, default=100)
    parser.add_argument("--width", type=int, default=500, help="of each of the two hidden layers")
    parser.add_argument("--ntkpipe", type=pathlib.Path, default=HERE.parents[1] / "target/release/ntkpipe")
    parser.add_argument("--repeats", type=int, default=3, help="runs of either, taking turns")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative difference of t_hat")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        network = folder / "network.safetensors"
        subprocess.run([options.ntkpipe, "network", "init", "--quiet", "--inputs", str(options.features), "--widths",
                        f"{options.width},{options.width}", "--seed", "1", "--out", network], check=True)
        tables = [*cohort(folder, options.samples, options.features), "--network", network]
        ours, theirs = [], []
        for turn in range(options.repeats):
            theirs.append(measured([sys.executable, HERE / "rival_network.py", *tables, "--out", folder / "rival"]))
            theirs[-1]["stages"] = json.loads((folder / "rival/seconds.json").read_text())
            ours.append(measured([options.ntkpipe, "run", "--quiet", "--no-gate", "--no-intercept", "--raw-features",
                                  "--raw-phenotypes", *tables, "--out", folder / f"run{turn}"]))
        mine = pd.read_parquet(folder / "run0/phenotypes.parquet").t_hat[0]
        rival = pd.read_csv(folder / "rival/phenotypes.csv").t_hat[0]
    work = lambda run: sum(seconds for stage, seconds in run["stages"].items() if stage not in ("samples", "import"))
    best = min(theirs, key=work)
    least = lambda runs, key: min(run[key] for run in runs)
    row = lambda name, a, b, unit: [name, f"{a:.2f} {unit}", f"{b:.3f} {unit}", f"{a / b:.1f}"]
    print(f"n = {options.samples}, p = {options.features}, two hidden layers of {options.width}, one phenotype; best of {options.repeats}\n")
    print(watch.markdown(["", "Jacobian + eigh", "ntkpipe", "ratio"], [
        row("time, without start and imports", work(best), least(ours, "seconds"), "s"),
        row("time of the process", least(theirs, "seconds"), least(ours, "seconds"), "s"),
        row("processors, of the process", least(theirs, "processor"), least(ours, "processor"), "s"),
        row("peak resident", least(theirs, "resident") / 1e9, least(ours, "resident") / 1e9, "GB"),
        row("peak anonymous", least(theirs, "anonymous") / 1e9, least(ours, "anonymous") / 1e9, "GB"),
    ]))
    print("\nrival's seconds: " + ", ".join(f"{stage} {value:.2f}" for stage, value in best["stages"].items() if stage != "samples"))
    print("ntkpipe's runs: " + ", ".join(f"{run['seconds']:.2f} s" for run in ours))
    apart = abs(mine / rival - 1)
    print(f"t_hat {mine:.6g}, rival {rival:.6g}: {apart:.1e} apart")
    print("targets: 100 times faster, 20 times less memory")
    if not apart <= options.tolerance:
        sys.exit(f"error: t_hat differs by {apart:.1e}, expected {options.tolerance:.0e}")


if __name__ == "__main__":
    main()
