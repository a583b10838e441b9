"""scikit-learn's digits and a small network on them, for tests of what methods learn."""

import dataclasses
import functools
import pathlib
from collections.abc import Collection
from typing import Any

import flax.linen as nn
import numpy as np
import small  # noqa: F401 (keeps what is compiled)

from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Network, chain
from tl_jax.chain.places import Layer
from tl_jax.chain.variables import overlaid
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.data.task import Task
from tl_jax.data.tasks import arrays
from tl_jax.models.layers import ConvNorm, FullyConnected
from tl_jax.plans.plan import Phase, Plan, Settings
from tl_jax.train import evaluate, loop
from tl_jax.train.inputs import for_plan
from tl_jax.train.objective import Objective
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.problem import Problem

PREPROCESSING = Preprocessing(size=8, crop=1.0, mean=128.0, std=96.0, channels=1)


def network(**tails: nn.Module | Layer) -> Network:
    """Two convolutions, a feature, a head; `tails` read the feature, but layers what they say."""
    trunk = chain(
        "image",
        conv1=ConvNorm(12, 3),
        conv2=ConvNorm(24, 3, 2),
        feature=FullyConnected(32),
    )
    beside = [
        tail if isinstance(tail, Layer) else Layer(name, tail, ("feature",))
        for name, tail in tails.items()
    ]
    return Network((*trunk, *beside, Layer("head", Classifier(10), ("feature",))))


@functools.cache
def source() -> Task:
    """1797 digits of 8 x 8 pixels; a tenth for validation, a quarter for the test."""
    return arrays.digits(seed=0)


@functools.cache
def target() -> Task:
    """The same ones in the same splits, by another camera: turned and noisy."""
    import scipy.ndimage

    images = np.stack([np.asarray(source().open(i), float) for i in range(len(source().ids))])
    turned = scipy.ndimage.rotate(images, 10, axes=(1, 2), reshape=False, order=1)
    noise = np.random.default_rng(0).uniform(0, 64, images.shape)
    seen = (turned + noise).clip(0, 255).astype(np.uint8)
    return arrays.from_arrays("turned digits", seen, source().labels, seed=0)


@functools.cache
def with_parity() -> Task:
    """The digits, and whether they are odd."""
    return source().with_truth(parity=np.eye(2, dtype=np.float32)[source().labels % 2])


def problem(
    objective: Objective,
    network: Network,
    trained: Collection[str] = (),
    *,
    task: Task | None = None,
    adapted: bool = False,
    seed: int = 0,
    **settings: Any,
) -> Problem:
    """One phase in which these layers learn, or all; `adapted`: from the source to the target."""
    usual = {"epochs": 3, "learning_rate": 1e-2, "batch_norm": "batch", "best_by": "last"}
    rates = {name: float(not trained or name in trained) for name in network.names}
    return Problem(
        network,
        PREPROCESSING,
        target() if adapted else task or source(),
        Plan("test", (Phase("test", rates, Settings(**usual | settings)),)),
        objective=objective,
        sources={"source": source(), "target": target()} if adapted else {},
        batch_size=64,
        seed=seed,
    )


def begun(network: Network, over: Any = None, *, seed: int = 0) -> Any:
    """Fresh variables, but those `over` them where the network has such."""
    fresh = network.init(seed, (1, 8, 8, 1))
    if over is None:
        return fresh
    return {
        kind: overlaid(trees, {name: t for name, t in over[kind].items() if name in trees})
        for kind, trees in fresh.items()
    }


def run(mine: Problem, variables: Any, folder: pathlib.Path, *, stored: bool = True):
    """Variables, progress and last inputs of a run, stored outputs and all in the folder."""
    cache = folder / "cache" if stored else None
    inputs_for = for_plan(mine, test_views="none", cache=cache, dtype="float32")
    return loop.run(mine, variables, inputs_for, workdir=folder)


def scores(mine: Problem, variables: Any) -> dict[str, float]:
    """Of the test split, from pixels."""
    pixels = dataclasses.replace(mine, sources={}, objective=CrossEntropy())
    inputs_for = for_plan(pixels, test_views="none", cache=None, dtype="float32")
    inputs = inputs_for(mine.plan.phases[0], variables)
    return evaluate.scores(mine, variables, inputs, mine.task.splits["test"])
