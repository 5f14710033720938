"""(g) Which architecture: chosen by the marginal likelihood and by the leave-one-out error, beside the best of hindsight."""
import numpy as np

from common import TRUTHS, Flow, Predictor, Run, generator, kernel_draws, leave_one_out_times, noise, ratio, standardised, stopping_times

FEATURES, TEST, DEPTHS = 10, 1000, (1, 2, 4)
TRUE_DEPTHS, SHARES, NOISES = (1, 4), (0.2, 0.5), ("Gaussian", "t3")


def truths(x, rng, replicates):
    """n x replicates of each kind, standardised: functions of the features, and draws from kernels."""
    found = {name: np.repeat(standardised(truth(x))[:, None], replicates, axis=1) for name, truth in TRUTHS.items()}
    for depth in TRUE_DEPTHS:
        found[f"draw from depth {depth}"] = kernel_draws(x, depth, rng, replicates)
    return found


def one_block(options, n, share, kind, x, rng, replicates):
    """Errors against the truth on the unseen samples (stop x depth x phenotype), and what each criterion says (depth x phenotype)."""
    parts = truths(x, rng, replicates)
    truth = np.sqrt(share) * np.hstack(list(parts.values()))
    y = truth + np.sqrt(1 - share) * noise(kind, rng, truth.shape)
    train, unseen = np.arange(n), np.arange(n, len(x))
    observed = y.copy()
    observed[unseen] = np.nan
    cohort = Run(options.ntkpipe, options.scratch / "g", x, options=["--no-gate", "--stop", "loo", "--depth", ",".join(map(str, DEPTHS))])
    cohort.advance("fit", observed)
    errors, criteria = np.empty((2, len(DEPTHS), y.shape[1])), {}
    for place, depth in enumerate(DEPTHS):
        folder = f"architectures/relu-{depth}"
        of = cohort.table("fit", observed, folder)
        predictor = Predictor(Flow(cohort.kernel(folder), np.ones((len(x), 1)), train), unseen)
        (errors[:, place],) = predictor.errors(y, [truth], [stopping_times(of), leave_one_out_times(of)])
        criteria.setdefault("likelihood", []).append(-of.reml_ratio.to_numpy(float, na_value=np.inf))
        criteria.setdefault("loo at t_hat", []).append(-of.loo_r2.to_numpy(float, na_value=-np.inf))
        criteria.setdefault("loo at t_loo", []).append(-of.loo_r2_best.to_numpy(float, na_value=-np.inf))
    return list(parts), errors, {name: np.array(values) for name, values in criteria.items()}


def run(options):
    """100 replicates of each truth, share, noise and size: 5 draws of the features, 20 of the noise on each."""
    sizes, blocks, replicates, test = ((200,), 1, 5, 200) if options.quick else ((200, 800), 5, 20, TEST)
    rows = []
    for n in sizes:
        for share in SHARES:
            for kind in NOISES:
                found = {}
                for block in range(blocks):
                    rng = generator(71, n, SHARES.index(share), NOISES.index(kind), block)
                    x = rng.standard_normal((n + test, FEATURES))
                    names, errors, criteria = one_block(options, n, share, kind, x, rng, replicates)
                    for j, name in enumerate(names):
                        at = slice(j * replicates, (j + 1) * replicates)
                        found.setdefault(name, []).append((errors[..., at], {key: of[:, at] for key, of in criteria.items()}))
                for name, parts in found.items():
                    errors = np.concatenate([part[0] for part in parts], axis=2)
                    row = {"truth": name, "share": share, "noise": kind, "n": n, "replicates": errors.shape[2]}
                    for stop, of in zip(("reml", "loo"), errors):
                        best = of.min(axis=0)
                        criterion = {"likelihood": "likelihood", "loo": "loo at t_hat" if stop == "reml" else "loo at t_loo"}
                        for choice, key in criterion.items():
                            chosen = np.concatenate([part[1][key] for part in parts], axis=1).argmin(axis=0)
                            row[f"{choice}, stop {stop}"] = ratio(of[chosen, np.arange(len(best))], best)
                            row[f"{choice}, stop {stop}, best found"] = float((of[chosen, np.arange(len(best))] == best).mean())
                        row[f"depth 2, stop {stop}"] = ratio(of[DEPTHS.index(2)], best)
                    rows.append(row)
                options.say(f"n = {n}, share {share}, {kind}")
                options.save({"depths": DEPTHS, "features": FEATURES, "test": test, "rows": rows})
