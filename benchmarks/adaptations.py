"""Measure many small adaptations: DANN on features in memory, in one program and one by one.

    python -m benchmarks.adaptations --runs=16

A dense layer, a classifier and a classifier of domains (`domain_adversarial`) learn on the features
of two domains, with different seeds: in one program (`tl_jax.train.together`), and as runs of
`tl_jax.train.loop`, one after the other, each of which predicts val once at its end. Both have
compiled before. Features are random, because results do not matter here. The ways take turns.
"""

import statistics
import time

import flax.linen as nn
import jax
import numpy as np
from absl import flags

from benchmarks.measure import busy_cores, idle_note
from experiments import cli
from tl_jax.chain import heads
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.task import Task
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.plans.plan import Phase, Plan, Settings
from tl_jax.train import loop, objectives
from tl_jax.train.fit import Data, Run, fit
from tl_jax.train.inputs import for_plan
from tl_jax.train.problem import Problem
from tl_jax.train.together import stacked, together

_EXAMPLES = flags.DEFINE_integer("examples", 1024, "Training examples of a domain.", lower_bound=32)
_FEATURES = flags.DEFINE_integer("features", 256, "Features in a row.", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Epochs.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch", 32, "Examples of a domain in a batch.", lower_bound=2)
_RUNS = flags.DEFINE_integer("runs", 16, "Adaptations.", lower_bound=2)
_TURNS = flags.DEFINE_integer("turns", 5, "Number of measurements of each.", lower_bound=2)
CLASSES = 10


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    busy = busy_cores()
    chain, task = network(), noise()
    seeds = range(_RUNS.value)
    ways = {
        "together": lambda: at_once(chain, task, seeds),
        "one by one": lambda: [one(chain, task, seed) for seed in seeds],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(_TURNS.value + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn:  # the first compiles
                times[name].append(time.perf_counter() - started)
    for name, values in times.items():
        print(f"{name}: {statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})")
    ratio = statistics.median(times["one by one"]) / statistics.median(times["together"])
    what = f"{_EXAMPLES.value} x {_FEATURES.value} a domain, {_EPOCHS.value} epochs"
    print(f"{_RUNS.value} adaptations of {what}: {ratio:.2f} times as fast{idle_note(busy)}")


def network() -> Network:
    """A dense layer, a head, and the classifier of domains."""
    plain = Network((Layer("body", nn.Dense(64)), *heads.make("linear", CLASSES)))
    return plain.with_layers(*_objective().tails(plain))


def noise() -> Task:
    """Features (N, D) in three splits; val and test have a batch each."""
    count, batch = _EXAMPLES.value, _BATCH.value
    rng, rows = np.random.default_rng(0), np.arange(count + 2 * batch)
    parts = np.split(rows, [count, count + batch])
    features = rng.standard_normal((len(rows), _FEATURES.value), np.float32)
    return Task(
        "noise",
        tuple(map(str, rows)),
        dict(zip(("train", "val", "test"), parts, strict=True)),
        "noise",
        unweighted(rng.integers(0, CLASSES, len(rows)), CLASSES),
        classes=tuple(map(str, range(CLASSES))),
        arrays={"image": features},
    )


def at_once(chain: Network, task: Task, seeds: range) -> None:
    rows = task.splits["train"].astype(np.int32)
    domains = dict.fromkeys(("source", "target"))
    numbers, ones = np.float32(1e-3), np.ones(len(rows), np.float32)
    runs = [
        Run(
            chain.init(seed, (1, _FEATURES.value)),
            *(np.int32(seed), numbers, np.float32(1e-4)),
            *(dict.fromkeys(domains, each) for each in (rows, ones)),
        )
        for seed in seeds
    ]
    data = dict.fromkeys(domains, Data(task.arrays["image"], task.targets))
    options = {"epochs": _EPOCHS.value, "batch_size": _BATCH.value, "objective": _objective()}
    jax.block_until_ready(together(fit, stacked(runs), data, chain=chain, start=None, **options))


def one(chain: Network, task: Task, seed: int) -> None:
    settings = Settings(epochs=_EPOCHS.value, learning_rate=1e-3, weight_decay=1e-4, best_by="last")
    problem = Problem(
        chain,
        None,
        task,
        Plan("adapt", (Phase("adapt", dict.fromkeys(chain.names, 1.0), settings),)),
        seed=seed,
        batch_size=_BATCH.value,
        objective=_objective(),
        sources={"source": task, "target": task},
    )
    first = chain.init(seed, (1, _FEATURES.value))
    inputs = for_plan(problem, test_views="none", cache=None, dtype="float32")
    loop.run(problem, first, inputs, workdir=None)


def _objective():
    return objectives.make("domain_adversarial(width=64)")


if __name__ == "__main__":
    cli.run(main)
