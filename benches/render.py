#!/usr/bin/env python3
"""Writes the tables of benches/RESULTS.md and the plot benches/trend.svg from benches/records.tsv.

    python benches/render.py            # needs matplotlib
    python benches/render.py --check    # needs nothing else: exit code 1 when the tables are not those of the records

A record is one number: what was measured (`bench`, `case`, `quantity`), with its `value` and `unit`, the `date` and the `commit` measured, and the
`machine`. `change` is `before` or `after` where a pair was measured for a change. A measurement is several records that have all of date, commit,
machine, bench, case and change in common; its `note` stands in its first record.
"""
import csv
import itertools
import pathlib
import re
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
PAGE = FOLDER / "RESULTS.md"
BIG = "n = 49,522, p = 2,923, m = 200, half masked, --memory 2GiB"
NETWORK = "n = 2,000, p = 100, two layers of 500"
# Title, bench, case, quantity, unit of the axis, target, and whether smaller is better.
TRENDS = [
    ("Whole run, 50,000 samples, 200 phenotypes", "whole run", BIG, "wall", "s", None, True),
    ("Memory of that run", "whole run", BIG, "anonymous memory", "GB", None, True),
    ("Kernel stage beside its bare products, n = 50,000", "kernel_stage", "n = 50,000, p = 2,923", "ratio", "×", 1.4, True),
    ("Network, times as fast as the dense rival", "compare_network", NETWORK, "times as fast", "×", 100, False),
    ("Times as fast as neural-tangents and eigh", "compare", "n = 6,000, p = 1,000, m = 50", "times as fast", "×", 20, False),
    ("Build from nothing, processor time", "build", "cargo build --release from nothing", "processors", "s", 400, True),
]


def records():
    """All records, in the order of their dates."""
    with open(FOLDER / "records.tsv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for line, row in enumerate(rows, 2):
        if None in row or None in row.values():
            sys.exit(f"records.tsv: line {line} does not have the header's ten columns")
        try:
            row["number"] = float(row["value"])
        except ValueError:
            sys.exit(f"records.tsv: line {line} has the value `{row['value']}`, which is no number")
        if row["change"] not in ("", "before", "after"):
            sys.exit(f"records.tsv: line {line} has the change `{row['change']}`, which is not `before` or `after` or empty")
    return sorted(rows, key=lambda row: row["date"])


def table(head, rows):
    """Markdown."""
    lines = [[str(cell).replace("|", r"\|") for cell in line] for line in [head, ["---"] * len(head), *rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def of(rows, bench, case, quantity):
    """The records of one quantity."""
    return [row for row in rows if (row["bench"], row["case"], row["quantity"]) == (bench, case, quantity)]


def value(row):
    return f"{row['value']} {row['unit']}".strip()


def is_disturbed(row):
    """Whether the machine was shared or slow."""
    return row["machine"].endswith(("shared", "slow"))


def where(row):
    return f"{row['date']}, {row['commit']}" if row["commit"] else row["date"]


def trends(rows):
    """First, best and last value of what is followed; the best is of a quiet machine."""
    lines = []
    for title, bench, case, quantity, _, target, smaller in TRENDS:
        found = of(rows, bench, case, quantity)
        best = (min if smaller else max)((row for row in found if not is_disturbed(row)), key=lambda row: row["number"])
        cell = lambda row: f"{value(row)} ({where(row)})"
        lines.append([title, cell(found[0]), cell(best), f"{cell(found[-1])}, {found[-1]['machine']}", "" if target is None else target])
    return table(["what", "first", "best", "last", "target"], lines)


def measurements(rows):
    """A table for each bench, one row per measurement."""
    parts = []
    for bench in dict.fromkeys(row["bench"] for row in rows):
        same = ("date", "commit", "machine", "case", "change")
        lines = []
        for key, group in itertools.groupby((row for row in rows if row["bench"] == bench), key=lambda row: [row[name] for name in same]):
            group = list(group)
            date, commit, machine, case, change = key
            values = {}
            for row in group:
                values.setdefault((row["quantity"], row["unit"]), []).append(row["value"])
            shown = "; ".join(f"{quantity} {', '.join(found)} {unit}".strip() for (quantity, unit), found in values.items())
            notes = "; ".join(row["note"] for row in group if row["note"])
            lines.append([date, commit, machine, case, " ".join(filter(None, [change and f"{change}:", shown])), notes])
        parts.append(f"### {bench}\n\n" + table(["date", "commit", "machine", "case", "measured", "note"], lines))
    return "\n\n".join(parts)


def page(rows):
    """RESULTS.md with its tables written anew."""
    text = PAGE.read_text(encoding="utf-8")
    for name, made in (("trends", trends(rows)), ("measurements", measurements(rows))):
        text, count = re.subn(f"<!-- {name} -->.*?<!-- /{name} -->", lambda _: f"<!-- {name} -->\n\n{made}\n\n<!-- /{name} -->", text, flags=re.DOTALL)
        if count != 1:
            sys.exit(f"RESULTS.md has {count} places for `{name}`, expected one: <!-- {name} --> to <!-- /{name} -->")
    return text


def plot(rows):
    """trend.svg: a panel for each quantity that is followed, its measurements from left to right."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "ntkpipe", "svg.fonttype": "none", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False,
                                "legend.frameon": False})
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(10, 5.6))
    for panel, (title, bench, case, quantity, unit, target, _) in zip(panels.flat, TRENDS):
        found = of(rows, bench, case, quantity)
        at = {key: i for i, key in enumerate(dict.fromkeys((row["date"], row["commit"]) for row in found))}
        kinds = {"quiet": ("o", "#0072b2"), "shared or slow": ("o", "white"), "without AMX": ("^", "#d55e00")}
        kind = lambda row: ("without AMX" if "without AMX" in row["machine"] else
                            "shared or slow" if is_disturbed(row) else "quiet")
        for name, (marker, face) in kinds.items():
            some = [row for row in found if kind(row) == name]
            panel.plot([at[row["date"], row["commit"]] for row in some], [row["number"] for row in some], marker, markerfacecolor=face,
                       markeredgecolor="#d55e00" if marker == "^" else "#0072b2", markersize=5, linestyle="none", label=name)
        if target is not None:
            panel.axhline(target, color="#666666", linewidth=0.8, linestyle=":")
            panel.text(0.01, target, f"target {target}", ha="left", va="bottom", color="#666666", fontsize=7, transform=panel.get_yaxis_transform())
        panel.set_title(title, fontsize=8)
        panel.set_ylabel(unit)
        panel.set_ylim(0, 1.12 * max(row["number"] for row in found))
        panel.set_xlim(-0.6, len(at) - 0.4)
        panel.set_xticks(range(len(at)), [f"{date[5:]} {commit}".strip() for date, commit in at], rotation=45, ha="right", fontsize=6)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="lower center", ncols=3, title="machine", title_fontsize=8)
    figure.savefig(FOLDER / "trend.svg", metadata={"Date": None, "Creator": None})


def main():
    rows = records()
    made = page(rows)
    if "--check" in sys.argv[1:]:
        if made != PAGE.read_text(encoding="utf-8"):
            sys.exit("benches/RESULTS.md is not what the records say: run `python benches/render.py`")
        return
    PAGE.write_text(made, encoding="utf-8")
    plot(rows)


if __name__ == "__main__":
    main()
