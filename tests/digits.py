"""scikit-learn's digits and a small network on them, for tests of what methods learn."""

import dataclasses
import functools
import pathlib

import jax
import numpy as np
from small import keep_what_is_compiled

from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Layer, Network, chain
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.data.task import Task
from tl_jax.data.tasks import arrays
from tl_jax.models.layers import ConvNorm, FullyConnected
from tl_jax.plans.plan import Phase, Plan, Settings
from tl_jax.train import evaluate, loop
from tl_jax.train.inputs import for_plan
from tl_jax.train.problem import Problem

PREPROCESSING = Preprocessing(size=8, crop=1.0, mean=128.0, std=96.0, channels=1)
TRUNK = chain(
    "image",
    conv1=ConvNorm(12, 3),
    conv2=ConvNorm(24, 3, 2),
    feature=FullyConnected(32, side=2),
)
NETWORK = Network((*TRUNK, Layer("head", Classifier(10))))


def with_tails(**tails) -> Network:
    """The network with tails on the feature, below the head: the head stays the last layer."""
    read = [Layer(name, module, ("feature",)) for name, module in tails.items()]
    return Network((*TRUNK, *read, Layer("head", Classifier(10), ("feature",))))


@functools.cache
def source() -> Task:
    """1797 digits of 8 x 8 pixels; a tenth for validation, a quarter for the test."""
    return arrays.digits(seed=0)


@functools.cache
def target() -> Task:
    """The same ones in the same splits, light on dark made dark on light, and turned."""
    import scipy.ndimage

    images = np.stack([np.asarray(source().open(i)) for i in range(len(source().ids))])
    turned = scipy.ndimage.rotate(images.astype(float), ANGLE, axes=(1, 2), reshape=False, order=1)
    images = 255 - turned.clip(0, 255).astype(np.uint8)
    return arrays.from_arrays("turned", images, source().labels, seed=0)

ANGLE = 20

def variables(network: Network = NETWORK, seed: int = 0, over=None):
    """Fresh ones, or those `over` them by layer."""
    fresh = network.init(seed, (1, 8, 8, 1))
    return {c: {**fresh[c], **{n: t for n, t in (over or fresh)[c].items() if n in fresh[c]}} for c in fresh}


def problem(objective, network=NETWORK, trained=None, *, sources=None, task=None, seed=0, **settings):
    """These layers (default: all) at a constant rate for three epochs."""
    given = {"epochs": 3, "learning_rate": 1e-2, "batch_norm": "batch", "best_by": "last"} | settings
    rates = {n: float(trained is None or n in trained) for n in network.names}
    plan = Plan("test", (Phase("test", rates, Settings(**given)),))
    return Problem(
        network, PREPROCESSING, task or source(), plan,
        objective=objective, sources=sources or {}, batch_size=64, seed=seed,
    )


def run(mine: Problem, start, workdir: pathlib.Path, *, cache=None, **options):
    """Variables, progress and inputs of a run."""
    inputs_for = for_plan(mine, test_views="none", cache=cache, dtype="float32")
    return loop.run(mine, start, inputs_for, workdir=workdir, **options)


def tested(mine: Problem, found, inputs, split="test") -> dict[str, float]:
    return evaluate.scores(mine, found, inputs, mine.task.splits[split])
