#!/usr/bin/env python3
"""What a run of half a million people would take on a cluster, from rates measured on a smaller one, by simulating its jobs.

    python benches/scaling.py measure                     # minutes, 5.5 GB of disk for tiles: simulates a cohort, runs it in shards, leaves docs/scaling.json
    python benches/scaling.py check                       # the measured run by its own rates, beside what it took
    python benches/scaling.py plan --samples 500000 --features 2923 --phenotypes 1000 --nodes 8

`measure` wants `cargo build --release` before it and nothing else at work beside it. Python 3.9 and nothing else.
"""
import argparse
import heapq
import json
import math
import pathlib
import random
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
RATES = ROOT / "docs/scaling.json"
TILE_BYTES = 4
PROBES, PASSES = 64, 8
# A node of the plan: cores as fast as those measured, memory, and what it and the file system can move, in bytes per second.
NODE = {"cores": 32, "memory": 256e9, "network": 3.1e9}
FILE_SYSTEM = 40e9


def tile_side(n):
    return min(max(2 ** math.ceil(math.log2(max(n // 8, 1))), 256), 2048)


def n_tiles(n):
    side = math.ceil(n / tile_side(n))
    return side * (side + 1) // 2


def kernel_bytes(n):
    return n_tiles(n) * tile_side(n) ** 2 * TILE_BYTES


def measure(options):
    """Rates of a core: a simulated cohort run in shards, one after the other, and some tiles of one thread."""
    cohort, run = options.folder / "cohort", options.folder / "run"
    shutil.rmtree(options.folder, ignore_errors=True)
    subprocess.run([options.ntkpipe, "simulate", "--quiet", "--out", cohort, "--samples", str(options.samples), "--features", str(options.features),
                    "--phenotypes", str(options.phenotypes), "--masked-share", "0.5"], check=True)
    tables = [f"--{name}={cohort / file}.parquet" for name, file in (("features", "proteins"), ("phenotypes", "phenotypes"), ("covariates", "covariates"))]
    took = {}

    def job(name, stage, *words, threads=options.threads):
        """Runs a job of the run; what its log says of itself when it is done."""
        begun = time.monotonic()
        done = subprocess.run([options.ntkpipe, stage, *words, "--out", run, "--threads", str(threads), "--log-format", "json"],
                              check=True, stderr=subprocess.PIPE, text=True)
        took[name] = time.monotonic() - begun
        print(f"{name}: {took[name]:.1f} s", file=sys.stderr)
        events = map(json.loads, done.stderr.splitlines())
        return next(line for line in events if line.get("event") == "done" and line["stage"] == stage)

    job("ingest", "ingest", *tables)
    # When each tile of one thread was finished; then the shards make all tiles anew.
    job("one-thread", "kernel", "--shard", "1/12", threads=1)
    tiles = sorted(path.stat().st_mtime_ns / 1e9 for path in (run / "kernel.zarr").glob("c/*/*"))
    for folder in (run / "kernel.zarr", run / "shards"):
        shutil.rmtree(folder)
    shards = range(1, options.shards + 1)
    for i in shards:
        job(f"kernel-{i}", "kernel", "--shard", f"{i}/{options.shards}")
    job("kernel", "kernel", "--join-shards")
    job("spectrum", "spectrum")
    fits = [job(f"fit-{i}", "fit", "--shard", f"{i}/{options.shards}") for i in shards]
    job("fit", "fit", "--join-shards")
    predicted = job("predict", "predict")
    job("report", "report")
    n = json.loads((run / "run.json").read_text())["stages"]["kernel"]["figures"]["samples"]
    shutil.rmtree(options.folder)
    return {
        "samples": n, "features": options.features, "phenotypes": options.phenotypes, "threads": options.threads, "tile": tile_side(n),
        "seconds": {name: round(seconds, 3) for name, seconds in took.items()},
        "tile_seconds": [round(after - before, 4) for before, after in zip(tiles, tiles[1:])],
        "fits": [{"seconds": round(took[f"fit-{i}"], 3), "passes": it["passes"], "columns": it["columns"]} for i, it in zip(shards, fits)],
        "predicted_columns": predicted["columns"],
    }


class Rates:
    """Seconds of a core for each kind of work, of the machine that was measured."""

    def __init__(self, measured):
        m = self.measured = measured
        n, p = m["samples"], m["features"]
        self.value = m["seconds"]["ingest"] * m["threads"] / (n * p)
        # A tile of the kernel: products in proportion to the features, the recursion and writing as they are; here p is what it was.
        self.tiles = [seconds / m["tile"] ** 2 for seconds in m["tile_seconds"]]
        # A pass: one column and entry; what a shard of the fit takes beyond that is its phenotypes' own.
        column = lambda seconds, columns: seconds * m["threads"] / (columns * n * n)
        self.column = column(m["seconds"]["spectrum"], PROBES * PASSES)
        columns = sum(fit["columns"] for fit in m["fits"])
        self.fitted = column(sum(fit["seconds"] for fit in m["fits"]), columns)
        self.columns_a_phenotype = columns / m["phenotypes"]
        self.passes = max(fit["passes"] for fit in m["fits"])
        self.predicted = column(m["seconds"]["predict"], m["predicted_columns"])
        self.trained = m["predicted_columns"] / m["phenotypes"]


def jobs(rates, n, p, phenotypes, kernel_shards, fit_shards, cores, seed=1):
    """The jobs of a run: name, those it waits for, seconds on the cores of a node, bytes read and written, bytes of memory."""
    draw = random.Random(seed)
    entries = tile_side(n) ** 2
    tiles, kernel = n_tiles(n), kernel_bytes(n)
    features, scale = 4 * n * p, p / rates.measured["features"]
    made = [("ingest", [], n * p * rates.value / cores, 4 * n * p, features, 2e9)]
    for i in range(kernel_shards):
        mine = tiles * (i + 1) // kernel_shards - tiles * i // kernel_shards
        # Tiles go to the core that is free first.
        free = [0.0] * cores
        for _ in range(mine):
            heapq.heappush(free, heapq.heappop(free) + draw.choice(rates.tiles) * entries * scale)
        # A strip of tiles reads the features once: 4 to 8 rows of tiles a strip.
        reads = features * max(1, math.ceil(mine / max(1, n / tile_side(n)) / 4))
        made.append((f"kernel-{i}", ["ingest"], max(free), reads, mine * entries * TILE_BYTES, cores * entries * TILE_BYTES + 5e8))
    kernels = [name for name, *_ in made[1:]]
    made.append(("kernel", kernels, tiles * 2e-5, 0, 0, 1e8))
    square = float(n) * n
    space = PROBES * PASSES * n * 4
    made.append(("spectrum", ["kernel"], PROBES * PASSES * square * rates.column / cores, PASSES * kernel, space, 2 * space))
    for i in range(fit_shards):
        columns = rates.columns_a_phenotype * phenotypes / fit_shards
        block = phenotypes / fit_shards * 60 * n * 4
        made.append((f"fit-{i}", ["spectrum"], columns * square * rates.fitted / cores, (rates.passes + 1) * kernel, phenotypes / fit_shards * n * 4, space * 2 + block))
    made.append(("fit", [name for name, *_ in made if name.startswith("fit-")], 1.0, 0, 0, 1e9))
    columns = rates.trained * phenotypes
    made.append(("predict", ["fit"], columns * square * rates.predicted / cores, kernel, phenotypes * n * 8, columns * n * 8))
    return made


def simulate(made, nodes, network, file_system, memory, kernel):
    """Runs the jobs on nodes, each alone on one, bytes at the node's and the file system's rate; start and end of each.

    Reading goes on beside computing: a job takes the longer of the two. A node that holds all tiles in its memory reads them once.
    """
    waiting, ended, running, clock, times = list(made), {}, [], 0.0, {}
    while waiting or running:
        ready = [job for job in waiting if all(name in ended for name in job[1])]
        started = ready[: nodes - len(running)]
        together = max(1, len(running) + len(started))
        for job in started:
            waiting.remove(job)
            name, _, seconds, read, written, needed = job
            if kernel < memory - needed and read > kernel:
                read = kernel
            rate = min(network, file_system / together)
            moving = (read + written) / rate
            heapq.heappush(running, (clock + max(seconds, moving), name))
            times[name] = (clock, max(seconds, moving), seconds, moving, read, written, needed)
        clock, name = heapq.heappop(running)
        ended[name] = clock
    return times, clock


def stages(times):
    """One line per stage: its jobs, from its first start to its last end, the longest job's computing and moving, bytes, memory."""
    found = {}
    for name, it in times.items():
        found.setdefault(name.split("-")[0] + ("-shards" if "-" in name else ""), []).append(it)
    for stage, of in found.items():
        wall = max(start + took for start, took, *_ in of) - min(start for start, *_ in of)
        yield stage, len(of), wall, max(it[2] for it in of), max(it[3] for it in of), sum(it[4] for it in of), sum(it[5] for it in of), max(it[6] for it in of)


def table(rows):
    print("| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]))
    for row in rows[1:]:
        print("| " + " | ".join(row) + " |")


def check(rates):
    """The measured run on one such machine, its jobs one after the other, by its own rates."""
    m = rates.measured
    shards = len(m["fits"])
    made = jobs(rates, m["samples"], m["features"], m["phenotypes"], shards, shards, m["threads"])
    times, wall = simulate(made, 1, 1e12, 1e12, 1e12, 0)
    rows = [["stage", "simulated s", "measured s"]]
    for stage, _, seconds, *_ in stages(times):
        name = stage.replace("-shards", "")
        measured = sum(s for key, s in m["seconds"].items() if (key.startswith(name + "-") if stage.endswith("-shards") else key == name))
        rows.append([stage, f"{seconds:.1f}", f"{measured:.1f}"])
    table(rows)
    print(f"\nin all: simulated {wall:.0f} s, measured {sum(m['seconds'].get(k, 0) for k in m['seconds'] if k not in ('report', 'one-thread')):.0f} s")


def plan(rates, options):
    n, p, nodes = options.samples, options.features, options.nodes
    fit_shards = options.fit_shards or nodes
    made = jobs(rates, n, p, options.phenotypes, nodes, fit_shards, options.cores)
    times, wall = simulate(made, nodes, options.network * 1e9, options.file_system * 1e9, options.memory * 1e9, kernel_bytes(n))
    print(f"n = {n:,}, p = {p:,}, m = {options.phenotypes:,}: {n_tiles(n):,} tiles of {tile_side(n)}, {kernel_bytes(n) / 1e9:,.0f} GB, "
          f"{float(n) * n / 2 * p:.1e} multiply-adds of the kernel; {nodes} nodes of {options.cores} cores, {options.memory:.0f} GB, "
          f"{options.network:.1f} GB/s each, file system {options.file_system:.0f} GB/s\n")
    rows = [["stage", "jobs", "wall", "a job computes", "a job moves", "read, all", "written, all", "memory a job"]]
    minutes = lambda seconds: f"{seconds / 60:.1f} min"
    for stage, count, took, seconds, moving, read, written, needed in stages(times):
        rows.append([stage, str(count), minutes(took), minutes(seconds), minutes(moving), f"{read / 1e12:.2f} TB", f"{written / 1e12:.2f} TB", f"{needed / 1e9:.1f} GB"])
    table(rows)
    print(f"\nin all {minutes(wall)}, without waiting in queues")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", type=pathlib.Path, default=RATES)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    one.add_argument("--samples", type=int, default=50_000)
    one.add_argument("--features", type=int, default=2923)
    one.add_argument("--phenotypes", type=int, default=200)
    one.add_argument("--threads", type=int, default=2)
    one.add_argument("--shards", type=int, default=4)
    one.add_argument("--folder", type=pathlib.Path, default=ROOT / "target/scaling", help="made anew, removed in the end")
    one.add_argument("--ntkpipe", type=pathlib.Path, default=ROOT / "target/release/ntkpipe")
    one.add_argument("--out", type=pathlib.Path, default=RATES)
    commands.add_parser("check")
    one = commands.add_parser("plan")
    one.add_argument("--samples", type=int, default=500_000)
    one.add_argument("--features", type=int, default=2923)
    one.add_argument("--phenotypes", type=int, default=1000)
    one.add_argument("--nodes", type=int, default=8)
    one.add_argument("--fit-shards", type=int, help="jobs of the fit [default: as many as nodes]")
    one.add_argument("--cores", type=int, default=NODE["cores"])
    one.add_argument("--memory", type=float, default=NODE["memory"] / 1e9, help="GB of a node")
    one.add_argument("--network", type=float, default=NODE["network"] / 1e9, help="GB/s of a node")
    one.add_argument("--file-system", type=float, default=FILE_SYSTEM / 1e9, help="GB/s of all together")
    options = parser.parse_args()
    if options.command == "measure":
        options.out.write_text(json.dumps(measure(options), indent=1) + "\n")
        return
    rates = Rates(json.loads(options.rates.read_text()))
    check(rates) if options.command == "check" else plan(rates, options)


if __name__ == "__main__":
    main()
