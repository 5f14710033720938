"""(a) Type I error of the robust and of the Gaussian score test, beside Satterthwaite's approximation."""
import numpy as np

from common import FINITE, INFINITE, Run, Satterthwaite, binomial, generator, linear, noise, standardised, tests

LEVELS = (0.05, 0.01, 1e-3, 1e-4)
NOISES = ("Gaussian", "t5", "chi2(1)")
SAMPLES, FEATURES, COVARIATES, BATCH = 600, 50, 5, 2500
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def null_distribution(cohort, z):
    return Satterthwaite(cohort.kernel(), np.column_stack([np.ones(SAMPLES), z]), cohort.initial())


def p_values(options, cohort, z, name, title, total, batch):
    """p of each test for `total` phenotypes of pure noise."""
    found, null = {"robust": [], "gaussian": [], "Satterthwaite": []}, None
    for part in range(0, total, batch):
        y = noise(name, generator(2, NOISES.index(name), part), (SAMPLES, min(batch, total - part)))
        table = cohort.through("test", y)
        null = null or null_distribution(cohort, z)
        p = {**tests(table), "Satterthwaite": null.p_values(table.score.to_numpy(float))}
        for test, parts in found.items():
            parts.append(p[test])
        options.say(f"{title}, {name}: {part + y.shape[1]} of {total}")
    return {test: np.concatenate(parts) for test, parts in found.items()}


def far_in_the_tail(cohort, x, z, title):
    """-log10 p of each test for one phenotype of each share of a linear signal."""
    shares = np.array(SHARES)
    e = generator(3).standard_normal((SAMPLES, 1))
    table = cohort.through("test", np.sqrt(shares) * standardised(linear(x))[:, None] + np.sqrt(1 - shares) * e)
    approximate = null_distribution(cohort, z).neg_log10_p(table.score.to_numpy(float))
    return [{"kernel": title, "share": share, "robust": robust, "gaussian": gaussian, "Satterthwaite": other}
            for share, robust, gaussian, other in zip(SHARES, table.neg_log10_p_robust, table.neg_log10_p_gaussian, approximate)]


def run(options):
    """20,000 phenotypes of pure noise of each kind on each kernel; the features, covariates and network stay.

    Cells that OUT/a.json has already, with as many phenotypes or more, are kept.
    """
    total, batch = (2000, 1000) if options.quick else (options.phenotypes, BATCH)
    rng = generator(1)
    x, z = rng.standard_normal((SAMPLES, FEATURES)), rng.standard_normal((SAMPLES, COVARIATES))
    rows = [row for row in options.earlier("rows", []) if row["phenotypes"] >= total]
    tail = []
    save = lambda: options.save({"samples": SAMPLES, "features": FEATURES, "covariates": COVARIATES, "rows": rows, "tail": tail})
    for kernel, title in enumerate((INFINITE, FINITE)):
        cohort = Run(options.ntkpipe, options.scratch / f"a{kernel}", x, z)
        if kernel:
            cohort.network(500, "pytorch", FEATURES, seed=1)
        for name in NOISES:
            if any((row["kernel"], row["noise"]) == (title, name) for row in rows):
                continue
            for test, p in p_values(options, cohort, z, name, title, total, batch).items():
                for level in LEVELS:
                    share, low, high = binomial((p < level).sum(), len(p))
                    rows.append({"kernel": title, "noise": name, "test": test, "level": level, "phenotypes": len(p),
                                 "found": int((p < level).sum()), "share": share, "low": low, "high": high})
            save()
        tail += far_in_the_tail(cohort, x, z, title)
    save()
