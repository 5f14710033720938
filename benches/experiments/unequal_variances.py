"""(f) The level of the robust and the Gaussian test where noise variances are unequal."""
import numpy as np

from common import Run, binomial, generator, tests

LEVELS = (0.05, 0.01, 1e-3)
COVARIATES, FACTORS, BATCH = 12, 6, 1000
NOISES = ("Gaussian", "t3", "Cauchy", "sd as mean of x²", "sd as exp(x₂/2)", "1 % cases", "2 % cases")
SHAPES = {(700, 40): NOISES, (700, 900): NOISES, (2000, 40): ("Gaussian", "sd as mean of x²", "2 % cases")}


def features(rng, n, p):
    """Features that share factors, of people whose features spread more or less."""
    spread = np.exp(0.3 * rng.standard_normal((n, 1)))
    return spread * (rng.standard_normal((n, FACTORS)) @ rng.standard_normal((FACTORS, p)) + rng.standard_normal((n, p)))


def noise(kind, rng, x, m):
    """n x m, independent, of mean 0 (of 0 and 1 for cases)."""
    shape = (len(x), m)
    match kind:
        case "Gaussian":
            return rng.standard_normal(shape)
        case "t3":
            return rng.standard_t(3, shape)
        case "Cauchy":
            return rng.standard_cauchy(shape)
        case "sd as mean of x²":
            return rng.standard_normal(shape) * (x**2).mean(1)[:, None]
        case "sd as exp(x₂/2)":
            return rng.standard_normal(shape) * np.exp(x[:, [1]] / x[:, 1].std() / 2)
        case "1 % cases" | "2 % cases":
            n_cases = round(len(x) * int(kind[0]) / 100)
            return rng.permuted(np.repeat([0.0, 1.0], [len(x) - n_cases, n_cases])[:, None] * np.ones(shape), axis=0)
    raise ValueError(kind)


def run(options):
    """Phenotypes of pure noise of each kind; the features and covariates of a shape stay. Cells that OUT/f.json has already are kept."""
    total = 500 if options.quick else options.phenotypes
    rows = [row for row in options.earlier("rows", []) if row["phenotypes"] >= total]
    for (n, p), kinds in SHAPES.items():
        rng = generator(61, n, p)
        x, z = features(rng, n, p), rng.standard_normal((n, COVARIATES))
        cohort = Run(options.ntkpipe, options.scratch / f"f{n}-{p}", x, z)
        for kind in kinds:
            if any((row["samples"], row["features"], row["noise"]) == (n, p, kind) for row in rows):
                continue
            found = {"gaussian": [], "robust": []}
            for part in range(0, total, BATCH):
                y = noise(kind, generator(62, NOISES.index(kind), part), x, min(BATCH, total - part))
                table = cohort.through("test", y)
                for test, values in tests(table).items():
                    found[test].append(values)
                options.say(f"{n} x {p}, {kind}: {part + y.shape[1]} of {total}")
            for test, parts in found.items():
                values = np.concatenate(parts)
                for level in LEVELS:
                    share, low, high = binomial((values < level).sum(), len(values))
                    rows.append({"samples": n, "features": p, "noise": kind, "test": test, "level": level, "phenotypes": len(values),
                                 "found": int((values < level).sum()), "share": share, "low": low, "high": high})
            options.save({"rows": rows})
