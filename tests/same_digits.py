"""Do two builds of ntkpipe give the same digits?

    python3 tests/same_digits.py OLD NEW [--cases DIR] [--out DIR]

Runs both binaries on the README's main job and, with --cases, on the folders `mice`, `ntk_re_a` and `ntk_re_b` of DIR, and compares
`phenotypes.parquet`, `predictions.parquet` and `curves.parquet` value by value. A renamed column is compared under its new name.
Prints one line per table and leaves with 1 where a value differs. What OLD made is kept in --out and not made again.
Needs numpy and pyarrow.
"""

import argparse
import pathlib
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq

RENAMED = {"krylov_steps": "passes"}
TABLES = ["phenotypes.parquet", "predictions.parquet", "curves.parquet"]


def jobs(cases, cohort):
    """Name and arguments of each run."""
    yield "main_job", ["--features", cohort / "proteins.parquet", "--phenotypes", cohort / "phenotypes.parquet",
                       "--covariates", cohort / "covariates.parquet"]
    if cases is None:
        return
    mice = cases / "mice"
    yield "mice", ["--features", mice / "features.parquet", "--phenotypes", mice / "phenotypes.parquet",
                   "--covariates", mice / "covariates.parquet"]
    yield "mice_erf_folds", ["--features", mice / "features.parquet", "--phenotypes", mice / "phenotypes.parquet",
                             "--covariates", mice / "covariates.parquet", "--activation", "erf", "--folds", "3",
                             "--stop", "loo", "--no-gate"]
    for name in ["ntk_re_a", "ntk_re_b"]:
        case = cases / name
        yield name, ["--features", case / "features.parquet", "--phenotypes", case / "phenotypes.parquet",
                     "--network", case / "network.safetensors", "--raw-features", "--raw-phenotypes", "--no-intercept"]


def run(binary, *arguments):
    subprocess.run([binary, *map(str, arguments)], check=True)


def columns(path):
    table = pq.read_table(path)
    return {RENAMED.get(name, name): table.column(name).to_pylist() for name in table.column_names}


def difference(old, new):
    """What differs between two columns, or None."""
    if len(old) != len(new):
        return f"{len(old)} rows and {len(new)}"
    rows = [i for i, (a, b) in enumerate(zip(old, new)) if not (a == b or (a != a and b != b))]
    if not rows:
        return None
    numbers = [(old[i], new[i]) for i in rows if isinstance(old[i], float) and isinstance(new[i], float)]
    size = max((abs(a - b) / max(abs(a), abs(b)) for a, b in numbers), default=np.inf)
    return f"{len(rows)} of {len(old)} values differ, by up to {size:.1e} of their size, row {rows[0]} first: {old[rows[0]]} and {new[rows[0]]}"


def compare(old, new):
    """Whether a table is the same; prints how it stands."""
    same = True
    old_columns, new_columns = columns(old), columns(new)
    for name in sorted(old_columns.keys() | new_columns.keys()):
        if name not in old_columns or name not in new_columns:
            print(f"  {new.name}: column {name} only in the {'new' if name in new_columns else 'old'} one")
            same &= name in new_columns
            continue
        if said := difference(old_columns[name], new_columns[name]):
            print(f"  {new.name}: {name}: {said}")
            same = False
    return same


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="the binary before")
    parser.add_argument("new", help="the binary after")
    parser.add_argument("--cases", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/same_digits"))
    options = parser.parse_args()
    cohort = options.out / "cohort"
    if not cohort.exists():
        run(options.old, "simulate", "--quiet", "--out", cohort, "--samples", 5000, "--features", 500, "--phenotypes", 40)
    same = True
    for name, arguments in jobs(options.cases, cohort):
        folders = [options.out / "old" / name, options.out / "new" / name]
        for binary, folder in zip([options.old, options.new], folders):
            if binary == options.new or not (folder / "report.html").exists():
                run(binary, "run", "--quiet", "--force", *arguments, "--out", folder)
        # Out-of-fold predictions are not a result of every run: they are compared where the old build made them.
        for table in [*TABLES, "predictions_oof.parquet"]:
            old, new = folders[0] / table, folders[1] / table
            if table in TABLES or old.exists():
                is_same = old.exists() and new.exists() and compare(old, new)
                print(f"{name}: {table}: {'the same' if is_same else 'DIFFERENT'}", flush=True)
                same &= is_same
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
