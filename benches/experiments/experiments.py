#!/usr/bin/env python3
"""The experiments of docs/experiments.md, run with the ntkpipe binary.

    python benches/experiments/experiments.py all --ntkpipe target/release/ntkpipe --out target/experiments
    python benches/experiments/experiments.py c --quick
    python benches/experiments/experiments.py render

a: type I error. b: power. c: prediction at t_hat and at other choices of t. d: gradient descent beside the closed form.
e: where it breaks. f: the level where variances are unequal. g: which architecture. h: real phenotypes, with --mice. Each writes OUT/<letter>.json; a, e and f go on from what it holds, so begin in an empty folder after a change.
`render` makes the figures and the tables of docs/experiments.md from docs/experiments/<letter>.json, with `--from OUT` after copying
the results there. It needs requirements.txt.
"""
import argparse
import importlib
import json
import pathlib
import resource
import shutil
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXPERIMENTS = {"a": "type_one_error", "b": "power", "c": "stopping", "d": "width", "e": "robustness",
               "f": "unequal_variances", "g": "choosing", "h": "mice"}


def processors():
    """Seconds of the processors that this process and the runs it waited for have taken."""
    return sum(sum(resource.getrusage(of)[:2]) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def perform(letter, options):
    """Runs one experiment in a scratch folder and keeps its results and its seconds."""
    started, spent = time.perf_counter(), processors()
    options.out.mkdir(parents=True, exist_ok=True)

    def say(text):
        print(f"{letter} {time.perf_counter() - started:6.0f} s  {text}", file=sys.stderr, flush=True)

    def save(results):
        results = {"quick": options.quick, "seconds": round(time.perf_counter() - started),
                   "processor_seconds": round(processors() - spent), **results}
        partial = options.out / f"{letter}.json.part"
        partial.write_text(json.dumps(results, indent=1, default=float) + "\n")
        partial.rename(options.out / f"{letter}.json")

    def earlier(key, default):
        """What the same experiment left in OUT, when it was as quick or not."""
        path = options.out / f"{letter}.json"
        before = json.loads(path.read_text()) if path.exists() else {"quick": None}
        return before[key] if before["quick"] == options.quick else default

    with tempfile.TemporaryDirectory(dir=options.out) as scratch:
        options.scratch, options.say, options.save, options.earlier = pathlib.Path(scratch), say, save, earlier
        importlib.import_module(EXPERIMENTS[letter]).run(options)
    say("done")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=[*EXPERIMENTS, "all", "render"])
    parser.add_argument("--ntkpipe", type=pathlib.Path, default=ROOT / "target/release/ntkpipe")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target/experiments", help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="few replicates: does it work, within two minutes in all")
    parser.add_argument("--phenotypes", type=int, default=20_000, help="of experiments a, e and f, of pure noise in each cell")
    parser.add_argument("--mice", type=pathlib.Path, help="folder with the three tables of experiment h, which `all` leaves out without it")
    parser.add_argument("--from", dest="source", type=pathlib.Path, help="results that `render` copies to docs/experiments first")
    options = parser.parse_args()
    options.ntkpipe, options.out = options.ntkpipe.resolve(), options.out.resolve()
    if options.what == "render":
        folder = ROOT / "docs/experiments"
        folder.mkdir(exist_ok=True)
        for letter in EXPERIMENTS if options.source else ():
            if (options.source / f"{letter}.json").exists():
                shutil.copy(options.source / f"{letter}.json", folder)
        importlib.import_module("render").render(ROOT / "docs/experiments.md", folder)
        return
    if not options.ntkpipe.exists():
        parser.error(f"no program at `{options.ntkpipe}`; build it, or pass --ntkpipe")
    if options.what == "h" and not options.mice:
        parser.error("h needs --mice")
    every = [letter for letter in EXPERIMENTS if letter != "h" or options.mice]
    for letter in every if options.what == "all" else [options.what]:
        perform(letter, options)


if __name__ == "__main__":
    main()
