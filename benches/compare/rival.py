#!/usr/bin/env python3
"""The same work as `ntkpipe run`, the way it is done without ntkpipe: neural-tangents for K, LAPACK `eigh` of P K P / n once,
then each phenotype's test and REML stopping time in closed form, and its fitted values. Complete phenotypes only.

    python rival.py --features F.parquet --phenotypes P.parquet --covariates C.parquet --out OUT

Writes OUT/phenotypes.csv and OUT/seconds.json. Where ntkpipe computes more (intervals, edf, a stored model), this does not, so
that the comparison errs in its favour.
"""
import time

STARTED = time.perf_counter()

import argparse
import json
import os
import pathlib

# Of no use here, and tensorflow says much when it is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import neural_tangents
import numpy as np
import pandas as pd
import scipy.linalg
from scipy.optimize import brentq

IMPORTED = time.perf_counter()


def read(path):
    """A table with its first column, the sample id, as index."""
    table = pd.read_parquet(path)
    return table.set_index(table.columns[0])


def load(options):
    """X (n x p, standardised over the whole feature table), Y (n x m), Z (n x q): samples with complete covariates."""
    features, phenotypes, covariates = map(read, (options.features, options.phenotypes, options.covariates))
    x = features.to_numpy(float)
    spread = np.nanstd(x, axis=0)
    x, spread = x[:, spread > 0], spread[spread > 0]
    x = np.nan_to_num((x - np.nanmean(x, axis=0)) / spread)
    common = features.index.isin(phenotypes.index) & features.index.isin(covariates.index)
    z = covariates.reindex(features.index).to_numpy(float)
    kept = common & np.isfinite(z).all(axis=1)
    y = phenotypes.reindex(features.index).to_numpy(float)[kept]
    if not np.isfinite(y).all():
        raise SystemExit("error: phenotypes with missing values; simulate with `--masked-share 0`")
    z = np.column_stack([np.ones(kept.sum()), z[kept]])
    return x[kept], y, z, phenotypes.columns


def kernel(x, depth):
    """The infinite-width NTK of a ReLU network, weight variance 2, bias variance 0, unscaled (n x n)."""
    stax = neural_tangents.stax
    dense = lambda: stax.Dense(1, W_std=2**0.5, b_std=0.0)
    hidden = [layer for _ in range(depth) for layer in (dense(), stax.Relu())]
    apply = stax.serial(*hidden, dense())[2]
    compiled = jax.jit(lambda rows: apply(rows, None, "ntk"))
    return np.array(compiled(x))


def log_tail(values):
    """log Pr(sum of values_i chi2_1 > 0): inverse Laplace transform on the vertical line through the saddlepoint."""
    values = values / np.abs(values).max()
    low, high = 1 / (2 * values.min()), 1 / (2 * values.max())
    slope = lambda z: (values / (1 - 2 * z * values)).sum()
    log_mgf = lambda z: -0.5 * np.log1p(-2 * values[:, None] * z).sum(axis=0)
    point = brentq(slope, low * (1 - 1e-14), high * (1 - 1e-14), xtol=1e-300, rtol=1e-15)
    scale = 1 / np.sqrt(2 * (values**2 / (1 - 2 * point * values) ** 2).sum())
    if abs(point) < scale:  # the pole at 0 is too near
        point = min(scale, high / 2) if point >= 0 else max(-scale, low / 2)
    line = lambda u: point + 1j * scale * np.sinh(u)
    start, end = log_mgf(np.array([point]))[0], 1.0
    while log_mgf(np.array([line(end)]))[0].real - start > -40:
        end *= 1.1
    before = np.inf
    for nodes in (16, 32, 64, 128, 256, 512, 1024, 2048):
        u = (np.arange(nodes) + 0.5) * end / nodes
        z = line(u)
        terms = np.exp(log_mgf(z) - start) / z * np.cosh(u) * scale
        integral = terms.real.sum() * end / nodes / np.pi
        if abs(integral / before - 1) < 1e-8:
            break
        before = integral
    tail = start + np.log(abs(integral))
    return tail if point > 0 else np.log1p(-np.exp(tail))


def stopping_time(values, squares):
    """Root of Q'(t) = sum of values - dof * (their mean weighted by squares exp(-t values)); 0 or infinite at the ends."""
    shifted = values - values.min()

    def slope(t):
        weights = squares * np.exp(-t * shifted)
        return values.sum() - len(values) * (weights @ values) / weights.sum()

    if slope(0.0) >= 0:
        return 0.0
    end = 1 / values.max()
    while slope(end) < 0:
        end *= 2
        if end * values.max() > 1e12:
            return np.inf
    return brentq(slope, 0.0, end, xtol=1e-300, rtol=1e-12)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("features", "phenotypes", "covariates", "out"):
        parser.add_argument(f"--{name}", required=True, type=pathlib.Path)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--precision", choices=("32", "64"), default="64", help="bits of K and of its eigenvectors")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", options.precision == "64")
    seconds, last = {"import": IMPORTED - STARTED}, time.perf_counter()

    def done(stage):
        nonlocal last
        now = time.perf_counter()
        seconds[stage], last = now - last, now

    x, y, z, names = load(options)
    done("load")
    k = kernel(x.astype(f"float{options.precision}"), options.depth)
    done("kernel")
    n = len(k)
    basis = scipy.linalg.qr(z, mode="economic", pivoting=True)
    q = basis[0][:, np.abs(np.diag(basis[1])) > 1e-10 * abs(basis[1][0, 0])].astype(k.dtype)
    # P K P / n = K/n - Q W' - W Q', W = K Q/n - Q (Q' K Q/n) / 2: one copy of K, overwritten by the eigenvectors.
    w = k @ q / n
    w -= q @ (q.T @ w) / 2
    a = k / n
    a -= q @ w.T
    a -= w @ q.T
    values, vectors = scipy.linalg.eigh(a, overwrite_a=True, check_finite=False, driver="evd")
    done("eigh")
    dof = n - q.shape[1]
    # Those of the covariates' own directions are zeros, the smallest in size.
    kept = np.sort(np.argsort(np.abs(values))[n - dof:])
    values, vectors = values[kept].astype(float), vectors[:, kept]
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    c = (vectors.T @ (y - q @ (q.T @ y)).astype(k.dtype)).astype(float)
    squares = c**2
    ratios = values @ squares / squares.sum(axis=0)
    log_p = np.array([log_tail(values - ratio) for ratio in ratios])
    done("test")
    times, dual = [], np.zeros_like(c)
    for j in range(len(names)):
        t = stopping_time(values, squares[:, j])
        times.append(t)
        if np.isfinite(t):
            dual[:, j] = -np.expm1(-t * values) / values * c[:, j]
    alpha = vectors @ dual.astype(k.dtype) / n
    increment = k @ alpha
    fitted = increment + q @ (q.T @ (y - increment))
    assert fitted.shape == y.shape
    done("times and fits")
    options.out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"phenotype": names, "neg_log10_p": -log_p / np.log(10), "t_hat": times})
    table.to_csv(options.out / "phenotypes.csv", index=False)
    (options.out / "seconds.json").write_text(json.dumps({"samples": n, **seconds}))


if __name__ == "__main__":
    main()
