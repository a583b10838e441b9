"""A network and a task small enough to be trained many times, and compiled once, in tests."""

import atexit
import dataclasses
import functools
import shutil
import tempfile

import flax.linen as nn
import jax
import numpy as np

from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.data.task import Task
from tl_jax.data.tasks.arrays import from_arrays
from tl_jax.models.layers import ConvNorm, GlobalPool
from tl_jax.plans.plan import Settings
from tl_jax.plans.strategies import make_plan
from tl_jax.train.problem import Problem

SIZE = 8
PREPROCESSING = Preprocessing(size=SIZE, crop=1.0, mean=(120.0, 110.0, 100.0), std=60.0)


class Block(nn.Module):
    """Convolution, batch norm, relu, dropout."""

    features: int
    stride: int = 1
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x):
        x = ConvNorm(self.features, 3, self.stride, name="conv")(x)
        return nn.Dropout(self.dropout)(x, deterministic=not self.has_rng("dropout"))


@functools.cache
def chain(*, frozen_dropout: float = 0.5, dropout: float = 0.0) -> Network:
    """Dropout in `stage1_block2`, and in the layers below and above `pool`."""
    return Network(
        (
            Layer("stem", ConvNorm(8, 3)),
            Layer("stage1_block1", Block(8)),
            Layer("stage1_block2", Block(8, dropout=frozen_dropout)),
            Layer("stage2_block1", Block(16, stride=2, dropout=dropout)),
            Layer("pool", GlobalPool()),
            Layer("head", Classifier(3, dropout=dropout)),
        )
    )


NAMES = chain().names


@functools.cache
def variables(seed: int = 0):
    """Random weights, and statistics, scales and biases that are not 0 and 1 either."""
    rng = np.random.default_rng(seed)

    def moved(path, leaf):
        if path[-1].key == "kernel":
            return leaf
        return (leaf + rng.uniform(0.0, 0.5, leaf.shape)).astype(np.float32)

    fresh = chain().init(seed, (1, SIZE, SIZE, 3))
    return jax.tree_util.tree_map_with_path(moved, fresh)


@functools.cache
def task(examples: int = 120) -> Task:
    """Grey images in which two rows, by class, are brighter than the noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(examples) % 3
    images = rng.integers(0, 160, (examples, SIZE, SIZE))
    for image, label in zip(images, labels, strict=True):
        image[label * 3 : label * 3 + 2] += 70
    return from_arrays("stripes", images.astype(np.uint8), labels, seed=0, val=0.2, test=0.2)


def settings(**changes) -> Settings:
    """Two epochs at a constant rate."""
    two = Settings(epochs=2, learning_rate=1e-2, schedule="constant")
    return dataclasses.replace(two, **changes)


def problem(plan: str, *, head=None, tune=None, from_layer="stage2_block1", **changes) -> Problem:
    """This network on this task, with the plan called `plan`."""
    options = {"train_head": head or settings(), "tune": tune or settings()}
    options |= {"from_layer": from_layer, "factor": 4.0}
    made = make_plan(plan, NAMES, new=("head",), options=options)
    given = {"chain": chain(), "task": task(), "batch_size": 16} | changes
    return Problem(preprocessing=PREPROCESSING, plan=made, **given)


def keep_what_is_compiled() -> None:
    """So that a program which several runs share is compiled for the first only."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


keep_what_is_compiled()
