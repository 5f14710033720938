"""(b) Power of the two tests against signal share and n."""
import numpy as np
import scipy.stats

from common import FINITE, INFINITE, TRUTHS, Run, binomial, generator, simple, standardised, tests

FEATURES, SIZES, SHARES, LEVELS = 10, (200, 400, 800), (0.02, 0.05, 0.1, 0.2, 0.4), (0.05, 1e-4)


def linear_f_test(x, y):
    """p of the F test of linear regression on all features, one value per column of Y."""
    n, p = x.shape
    design = np.column_stack([np.ones(n), x])
    residual = y - design @ (np.linalg.pinv(design) @ y)
    null, full = ((y - y.mean(axis=0)) ** 2).sum(axis=0), (residual**2).sum(axis=0)
    return scipy.stats.f.sf((null - full) / p / (full / (n - p - 1)), p, n - p - 1)


def run(options):
    """500 phenotypes of each truth, share and size: 5 draws of the features, 100 of the noise on each."""
    blocks, replicates, sizes = (1, 50, SIZES[:2]) if options.quick else (5, 100, SIZES)
    rows = []
    for n in (*sizes, 600):
        # At n = 600, the paper's own design: its "simple" truth as it stands, noise of standard deviation 0.5.
        cells = [("simple, sd 0.5", np.nan)] if n == 600 else [(truth, share) for truth in TRUTHS for share in SHARES]
        found, shares = {}, []
        for block in range(blocks):
            x = generator(20, n, block).standard_normal((n, FEATURES))
            columns = []
            for cell, (truth, share) in enumerate(cells):
                e = generator(21, n, block, cell).standard_normal((n, replicates))
                if n == 600:
                    f = simple(x)
                    columns.append(f[:, None] + 0.5 * e)
                    shares.append(f.var() / (f.var() + 0.25))
                else:
                    f = standardised(TRUTHS[truth](x))
                    columns.append(np.sqrt(share) * f[:, None] + np.sqrt(1 - share) * e)
            y = np.hstack(columns)
            p_values = {"linear F test": linear_f_test(x, y)}
            for kernel, title in enumerate((INFINITE, FINITE)):
                cohort = Run(options.ntkpipe, options.scratch / "b", x)
                if kernel:
                    cohort.network(500, "pytorch", FEATURES, seed=block)
                for test, p in tests(cohort.through("test", y)).items():
                    p_values[f"{title}, {test}"] = p
            for test, p in p_values.items():
                for cell, of in zip(cells, p.reshape(len(cells), replicates)):
                    found.setdefault((test, *cell), []).append(of)
            options.say(f"n = {n}, block {block + 1} of {blocks}")
        for (test, truth, share), parts in found.items():
            p = np.concatenate(parts)
            for level in LEVELS:
                power, low, high = binomial((p < level).sum(), len(p))
                rows.append({"test": test, "truth": truth, "share": share if n != 600 else float(np.mean(shares)), "n": n, "level": level,
                             "phenotypes": len(p), "power": power, "low": low, "high": high})
        options.save({"features": FEATURES, "rows": rows})
