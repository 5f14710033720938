"""(d) Gradient descent on a finite network beside the closed form, against the network's width."""
import json

import numpy as np
import safetensors
import safetensors.numpy

from common import Flow, Predictor, Run, generator, simple, standardised, stopping_times

FEATURES, TRAIN, TEST = 10, 100, 100
STEP = 0.1  # learning rate times the largest eigenvalue of H


class Network:
    """An MLP with ReLU between its layers, in float64, from a file of `ntkpipe network init`."""

    def __init__(self, path):
        tensors = safetensors.numpy.load_file(path)
        with safetensors.safe_open(path, "numpy") as file:
            note = file.metadata()
        w, b = json.loads(note["ntkpipe"])["variances"]
        assert b == 0
        names = sorted(tensors, key=lambda name: int(name.split(".")[0]))
        self.weights = [tensors[name] for name in names]
        # In the NTK parameterisation each weight learns at its own rate, its variance at the start.
        self.rates = [w / weight.shape[1] for weight in self.weights]

    def forward(self, x):
        """Inputs of each layer, and the output."""
        inputs = [x]
        for weight in self.weights[:-1]:
            inputs.append(np.maximum(inputs[-1] @ weight.T, 0))
        return inputs, (inputs[-1] @ self.weights[-1].T)[:, 0]

    def step(self, x, y, learning_rate):
        """One step of full-batch gradient descent on 1/2 mean (f - y)^2."""
        inputs, f = self.forward(x)
        signal, gradients = ((f - y) / len(y))[:, None], []
        for weight, a in zip(self.weights[::-1], inputs[::-1]):
            gradients.append(signal.T @ a)
            signal = (signal @ weight) * (a > 0)
        for weight, rate, gradient in zip(self.weights[::-1], self.rates[::-1], gradients):
            weight -= learning_rate * rate * gradient


def distances(options, width, seed):
    """Trains one network to its t_hat; distances of its increments from the closed form, relative to the closed form's size."""
    n = TRAIN + TEST
    rng = generator(40, seed)
    x = rng.standard_normal((n, FEATURES))
    y = standardised(simple(x) + 0.5 * rng.standard_normal(n))
    train, unseen = np.arange(TRAIN), np.arange(TRAIN, n)
    observed = np.where(np.arange(n) < TRAIN, y, np.nan)[:, None]
    cohort = Run(options.ntkpipe, options.scratch / "d", x, options=["--no-gate", "--no-intercept", "--raw-phenotypes"])
    network = Network(cohort.network(width, "ntk", FEATURES, seed))
    t = stopping_times(cohort.through("fit", observed))[0]
    x = standardised(x)
    start = network.forward(x)[1]
    flow = Flow(cohort.kernel(), np.empty((n, 0)), train, start)
    steps = int(np.ceil(t * flow.values[-1] / STEP))
    for _ in range(steps):
        network.step(x[train], y[train], t / steps)
    trained = network.forward(x)[1] - start
    row = {"width": width, "seed": seed, "t_hat": t, "steps": steps, "f0_apart": np.abs(start - cohort.initial()).max()}
    # The descent's own closed form has (1 - step lambda)^steps where the flow has exp(-t lambda).
    decay = {"flow": np.exp(-t * flow.values), "descent": (1 - t / steps * flow.values) ** steps}
    for name, samples in (("train", train), ("test", unseen)):
        target = Predictor(flow, samples)
        for law, rest in decay.items():
            closed = target.map @ ((1 - rest) / flow.values * flow.coefficients(y[:, None])[:, 0])
            row[f"{name}_{law}"] = np.linalg.norm(trained[samples] - closed) / np.linalg.norm(closed)
        row[f"{name}_error_network"] = ((start + trained - y)[samples] ** 2).mean()
        row[f"{name}_error_closed"] = target.errors(y[:, None], [y[:, None]], [t]).item()
    return row


def run(options):
    """Widths 100 to 2,000, five networks each; draw s of the features and the noise is the same at every width."""
    widths, seeds = ((50, 100, 200), 2) if options.quick else ((100, 200, 500, 1000, 2000), 5)
    rows = []
    for width in widths:
        rows += [distances(options, width, seed) for seed in range(seeds)]
        options.say(f"width {width}: {rows[-1]['steps']} steps")
        logs = np.log([row["width"] for row in rows])
        slopes = {key: float(np.polyfit(logs, np.log([row[key] for row in rows]), 1)[0])
                  for key in ("train_flow", "test_flow", "train_descent", "test_descent")} if len(set(logs)) > 1 else {}
        options.save({"features": FEATURES, "train": TRAIN, "test": TEST, "step": STEP, "slopes": slopes, "rows": rows})
