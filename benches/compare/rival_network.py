#!/usr/bin/env python3
"""What `ntkpipe run --network` does, the way it is done without ntkpipe: the gradient of the output for each sample by automatic
differentiation, K = J J' from the n x parameters Jacobian, LAPACK `eigh` of K / n, REML by numerical optimisation.

    python rival_network.py --features F.parquet --phenotypes P.parquet --network W.safetensors --out OUT

Features and phenotypes as they stand, no covariates, complete phenotypes. Writes OUT/phenotypes.csv and OUT/seconds.json. It computes
no test, interval or predictions, so that the comparison errs in its favour.
"""
import time

STARTED = time.perf_counter()

import argparse
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import safetensors.numpy
import scipy.linalg
import scipy.optimize

IMPORTED = time.perf_counter()


def load(path):
    """A table's values, without the sample ids, and its columns."""
    table = pd.read_parquet(path)
    return table.iloc[:, 1:].to_numpy(), table.columns[1:]


def network(path):
    """[(W, b), ...] of the Linear layers, first to last."""
    tensors = safetensors.numpy.load_file(path)
    places = sorted({int(name.split(".")[0]) for name in tensors})
    return [(jnp.asarray(tensors[f"{i}.weight"], jnp.float32), jnp.asarray(tensors[f"{i}.bias"], jnp.float32)) for i in places]


def output(layers, x):
    """f of one sample, ReLU between the layers."""
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(weight @ x + bias)
    weight, bias = layers[-1]
    return (weight @ x + bias)[0]


def kernel(layers, x):
    """K (n x n) and f0 (n,)."""
    gradients = jax.jit(jax.vmap(jax.grad(output), in_axes=(None, 0)))(layers, x)
    jacobian = jnp.concatenate([leaf.reshape(len(x), -1) for leaf in jax.tree_util.tree_leaves(gradients)], axis=1)
    del gradients
    return np.asarray(jacobian @ jacobian.T, float), np.asarray(jax.vmap(output, in_axes=(None, 0))(layers, x), float)


def stopping_time(values, squares):
    """The minimiser of Q(t) = n log sum squares exp(-t values) + t sum values."""
    def objective(log_t):
        t = np.exp(log_t)
        weights = squares * np.exp(-t * (values - values.min()))
        return len(values) * (np.log(weights.sum()) - t * values.min()) + t * values.sum()

    ends = np.log(1e-4 / values.max()), np.log(1e6 / values.max())
    return np.exp(scipy.optimize.minimize_scalar(objective, bounds=ends, method="bounded", options={"xatol": 1e-9}).x)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("features", "phenotypes", "network", "out"):
        parser.add_argument(f"--{name}", required=True, type=pathlib.Path)
    options = parser.parse_args()
    seconds, last = {"import": IMPORTED - STARTED}, time.perf_counter()

    def done(stage):
        nonlocal last
        now = time.perf_counter()
        seconds[stage], last = now - last, now

    (x, _), (y, names), layers = load(options.features), load(options.phenotypes), network(options.network)
    done("load")
    k, f0 = kernel(layers, jnp.asarray(x, jnp.float32))
    done("kernel")
    values, vectors = scipy.linalg.eigh(k / len(k))
    done("eigh")
    squares = (vectors.T @ (y - f0[:, None])) ** 2
    times = [stopping_time(values, column) for column in squares.T]
    done("time")
    options.out.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"phenotype": names, "t_hat": times}).to_csv(options.out / "phenotypes.csv", index=False)
    (options.out / "seconds.json").write_text(json.dumps({"samples": len(x), **seconds}))


if __name__ == "__main__":
    main()
