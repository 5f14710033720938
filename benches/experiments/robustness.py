"""(e) Where it breaks: type I error, coverage of the interval of t, and prediction at t_hat, one departure at a time."""
import dataclasses

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats

from common import (Flow, Run, binomial, compare_choices, generator, kernel_draws, leave_one_out_times, noise, pooled, simple, standardised,
                    stopping_times, summary, tests)

LEVELS, SHARE, TEST = (0.05, 0.01, 1e-3), 0.5, 500


@dataclasses.dataclass
class Departure:
    """What differs from Gaussian noise of one variance and n = 400, p = 10, two hidden layers."""

    title: str
    noise: str = "Gaussian"
    samples: int = 400
    features: int = 10
    spread: object = None  # sd of the noise of each sample, from X
    prevalence: float | None = None  # of a binary outcome, a latent Gaussian one cut at its quantile
    depths: tuple | None = None  # of the kernel that the truth is drawn from, and of the one that is fitted


DEPARTURES = (
    Departure("none"),
    Departure("t3 noise", noise="t3"),
    Departure("Cauchy noise", noise="Cauchy"),
    Departure("chi2(1) noise", noise="chi2(1)"),
    Departure("noise sd grows with x1: exp(x1 / 2)", spread=lambda x: np.exp(x[:, 0] / 2)),
    Departure("noise sd grows with the size of x: |x|^2 / p", spread=lambda x: (x**2).mean(axis=1)),
    Departure("truth of depth 4, fitted at depth 4", depths=(4, 4)),
    Departure("truth of depth 4, fitted at depth 1", depths=(4, 1)),
    Departure("truth of depth 1, fitted at depth 4", depths=(1, 4)),
    Departure("p > n: n = 200, p = 1,000", samples=200, features=1000),
    Departure("binary, half are cases", prevalence=0.5),
    Departure("binary, 10 % are cases", prevalence=0.1),
    Departure("binary, 2 % are cases", prevalence=0.02),
)


def draw(departure, x, rng, replicates, signal):
    """Outcomes (n x replicates) around a signal (n x replicates) of variance `SHARE` or 0, and their expectation."""
    spread = np.ones(len(x)) if departure.spread is None else departure.spread(x)
    spread = spread / np.sqrt((spread**2).mean())
    sd = np.sqrt(1 - signal.var())
    y = signal + sd * spread[:, None] * noise(departure.noise, rng, (len(x), replicates))
    if departure.prevalence is None:
        return y, signal
    cut = scipy.stats.norm.ppf(1 - departure.prevalence)
    return (y > cut).astype(float), scipy.special.ndtr((signal - cut) / sd)


def true_time(flow):
    """t at which the increments' share of the model's variance, sum(exp(t lambda) - 1) / sum exp(t lambda), is `SHARE`."""
    share = lambda t: -np.expm1(-scipy.special.logsumexp(t * flow.values) + np.log(flow.dof)) - SHARE
    end = 1 / flow.values[-1]
    while share(end) < 0:
        end *= 2
    return scipy.optimize.brentq(share, 0, end)


def coverage(departure, flow, x, rng, replicates):
    """y = u + e with u ~ N(0, exp(tA) - I) on the flow's space, and e of variance 1, of the departure's own kind."""
    t = true_time(flow)
    u = flow.vectors @ (np.sqrt(np.expm1(t * flow.values))[:, None] * rng.standard_normal((flow.dof, replicates)))
    e, _ = draw(departure, x, rng, replicates, np.zeros((len(x), 1)))
    return t, u + e


def run(options):
    """20,000 null phenotypes, 1,000 drawn from the model, 100 with a truth (5 draws of the features, 20 of the noise), each.

    Departures that OUT/e.json has already, with as many null phenotypes or more, are kept.
    """
    nulls, drawn, blocks, replicates, test = (500, 50, 1, 10, 200) if options.quick else (options.phenotypes, 1_000, 5, 20, TEST)
    departures = DEPARTURES[:2] if options.quick else DEPARTURES
    rows = [row for row in options.earlier("rows", []) if row["asked"] >= nulls]
    for place, departure in enumerate(departures):
        if any(row["departure"] == departure.title for row in rows):
            continue
        n, depths = departure.samples, departure.depths or (2, 2)
        depth = ["--no-gate", "--stop", "loo", "--depth", depths[1]]
        row = {"departure": departure.title, "asked": nulls}
        x = generator(50, place).standard_normal((n, departure.features))
        cohort = Run(options.ntkpipe, options.scratch / "e", x, options=depth)
        y, _ = draw(departure, x, generator(51, place), nulls, np.zeros((n, 1)))
        p = {test: p[~np.isnan(p)] for test, p in tests(cohort.through("test", y)).items()}  # without the constant ones
        row["nulls"] = len(p["robust"])
        row["type I"] = {test: {f"{level:g}": binomial((p < level).sum(), len(p)) for level in LEVELS} for test, p in p.items()}
        if departure.prevalence is None and departure.depths is None:
            flow = Flow(cohort.kernel(), np.ones((n, 1)), np.arange(n))
            t, y = coverage(departure, flow, x, generator(52, place), drawn)
            table = cohort.through("fit", y)
            lower, upper = (table[name].to_numpy(float, na_value=np.nan) for name in ("t_hat_lower", "t_hat_upper"))
            # No upper end: infinite.
            inside = (np.nan_to_num(lower) <= t) & ~(upper < t) & (table.status != "unbounded")
            row.update(coverage=binomial(inside.sum(), drawn), true_time=t, drawn=drawn, below=int((upper < t).sum()),
                       median_time_ratio=float(np.median(stopping_times(table)) / t))
        found = []
        for block in range(blocks):
            rng = generator(53, place, block)
            x = rng.standard_normal((n + test, departure.features))
            if departure.depths:
                truth = kernel_draws(x, depths[0], rng, replicates)
            else:
                truth = np.repeat(standardised(simple(x))[:, None], replicates, axis=1)
            y, truth = draw(departure, x, rng, replicates, np.sqrt(SHARE) * truth)
            train, unseen = np.arange(n), np.arange(n, n + test)
            observed = y.copy()
            observed[unseen] = np.nan
            cohort = Run(options.ntkpipe, options.scratch / "e", x, options=depth)
            table = cohort.through("fit", observed)
            t_hat, t_loo = stopping_times(table), leave_one_out_times(table)
            usable = ~np.isnan(t_hat)  # not so: constant phenotypes
            _, errors = compare_choices(cohort.kernel(), np.ones((len(x), 1)), train, unseen, y[:, usable], truth[:, usable],
                                        t_hat[usable], t_loo[usable], rng)
            found.append(errors)
        found = pooled(found)
        row["at_zero"] = int((found["REML"]["time"] == 0).sum())
        row["unbounded"] = int(np.isinf(found["REML"]["time"]).sum())
        row["prediction"] = summary(found)
        rows.append(row)
        options.say(departure.title)
        options.save({"share": SHARE, "test": test, "rows": rows})
