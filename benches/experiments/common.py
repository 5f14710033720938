"""What the experiments share: runs of ntkpipe, the dense flow on a kernel that a run wrote, truths, noise, intervals."""
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the same sums on any machine

import pathlib
import shutil
import subprocess

import numpy as np
import pandas as pd
import scipy.linalg
import scipy.optimize
import scipy.stats
import zarr

INFINITE, FINITE = "infinite width", "width 500"


def generator(*key):
    """A stream of its own for each key of whole numbers."""
    return np.random.default_rng(key)


class Run:
    """A run directory of ntkpipe for features X (n x p) and covariates Z (n x q, without the intercept) in memory."""

    def __init__(self, program, folder, x, z=None, options=()):
        self.program, self.folder, self.options = program, pathlib.Path(folder), [str(word) for word in options]
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.ids = [f"s{i:06d}" for i in range(len(x))]
        self.tables = ["--features", self._write("features", x)]
        if z is not None:
            self.tables += ["--covariates", self._write("covariates", z)]
        self.out, self.prepared = self.folder / "run", False

    def _write(self, name, values):
        table = pd.DataFrame(values, columns=[f"{name[0]}{j}" for j in range(values.shape[1])])
        table.insert(0, "sample_id", self.ids)
        path = self.folder / f"{name}.parquet"
        table.to_parquet(path, index=False)
        return str(path)

    def network(self, width, scheme, n_features, seed):
        """Draws a network of two hidden layers of `width` and uses it."""
        path = self.folder / "network.safetensors"
        subprocess.run([self.program, "network", "init", "--quiet", "--inputs", str(n_features), "--widths", f"{width},{width}",
                        "--scheme", scheme, "--seed", str(seed), "--double", "--out", path], check=True)
        self.options += ["--network", str(path)]
        return path

    def through(self, last, y):
        """Runs up to stage `last` ("test" or "fit") for phenotypes Y (n x m, NaN where missing); returns what it wrote."""
        self.advance(last, y)
        return self.table(last, y)

    def advance(self, last, y):
        """Runs up to stage `last`, and what the first needs."""
        if not self.prepared:
            # Kernel and spectrum do not depend on the phenotypes: one will do.
            self._stages(("ingest", "kernel", "spectrum"), np.arange(len(y))[:, None])
            self.prepared = True
        self._stages([last], y)

    def table(self, last, y, architecture="."):
        """What stage `last` wrote, one row per phenotype; of several architectures, that of one's folder."""
        table = pd.read_parquet(self.out / architecture / ("test.parquet" if last == "test" else "phenotypes.parquet"))
        assert list(table.phenotype) == [f"p{j}" for j in range(y.shape[1])]
        return table

    def _stages(self, stages, y):
        phenotypes = self._write("phenotypes", y)
        for stage in stages:
            subprocess.run([self.program, stage, "--quiet", *self.tables, "--phenotypes", phenotypes, *self.options,
                            "--out", self.out], check=True)

    def kernel(self, architecture="."):
        """K (n x n), float64, from the tiles of its lower triangle; of several architectures, that of one's folder."""
        k = np.tril(zarr.open_array(self.out / architecture / "kernel.zarr", mode="r")[:].astype(float))
        return k + np.tril(k, -1).T

    def initial(self):
        """f0 (n,): zeros at infinite width."""
        path = self.out / "initial_prediction.parquet"
        return pd.read_parquet(path).f0.to_numpy() if path.exists() else np.zeros(len(self.ids))


def stopping_times(table):
    """t_hat of each row, infinite where unbounded, 0 where the likelihood wants no training."""
    time = table.t_hat.to_numpy(float, na_value=np.nan)
    return np.where(table.status == "unbounded", np.inf, np.where(table.status == "at_zero", 0.0, time))


def leave_one_out_times(table):
    """The time that `--stop loo` trained each row to: t_loo, or the end of the times where the error still falls there."""
    return table.t_stop.to_numpy(float, na_value=np.nan)


def tests(table):
    """p of the two tests, each an array with one value per row."""
    return {name: 10 ** -table[f"neg_log10_p_{name}"].to_numpy(float) for name in ("gaussian", "robust")}


def basis(columns):
    """An orthonormal basis of the span of the columns."""
    if not columns.shape[1]:
        return columns
    u, s, _ = np.linalg.svd(columns, full_matrices=False)
    return u[:, s > 1e-10 * s[0]]


def project(a, q):
    """(I - QQ') A (I - QQ')."""
    a = a - q @ (q.T @ a)
    return a - (a @ q) @ q.T


def relu_kernel(x, depth):
    """Infinite-width NTK of `depth` ReLU layers, weight variance 2, no biases (Jacot et al. 2018; Cho and Saul 2009)."""
    k = 2 * x @ x.T / x.shape[1]
    size = np.sqrt(np.outer(np.diag(k), np.diag(k)))  # no layer changes the diagonal at weight variance 2
    theta = k
    for _ in range(depth):
        angle = np.arccos(np.clip(k / size, -1, 1))
        k, theta = size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi, theta * (np.pi - angle) / np.pi
        theta = theta + k
    return theta


def kernel_draws(x, depth, rng, replicates):
    """Functions drawn from N(0, K) of `depth` layers, standardised, n x replicates."""
    k = relu_kernel(standardised(x), depth)
    root = np.linalg.cholesky(k + 1e-10 * np.trace(k) / len(k) * np.eye(len(k)))
    return standardised(root @ rng.standard_normal((len(x), replicates)))


class Flow:
    """Gradient flow on the samples `inside` with covariates Z profiled out: A = P K P / n = U diag(lambda) U'.

    At time t the residual is U exp(-t lambda) c with c = U'(y - f0).
    """

    def __init__(self, k, z, inside, f0=None):
        self.k, self.z, self.inside = k, z, inside
        self.f0 = np.zeros(len(k)) if f0 is None else f0
        n, q = len(inside), basis(z[inside])
        self.dof = n - q.shape[1]
        # Those of the covariates' own directions are zeros, the smallest.
        values, vectors = scipy.linalg.eigh(project(k[np.ix_(inside, inside)] / n, q))
        self.values, self.vectors = values[n - self.dof:], vectors[:, n - self.dof:]
        assert self.values[0] > 0, "the kernel is singular beyond the covariates"

    def grid(self, points=120):
        """0, times from no visible training to training to the end, and infinity."""
        return np.concatenate([[0.0], np.geomspace(0.01 / self.values[-1], 30 / self.values[0], points), [np.inf]])

    def phi(self, times):
        """phi_t(lambda) = (1 - exp(-t lambda)) / lambda, dof x times."""
        return -np.expm1(-self.values[:, None] * np.atleast_1d(times)) / self.values[:, None]

    def coefficients(self, y):
        """c for each column of Y (n x m)."""
        return self.vectors.T @ (y[self.inside] - self.f0[self.inside, None])

    def training_error(self, y, time):
        """Mean squared residual inside, at one time a column or at one time for all."""
        return (self.coefficients(y) ** 2 * (1 - self.values[:, None] * self.phi(time)) ** 2).sum(axis=0) / len(self.inside)

    def reml_times(self, y):
        """The minimiser of Q(t) = dof log sum c^2 exp(-t lambda) + t sum lambda for each column of Y: a check of ntkpipe."""
        values, times = self.values, []
        for c2 in (self.coefficients(y) ** 2).T:
            def slope(t):
                w = c2 * np.exp(-t * (values - values[0]))
                return values.sum() - self.dof * (w @ values) / w.sum()
            end = 1 / values[-1]
            while slope(end) < 0 and end * values[-1] < 1e12:
                end *= 2
            times.append(0.0 if slope(0.0) >= 0 else scipy.optimize.brentq(slope, 0, end, xtol=1e-300, rtol=1e-13)
                         if slope(end) >= 0 else np.inf)
        return np.array(times)


class Predictor:
    """What a flow predicts on other samples: f0 + Z beta + K alpha = base + M phi_t(lambda) c, one matrix M for all times."""

    def __init__(self, flow, outside):
        self.flow, self.outside, inside = flow, outside, flow.inside
        self.fixed = flow.z[outside] @ np.linalg.pinv(flow.z[inside])
        cross = flow.k[np.ix_(outside, inside)] - self.fixed @ flow.k[np.ix_(inside, inside)]
        self.map = cross @ flow.vectors / len(inside)

    def errors(self, y, targets, times):
        """Mean squared error of the predictions for Y (n x m) against each of the targets (n x m) at each of `times`, each of
        them one time or one a column: targets x times x m."""
        flow, errors = self.flow, np.empty((len(targets), len(times), y.shape[1]))
        base = flow.f0[self.outside, None] + self.fixed @ (y[flow.inside] - flow.f0[flow.inside, None])
        c = flow.coefficients(y)
        for i, time in enumerate(times):
            predicted = base + self.map @ (flow.phi(time) * c)
            for of, target in zip(errors, targets):
                of[i] = ((predicted - target[self.outside]) ** 2).mean(axis=0)
        return errors


def compare_choices(k, z, train, test, y, truth, t_hat, t_loo, rng):
    """Errors of the six ways to choose t, and of the best t, on one kernel.

    `y`, `truth`: n x m, outcomes (fitted on `train` only) and what they are expectations of. Returns the flow on `train` and, for
    each choice, its time, its error against the truth (`error`) and against the outcomes (`outcome`) on `test`, and against
    the outcomes on `train` (`training`), each (m,).
    """
    flow = Flow(k, z, train)
    full, times, columns = Predictor(flow, test), flow.grid(), np.arange(y.shape[1])
    order = rng.permutation(train)
    folds = np.array_split(order, 5)
    parts = [Flow(k, z, np.setdiff1d(order, fold)) for fold in folds]
    losses = [len(fold) * Predictor(part, fold).errors(y, [y], times)[0] for part, fold in zip(parts, folds)]
    # The first fold is the validation split.
    early, split = Predictor(parts[0], test), times[losses[0].argmin(axis=0)]
    picked = {"REML": (full, t_hat), "LOO": (full, t_loo), "validation": (early, split), "validation, refitted": (full, split),
              "5-fold CV": (full, times[sum(losses).argmin(axis=0)]), "t = infinity": (full, np.full(len(columns), np.inf))}
    found = {}
    for name, (by, t) in picked.items():
        (error,), (outcome,) = by.errors(y, [truth, y], [t])
        found[name] = {"time": t, "error": error, "outcome": outcome, "training": by.flow.training_error(y, t)}
    # t_hat and t_loo need not be on the grid: where one does better than the grid, it is the best time known.
    curves = dict(zip(("error", "outcome"), full.errors(y, [truth, y], times)))
    best = curves["error"].argmin(axis=0)
    oracle, least = times[best], curves["error"][best, columns]
    for name in ("REML", "LOO"):
        oracle = np.where(found[name]["error"] < least, found[name]["time"], oracle)
        least = np.minimum(least, found[name]["error"])
    found["oracle"] = {"time": oracle, "training": flow.training_error(y, oracle), "error": least,
                       "outcome": np.minimum.reduce([curves["outcome"].min(axis=0), *(found[name]["outcome"] for name in ("REML", "LOO"))])}
    return flow, found


def pooled(blocks):
    """`found` of several blocks of replicates as one."""
    return {name: {key: np.concatenate([block[name][key] for block in blocks]) for key in of} for name, of in blocks[0].items()}


def columns_of(found, chosen):
    """`found` of some replicates."""
    return {name: {key: values[chosen] for key, values in of.items()} for name, of in found.items()}


def summary(found):
    """Means over replicates with standard errors, and E(choice) / E(oracle) with the standard error of that ratio."""
    rows = []
    for name, by in found.items():
        row = {"choice": name, "replicates": len(by["error"])}
        for key in ("error", "outcome", "training"):
            row[key], row[f"{key}_se"] = by[key].mean(), standard_error(by[key])
        for key in ("error", "outcome"):
            row[f"{key}_ratio"], row[f"{key}_ratio_se"] = ratio(by[key], found["oracle"][key])
        rows.append(row)
    return rows


def standard_error(values):
    """Of the mean."""
    return values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan


def ratio(a, b):
    """mean(a) / mean(b) and its standard error by the delta method."""
    value = a.mean() / b.mean()
    return value, standard_error(a - value * b) / b.mean()


def binomial(found, total):
    """Share with its exact 95 % interval (Clopper and Pearson 1934)."""
    interval = scipy.stats.binomtest(int(found), int(total)).proportion_ci(0.95, "exact")
    return found / total, interval.low, interval.high


class Satterthwaite:
    """The null distribution as the authors' code has it: the estimated variance is treated as known, so that the score is
    sum mu_i chi2_1, of which mean and variance are matched by a chi2_b (Satterthwaite 1946).

    mu: eigenvalues of P0 H P0, P0 off the covariates and, where it is not 0, the initial prediction f0.
    """

    def __init__(self, k, z, f0):
        a = project(k / len(k), basis(np.column_stack([z, f0]) if f0.any() else z))
        mean, square = np.trace(a), (a**2).sum()
        self.scale, self.freedom = square / mean, mean**2 / square

    def p_values(self, score):
        """`score` = dof0 w'Hw / w'w, as ntkpipe reports it."""
        return scipy.stats.chi2.sf(score / self.scale, self.freedom)

    def neg_log10_p(self, score):
        """-log10 of the same, where p is below the smallest float too."""
        return -scipy.stats.chi2.logsf(score / self.scale, self.freedom) / np.log(10)


def linear(x):
    """x1 + 0.9 x2 + ... + 0.1 x10."""
    return x[:, :10] @ np.linspace(1, 0.1, 10)


def simple(x):
    """The paper's additive truth."""
    x = x[:, :10].T
    return 0.2 * (0.5 * x[0] + 0.8 * np.tanh(x[1]) + np.sin(x[2]) + 0.6 * x[3] + 0.3 * x[4] ** 2 + 0.05 * np.exp(x[5])
                  + np.cos(x[6]) + 0.5 * np.abs(x[7]) + 0.4 * x[8] + 0.7 * np.sin(x[9]))


def interaction(x):
    """x1 x2 + x3 x4 + x5 x6."""
    return x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3] + x[:, 4] * x[:, 5]


TRUTHS = {"linear": linear, "simple": simple, "interaction": interaction}


def standardised(values):
    """Mean 0, standard deviation 1."""
    return (values - values.mean(axis=0)) / values.std(axis=0)


def noise(kind, rng, shape):
    """Mean 0, and variance 1 where it exists."""
    match kind:
        case "Gaussian":
            return rng.standard_normal(shape)
        case "t5":
            return rng.standard_t(5, shape) / np.sqrt(5 / 3)
        case "t3":
            return rng.standard_t(3, shape) / np.sqrt(3)
        case "Cauchy":
            return rng.standard_cauchy(shape)
        case "chi2(1)":
            return (rng.chisquare(1, shape) - 1) / np.sqrt(2)
    raise ValueError(kind)
