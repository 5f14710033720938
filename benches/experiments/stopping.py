"""(c) Prediction error at t_hat and at t_loo, beside other ways to choose t and the best t."""
import numpy as np

from common import TRUTHS, Run, columns_of, compare_choices, generator, leave_one_out_times, pooled, standardised, stopping_times, summary

FEATURES, TEST = 10, 1000
# Signal shares; "simple" is the paper's design, noise of standard deviation 0.5 as the truth stands.
DESIGNS = {"simple, sd 0.5": ("simple", None), "linear, share 0.2": ("linear", 0.2), "interaction, share 0.5": ("interaction", 0.5)}


def outcomes(truth, share, rng, replicates):
    """Outcomes (n x replicates) around a truth (n,), and their expectation on the same scale."""
    if share is not None:
        truth = standardised(truth) * np.sqrt(share)
    spread = 0.5 if share is None else np.sqrt(1 - share)
    truth = np.repeat(truth[:, None], replicates, axis=1)
    return truth + spread * rng.standard_normal(truth.shape), truth


def run(options):
    """100 replicates of each design and size: 5 draws of the features, 20 of the noise on each."""
    sizes, blocks, replicates, test = ((200, 400), 2, 5, 200) if options.quick else ((200, 400, 800, 1600), 5, 20, TEST)
    rows, apart = [], 0.0
    for n in sizes:
        found = {name: [] for name in DESIGNS}
        for block in range(blocks):
            x = generator(30, n, block).standard_normal((n + test, FEATURES))
            pairs = [outcomes(TRUTHS[truth](x), share, generator(31, n, block, design), replicates)
                     for design, (truth, share) in enumerate(DESIGNS.values())]
            y, truth = (np.hstack(part) for part in zip(*pairs))
            train, unseen = np.arange(n), np.arange(n, n + test)
            observed = y.copy()
            observed[unseen] = np.nan
            cohort = Run(options.ntkpipe, options.scratch / "c", x, options=["--no-gate", "--stop", "loo"])
            table = cohort.through("fit", observed)
            t_hat = stopping_times(table)
            flow, errors = compare_choices(cohort.kernel(), np.ones((n + test, 1)), train, unseen, y, truth, t_hat,
                                           leave_one_out_times(table), generator(32, n, block))
            both = np.isfinite(t_hat) & (t_hat > 0)
            apart = max(apart, np.abs(t_hat / flow.reml_times(y) - 1)[both].max())
            for design, name in enumerate(DESIGNS):
                found[name].append(columns_of(errors, slice(design * replicates, (design + 1) * replicates)))
            options.say(f"n = {n}, block {block + 1} of {blocks}; t_hat {apart:.1e} from its dense value at most")
        for name in DESIGNS:
            rows += [{"design": name, "n": n, **row} for row in summary(pooled(found[name]))]
        options.save({"features": FEATURES, "test": test, "t_hat_apart": apart, "rows": rows})
