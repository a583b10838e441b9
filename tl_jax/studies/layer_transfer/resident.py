"""Trainings of all seeds in one program, on images in memory."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.chain.network import Network
from tl_jax.chain.variables import merged, select
from tl_jax.data.files import path_of
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.data.task import Task
from tl_jax.engine import prefix
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError
from tl_jax.studies.layer_transfer.net import Net
from tl_jax.studies.layer_transfer.training import BATCH_NORM, Trained, Trainer, Training
from tl_jax.studies.layer_transfer.treatments import layers_up_to
from tl_jax.train.fit import Data, Run, fit
from tl_jax.train.together import stacked, together

BLOCK = 128  # images that run through the frozen layers at once


class Images(NamedTuple):
    """The images and labels that all trainings on a task read."""

    pixels: Any  # (N, S, S, C) uint8
    labels: Any  # (N,) int32, of the task


class Transfer(NamedTuple):
    """One training; trainings of equal shapes run together."""

    prefix: Any  # variables of the frozen layers; empty if all are trained
    run: Run  # the run of the layers above; its examples are rows of the images
    class_numbers: Any  # (C,) int32: `ClassSubset.class_numbers`
    val: Any  # (V,) rows to evaluate, filled up with -1
    test: Any  # (T,) likewise


class Transferred(NamedTuple):
    """The result of a training."""

    variables: Any  # of the layers above the frozen ones
    loss: jax.Array  # (E,)
    val: jax.Array  # the number of rows that are classified right
    test: jax.Array  # likewise


def transferred(
    transfer: Transfer,
    images: Images,
    *,
    chain: Network,
    stop: str | None,
    preprocessing: Preprocessing,
    **settings: Any,
) -> Transferred:
    """Train the layers above `stop` (None: all) on the run's examples; for `together` to run.

    The frozen layers run once for each image, so a training costs only the layers above them.
    `settings` are those of `fit.fit`.
    """

    def frozen(row):
        x = preprocessing.normalise(images.pixels[row][None])
        return x[0] if stop is None else chain.apply(transfer.prefix, x, stop=stop).output[0]

    classes = chain.layers[-1].module.classes
    rows = transfer.run.examples
    data = Data(
        jax.lax.map(frozen, rows, batch_size=BLOCK),
        jax.nn.one_hot(transfer.class_numbers[images.labels[rows]], classes),
    )
    run = transfer.run._replace(examples=jnp.arange(len(rows)))
    fitted = fit(run, data, chain=chain, start=stop, **settings)

    def right(row):
        logits = chain.apply(fitted.variables, frozen(row)[None], start=stop).output[0]
        return (row >= 0) & (logits.argmax() == transfer.class_numbers[images.labels[row]])

    val, test = (
        jax.lax.map(right, rows, batch_size=BLOCK).sum() for rows in (transfer.val, transfer.test)
    )
    return Transferred(fitted.variables, fitted.loss, val, test)


def trainer(config: Any, net: Net) -> Trainer:
    """Return a trainer for the config; it decodes the images of each task once."""
    images = {}  # by the task's fingerprint

    def train(training: Training) -> list[Trained]:
        task = training.subsets[0].task
        if task.fingerprint not in images:
            images[task.fingerprint] = _images(config, net, task)
        chain = net.chain(len(training.subsets[0].classes))
        done = together(
            transferred,
            stacked(_transfers(config, chain, training)),
            images[task.fingerprint],
            chain=chain,
            stop=training.stop,
            preprocessing=net.preprocessing,
            epochs=training.epochs,
            batch_size=config.batch_size,
            batch_norm=BATCH_NORM,
            **{k: config.train[k] for k in ("optimizer", "schedule", "clip")},
        )
        return _trained(training, jax.device_get(done))

    return train


def _transfers(config: Any, chain: Network, training: Training) -> list[Transfer]:
    """Return one training for each seed, all of the same shapes."""
    frozen = layers_up_to(chain, training.stop)
    learning = [name for name in chain.names if name not in frozen]
    rate, decay = config.train.learning_rate, config.train.weight_decay
    longest = {s: max(len(subset.rows(s)) for subset in training.subsets) for s in ("val", "test")}
    transfers = []
    each = zip(training.subsets, training.variables, training.seeds, strict=True)
    for split_seed, (subset, variables, seed) in enumerate(each):
        rows = subset.rows("train", per_class=training.budget, seed=split_seed)
        rows_of = {
            s: np.pad(subset.rows(s), (0, most - len(subset.rows(s))), constant_values=-1)
            for s, most in longest.items()
        }
        run = Run(select(variables, learning), seed, rate, decay, rows, np.ones(len(rows)))
        transfers.append(Transfer(select(variables, frozen), run, subset.class_numbers, **rows_of))
    return transfers


def _trained(training: Training, done: Transferred) -> list[Trained]:
    """Split the results, whose leaves are (S, ...), into one for each seed.

    UserError for a loss that is not finite.
    """
    if not np.isfinite(done.loss).all():
        raise UserError("the loss is not finite: try a smaller train.learning_rate=")
    trained = []
    for seed, (subset, variables) in enumerate(
        zip(training.subsets, training.variables, strict=True)
    ):
        one = jax.tree.map(lambda leaf, seed=seed: leaf[seed], done)
        row = {s: int(getattr(one, s)) / len(subset.rows(s)) for s in ("val", "test")}
        row["loss"] = float(one.loss[-1])
        trained.append(Trained(merged(variables, one.variables), row))
    return trained


def _images(config: Any, net: Net, task: Task) -> Images:
    """Return the pixels and labels of a task, on the device."""
    every = np.arange(len(task.ids))
    if config.cache:
        inputs = prefix.pixels(task, net.preprocessing, cache=path_of(config.cache))
    else:
        inputs = prefix.decoded(task, net.preprocessing)
    pixels = inputs.images(every)
    return Parallel().place(Images(pixels, task.labels))
