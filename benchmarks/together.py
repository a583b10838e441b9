"""Measure training heads on features in memory: one head, and many at once.

    python -m benchmarks.together --batch=32
    python -m benchmarks.together --batch=256 --runs=0

It measures one head, after compilation, and `--runs` heads with different seeds: in one program
that trains them one after the other (`map`) or in lock step (`vmap`), and in separate calls of the
compiled program for one head. Features are random, because results do not matter here. The ways
take turns.
"""

import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import flags

from benchmarks.measure import IDLE, busy_cores
from experiments import cli
from tl_jax.chain import heads
from tl_jax.chain.network import Network
from tl_jax.train.fit import Data, Run, fit
from tl_jax.train.together import WAYS, stacked, together

_EXAMPLES = flags.DEFINE_integer("examples", 2624, "Rows of features.", lower_bound=1)
_FEATURES = flags.DEFINE_integer("features", 1280, "Features in a row.", lower_bound=1)
_CLASSES = flags.DEFINE_integer("classes", 2, "Classes.", lower_bound=2)
_EPOCHS = flags.DEFINE_integer("epochs", 100, "Epochs.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch", 32, "Examples in a batch.", lower_bound=1)
_RUNS = flags.DEFINE_integer("runs", 16, "Heads at once; 0: measure one head only.", lower_bound=0)
_TURNS = flags.DEFINE_integer("turns", 5, "Number of measurements of each.", lower_bound=2)
_OPTIMIZER = flags.DEFINE_enum("optimizer", "adamw", ("adamw", "sgd"), "The optimizer.")


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    busy = busy_cores()
    run, data, settings = problem()
    ways = {"one head": lambda: fit(run(0), data, **settings)}
    if _RUNS.value:
        runs = stacked([run(seed) for seed in range(_RUNS.value)])
        for way in WAYS:
            ways[f"{_RUNS.value} by {way}"] = lambda way=way: together(
                fit, runs, data, way=way, **settings
            )
        ways[f"{_RUNS.value} calls"] = lambda: [
            fit(run(seed), data, **settings) for seed in range(_RUNS.value)
        ]
    print(
        f"{_EXAMPLES.value} x {_FEATURES.value}, {_CLASSES.value} classes, {_EPOCHS.value} epochs, "
        f"batch {_BATCH.value}, {_OPTIMIZER.value}; {jax.device_count()} {jax.default_backend()}"
    )
    first = {name: seconds(way) for name, way in ways.items()}
    times = {name: [] for name in ways}
    for _ in range(_TURNS.value):
        for name, way in ways.items():
            times[name].append(seconds(way))
    for name, values in times.items():
        print(
            f"{name:12} {statistics.median(values):7.3f} s "
            f"({min(values):.3f} to {max(values):.3f}); with compilation {first[name]:.1f} s"
        )
    if busy > IDLE:
        print(f"machine NOT idle: {busy:.1f} cores busy before")


def problem() -> tuple[Callable[[int], Run], Data, dict]:
    """Return a function from a seed to a run, the data on the device, and `fit`'s settings."""
    rng = np.random.default_rng(0)
    n, d, classes = _EXAMPLES.value, _FEATURES.value, _CLASSES.value
    features = rng.standard_normal((n, d), np.float32)
    targets = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, n)]
    chain = Network(heads.make("linear", classes))
    module = chain.layers[0].module
    fresh = jax.eval_shape(module.init, jax.random.key(0), features)["params"]
    params = {"head": jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), fresh)}
    variables = {"params": params, "batch_stats": {}}
    examples, weights = np.arange(n, dtype=np.int32), np.ones(n, np.float32)
    settings = {"chain": chain, "start": None, "epochs": _EPOCHS.value}
    settings |= {"batch_size": _BATCH.value, "optimizer": _OPTIMIZER.value}

    def run(seed: int) -> Run:
        numbers = np.int32(seed), np.float32(1e-3), np.float32(1e-4)
        return jax.device_put(Run(variables, *numbers, examples, weights))

    return run, jax.device_put(Data(features, targets)), settings


def seconds(work: Callable) -> float:
    """Return how long `work` takes until its results are ready."""
    started = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - started


if __name__ == "__main__":
    cli.run(main)
