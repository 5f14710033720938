"""Tables and figures of docs/experiments.md from the results beside them."""
import json
import re
import statistics

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "ntkpipe", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
                            "axes.spines.right": False, "legend.frameon": False})

import matplotlib.pyplot as plt

TESTS = {"robust": "robust", "gaussian": "Gaussian", "Satterthwaite": "Satterthwaite"}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#666666")


def table(head, rows):
    """Markdown."""
    lines = [[str(cell).replace("|", r"\|") for cell in line] for line in [head, ["---"] * len(head), *rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def distinct(rows, *keys):
    """The values, or tuples of values, of `keys`, in their order."""
    return list(dict.fromkeys(tuple(row[key] for key in keys) if len(keys) > 1 else row[keys[0]] for row in rows))


def pick(rows, **wanted):
    """The one row that has these values."""
    (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return row


def plus(value, error, digits=3):
    """value ± standard error."""
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def keep(figure, path):
    """Writes an SVG without a date, so that the same results give the same bytes."""
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def type_one_error(results, folder):
    rows, levels = results["rows"], distinct(results["rows"], "level")
    cell = lambda row: f"{row['found']:,}: {row['share']:.2g} ({row['low']:.2g} to {row['high']:.2g})"
    tail = results["tail"]
    far = table(["kernel", "test", *(f"share {share:g}" for share in distinct(tail, "share"))], [
        [kernel, TESTS[test], *(f"{pick(tail, kernel=kernel, share=share)[test]:.1f}" for share in distinct(tail, "share"))]
        for kernel in distinct(tail, "kernel") for test in TESTS])
    return table(["kernel", "noise", "test", "phenotypes", *(f"p < {level:g}" for level in levels)], [
        [*key[:2], TESTS[key[2]], f"{pick(rows, kernel=key[0], noise=key[1], test=key[2], level=levels[0])['phenotypes']:,}",
         *(cell(pick(rows, kernel=key[0], noise=key[1], test=key[2], level=level)) for level in levels)]
        for key in distinct(rows, "kernel", "noise", "test")]) + (
        f"\n\n−log10 p of one phenotype each with a linear signal of this share of the variance:\n\n{far}")


def power(results, folder):
    rows = [row for row in results["rows"] if row["n"] != 600]
    paper = [row for row in results["rows"] if row["n"] == 600]
    sizes, tests = sorted(set(distinct(rows, "n"))), ("infinite width, robust", "infinite width, gaussian", "width 500, robust", "width 500, gaussian", "linear F test")
    tables = []
    for level in distinct(rows, "level"):
        at = lambda test, truth, share, n: pick(rows, test=test, truth=truth, share=share, n=n, level=level)["power"]
        tables.append(f"Share of p < {level:g}: infinite width, robust / Gaussian; width 500, robust / Gaussian; F test of linear regression.\n\n" + table(
            ["truth", "signal share", *(f"n = {n}" for n in sizes)],
            [[truth, share, *("{:.2f} / {:.2f}; {:.2f} / {:.2f}; {:.2f}".format(*(at(test, truth, share, n) for test in tests)) for n in sizes)]
             for truth, share in distinct(rows, "truth", "share")]))
    if paper:
        shares = [f"{row['test']} {row['power']:.3f} at {row['level']:g}" for row in paper]
        tables.append(f"The paper's design (`simple` as it stands, n = 600, noise of standard deviation 0.5; the signal is "
                      f"{paper[0]['share']:.0%} of the variance), {paper[0]['phenotypes']:,} phenotypes: " + ", ".join(shares) + ".")
    figure, panels = plt.subplots(1, 3, figsize=(7.5, 2.6), sharey=True)
    for panel, truth in zip(panels, distinct(rows, "truth")):
        shares = distinct(rows, "share")
        for n, colour in zip(sizes, COLOURS):
            for test, style in (("infinite width, robust", "-"), ("linear F test", ":")):
                of = [pick(rows, test=test, truth=truth, share=share, n=n, level=0.05) for share in shares]
                panel.plot(shares, [row["power"] for row in of], style, color=colour, lw=1.4,
                           label=f"n = {n}" if style == "-" else None)
                if style == "-":
                    panel.fill_between(shares, [row["low"] for row in of], [row["high"] for row in of], color=colour, alpha=0.2, lw=0)
        panel.set(title=truth, xlabel="signal share", xscale="log", xticks=shares, xticklabels=shares)
        panel.minorticks_off()
    panels[0].set_ylabel("power at 0.05")
    panels[0].legend()
    keep(figure, folder / "power.svg")
    return "\n\n".join([*tables, "![Power against signal share](experiments/power.svg)\n\n"
                        "Solid: robust test at infinite width, with 95 % intervals; dotted: F test of linear regression."])


def stopping(results, folder):
    rows = results["rows"]
    choices = [choice for choice in distinct(rows, "choice") if choice != "oracle"]
    cells = distinct(rows, "design", "n")
    at = lambda design, n, choice: pick(rows, design=design, n=n, choice=choice)

    def ratios(key):
        best = "best error" if key == "error" else "best error on outcomes"
        return table(["design", "n", *choices, best], [
            [design, n, *(plus(at(design, n, choice)[f"{key}_ratio"], at(design, n, choice)[f"{key}_ratio_se"]) for choice in choices),
             plus(at(design, n, "oracle")[key], at(design, n, "oracle")[f"{key}_se"], 4)] for design, n in cells])

    training = table(["design", "n", *choices, "best t"], [
        [design, n, *(plus(at(design, n, choice)["training"], at(design, n, choice)["training_se"]) for choice in [*choices, "oracle"])]
        for design, n in cells])
    figure, panels = plt.subplots(1, len(distinct(rows, "design")), figsize=(7.5, 2.7), sharey=True)
    for panel, design in zip(panels, distinct(rows, "design")):
        for choice, colour in zip(choices, COLOURS):
            of = [at(design, n, choice) for n in distinct(rows, "n")]
            panel.errorbar([row["n"] for row in of], [row["error_ratio"] for row in of], [1.96 * row["error_ratio_se"] for row in of],
                           color=colour, lw=1.3, label=choice)
        panel.axhline(1, color="#bbbbbb", lw=0.8, zorder=0)
        panel.set(title=design, xlabel="n", xscale="log", yscale="log", xticks=distinct(rows, "n"), xticklabels=distinct(rows, "n"),
                  yticks=[1, 1.5, 2, 3, 5, 10, 20], yticklabels=[1, 1.5, 2, 3, 5, 10, 20], ylim=(0.95, 35))
        panel.minorticks_off()
    panels[0].set_ylabel("E / min E")
    panels[-1].legend(fontsize=7)
    keep(figure, folder / "stopping.svg")
    return (f"E / min E against the truth, ± standard error, {rows[0]['replicates']} replicates:\n\n{ratios('error')}\n\n"
            f"The same against new outcomes, noise included:\n\n{ratios('outcome')}\n\n"
            f"Training error (mean squared residual):\n\n{training}\n\n"
            "![E / min E against n](experiments/stopping.svg)\n\n"
            f"Bars: 95 %. `t_hat` of ntkpipe was at most {results['t_hat_apart']:.1e} (relative) from that of the dense formula.")


def width(results, folder):
    rows, widths = results["rows"], distinct(results["rows"], "width")
    keys = ("train_flow", "test_flow", "train_descent", "test_descent")
    of = lambda w, key: [row[key] for row in rows if row["width"] == w]
    mean = lambda w, key: statistics.fmean(of(w, key))
    spread = lambda w, key: statistics.stdev(of(w, key)) / len(of(w, key)) ** 0.5
    lines = [[w, len(of(w, "seed")), *(plus(mean(w, key), spread(w, key), 4) for key in keys),
              *(f"{mean(w, f'{part}_error_network'):.4f} / {mean(w, f'{part}_error_closed'):.4f}" for part in ("train", "test"))]
             for w in widths]
    lines.append(["slope", "", *(f"{results['slopes'][key]:.2f}" for key in keys), "", ""])
    figure, panel = plt.subplots(figsize=(3.6, 2.7))
    for key, label, colour in (("train_flow", "train", COLOURS[0]), ("test_flow", "test", COLOURS[1])):
        panel.plot([row["width"] for row in rows], [row[key] for row in rows], ".", color=colour, ms=4, alpha=0.5)
        panel.plot(widths, [mean(w, key) for w in widths], color=colour, label=label)
    start = mean(widths[0], "train_flow")
    panel.plot(widths, [start * (w / widths[0]) ** -0.5 for w in widths], "--", color="#999999", lw=1, label="slope −1/2")
    panel.set(xlabel="width", ylabel="relative distance", xscale="log", yscale="log", xticks=widths, xticklabels=widths)
    panel.minorticks_off()
    panel.legend()
    keep(figure, folder / "width.svg")
    return (table(["width", "networks", "train, to the flow", "test, to the flow", "train, to the descent's closed form",
                   "test, to the descent's closed form", "training error, network / flow", "test error, network / flow"], lines)
            + "\n\n![Distance against width](experiments/width.svg)")


def robustness(results, folder):
    rows = results["rows"]
    interval = lambda of: f"{of[0]:.3g} ({of[1]:.2g} to {of[2]:.2g})"
    levels = list(rows[0]["type I"]["robust"])
    choices = [row["choice"] for row in rows[0]["prediction"] if row["choice"] != "oracle"]
    lines = []
    for row in rows:
        coverage = f"{interval(row['coverage'])}; {row['median_time_ratio']:.2f}" if "coverage" in row else "–"
        lines += [[row["departure"] if test == "robust" else "", TESTS[test], *(interval(row["type I"][test][level]) for level in levels),
                   coverage if test == "robust" else ""] for test in ("robust", "gaussian")]
    ratios = [[row["departure"], *(plus(of["error_ratio"], of["error_ratio_se"], 2) for of in row["prediction"] if of["choice"] != "oracle"),
               *(plus(of["outcome_ratio"], of["outcome_ratio_se"], 3) for of in row["prediction"] if of["choice"] in ("REML", "LOO")),
               f"{row['at_zero']}, {row['unbounded']}"] for row in rows]
    return (f"{rows[0]['nulls']:,} null phenotypes each; coverage over {rows[0]['drawn']:,} drawn from the model:\n\n"
            + table(["departure", "test", *(f"p < {level}" for level in levels), "coverage of the 95 % interval; median t_hat / t"], lines)
            + f"\n\nE / min E against the truth (for binary outcomes, the probability), ± standard error, {rows[0]['prediction'][0]['replicates']} "
              "replicates:\n\n"
            + table(["departure", *choices, "REML, on new outcomes", "LOO, on new outcomes", "t_hat 0, infinite"], ratios))


def unequal_variances(results, folder):
    rows, levels = results["rows"], distinct(results["rows"], "level")
    cell = lambda row: f"{row['share']:.3g} ({row['low']:.2g} to {row['high']:.2g})"
    of = lambda key, level: pick(rows, samples=key[0], features=key[1], noise=key[2], test=key[3], level=level)
    return table(["n, p", "noise", "test", "phenotypes", *(f"p < {level:g}" for level in levels)], [
        [f"{key[0]:,}, {key[1]}", key[2], TESTS[key[3]], f"{of(key, levels[0])['phenotypes']:,}", *(cell(of(key, level)) for level in levels)]
        for key in distinct(rows, "samples", "features", "noise", "test")])


def choosing(results, folder):
    rows = results["rows"]
    kinds = [f"{choice}, stop {stop}" for stop in ("reml", "loo") for choice in ("likelihood", "loo", "depth 2")]
    return (f"E of the chosen depth over E of the best of {', '.join(map(str, results['depths']))}, against the truth, ± standard error, "
            f"{rows[0]['replicates']} replicates; in brackets, how often the best was chosen:\n\n"
            + table(["truth", "share", "noise", "n", *kinds], [
                [row["truth"], row["share"], row["noise"], row["n"],
                 *(plus(*row[kind], 3) + (f" ({row[f'{kind}, best found']:.0%})" if f"{kind}, best found" in row else "") for kind in kinds)]
                for row in rows])
            + "\n\nMean over all rows: " + ", ".join(f"{kind} {statistics.fmean(row[kind][0] for row in rows):.3f}" for kind in kinds) + ".")


def mice(results, folder):
    rows = results["rows"]
    number = lambda value, digits: "–" if value is None else f"{value:.{digits}f}"
    fitted = [row for row in rows if row["t_hat"] is not None]
    mean = lambda of: statistics.fmean(of(row) for row in fitted)
    times = table(["phenotype", "n", "t_hat", "t_loo", "loo_r2", "loo_r2_best", "out of fold, `--stop reml`", "out of fold, `--stop loo`"], [
        [row["phenotype"], row["n"], number(row["t_hat"], 1), number(row["t_loo"], 1), number(row["loo_r2"], 3), number(row["loo_r2_best"], 3),
         number(row["reml"]["2"], 3), number(row["loo"]["2"], 3)] for row in rows]
        + [[f"mean of the {len(fitted)} that are fitted", "", "", "", number(mean(lambda row: row["loo_r2"]), 3),
            number(mean(lambda row: row["loo_r2_best"]), 3), number(mean(lambda row: row["reml"]["2"]), 4), number(mean(lambda row: row["loo"]["2"]), 4)]])
    of_choice = lambda row, choice, stop: row[stop][str(row[f"{choice}, stop {stop}"])]
    depths = list(rows[0]["reml"])
    choices = table(["stop", "likelihood", "leave-one-out", "best of hindsight", *(f"depth {depth}" for depth in depths)], [
        [f"`--stop {stop}`", *(f"{mean(lambda row: of_choice(row, choice, stop)):.4f}" for choice in ("likelihood", "loo")),
         f"{mean(lambda row: max(row[stop].values())):.4f}", *(f"{mean(lambda row: row[stop][depth]):.4f}" for depth in depths)]
        for stop in ("reml", "loo")])
    apart = [f"{row['phenotype']} (likelihood {row['likelihood, stop loo']}, leave-one-out {row['loo, stop loo']})"
             for row in fitted if row["likelihood, stop loo"] != row["loo, stop loo"]]
    return (f"Depth 2:\n\n{times}\n\nMean R² out of fold of the {len(fitted)}, by the choice among depths {', '.join(depths)}:\n\n{choices}\n\n"
            f"With `--stop loo` the two choices differ for {'; '.join(apart)}.")


SECTIONS = {"a": type_one_error, "b": power, "c": stopping, "d": width, "e": robustness, "f": unequal_variances, "g": choosing, "h": mice}


def render(page, folder):
    """Replaces what stands between `<!-- x -->` and `<!-- /x -->` in the page, for each experiment x with results."""
    text = page.read_text()
    for letter, section in SECTIONS.items():
        path = folder / f"{letter}.json"
        if not path.exists():
            continue
        results = json.loads(path.read_text())
        body = section(results, folder) + ("\n\nFrom `--quick`." if results["quick"] else "")
        pattern = re.compile(rf"(<!-- {letter} -->\n).*?(<!-- /{letter} -->)", re.S)
        text, found = pattern.subn(lambda match: f"{match[1]}\n{body}\n\n{match[2]}", text)
        assert found == 1, f"{page} lacks the markers of {letter}"
    page.write_text(text)
