import json
import math
import shlex


def flags(options):
    """The options as flags: `{"alpha": 0.01, "no-gate": True}` is `--alpha=0.01 --no-gate=true`."""

    def text(value):
        if isinstance(value, list):
            return ",".join(map(text, value))
        return str(value).lower() if isinstance(value, bool) else str(value)

    return " ".join(
        shlex.quote(f"--{name}={text(value)}") for name, value in options.items()
    )


def shard(wildcards):
    """`2-of-4` as ntkpipe writes it, `2/4`."""
    return wildcards.scatteritem.replace("-of-", "/")


def minutes(stage, shards=1):
    """The time limit of a job of a stage: the plan's core-seconds on its threads, three times, and what the configuration
    allows for beginning and waiting; without a plan the latter alone. A second attempt has twice as long.
    """

    def limit(wildcards, input, threads, attempt):
        with open(str(input.plan)) as file:
            seconds = json.load(file).get("seconds", {}).get(stage, 0)
        planned = math.ceil(3 * seconds / threads / shards / 60)
        return (config["minutes"][stage] + planned) * attempt

    return limit


# What the run is of, and how: given to the first stages, read by the others from run.json.
OPTIONS = flags(config["inputs"] | config["options"])

# Where it is.
RUN = flags({"out": OUT})


def bound_mb(wildcards, attempt):
    """The bound on ntkpipe's memory, in MB. A second attempt has twice as much: exit code 3 says that there was too little."""
    return config["memory_mb"] * attempt


def mem_mb(wildcards, attempt):
    """The bound and a quarter: threads, stacks, and pages of the tiles, which are given back when others need them."""
    return math.ceil(1.25 * bound_mb(wildcards, attempt))
