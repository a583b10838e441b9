"""Further truths of a task's examples, for several tasks at once: of its data, or derived."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import PIL.Image

from tl_jax import registry
from tl_jax.data.images import Image
from tl_jax.data.task import Task, Truth
from tl_jax.errors import UserError, takes, takes_whole, unknown

TURNS = {turn: getattr(PIL.Image.Transpose, f"ROTATE_{90 * turn}") for turn in (1, 2, 3)}


def with_truths(task: Task, specs: Sequence[str], *, seed: int) -> Task:
    """Return the task with the rows (N, C) of these truths in `truth`, under their names.

    Each of `specs` is a name in `task.further`, or one of `TRUTHS`, as "parity" or "random(2)".
    UserError, with the near miss, for an unknown one.
    """
    for spec in specs:
        name = spec.split("(")[0].strip()
        if name not in {**task.further, **TRUTHS}:
            raise unknown(f"truth of {task.name!r}", name, [*task.further, *TRUTHS])
        if name in task.truth:
            raise UserError(
                f"truths={', '.join(specs)}: each once, and none called as what a task has anyway "
                f"({', '.join(task.truth)})"
            )
        if name not in task.further:
            derive, options = registry.chosen("truth", spec, TRUTHS)
            task = derive(task, seed, **options)
        task = task.with_truth(**{name: task.further[name].rows})
    return task


def one_hot(numbers: np.ndarray, classes: Sequence[str]) -> Truth:
    """Return the truth of N examples in the classes of these numbers (N,); -1: no label."""
    numbers = np.asarray(numbers, np.int64)
    rows = np.eye(len(classes), dtype=np.float32)[numbers] * (numbers >= 0)[:, None]
    return Truth(tuple(classes), rows.astype(np.float32))


def parity(task: Task, seed: int) -> Task:
    """Whether the number of an example's class is odd: what follows from the class."""
    return _with(task, "parity", one_hot(task.labels % 2, ("even", "odd")))


def random(task: Task, seed: int, classes: int = 2) -> Task:
    """A class that is drawn: what nothing can be learned about but by heart."""
    takes_whole(classes, "random: classes=", 2, 1000)
    drawn = np.random.default_rng([seed, 1]).integers(classes, size=len(task.ids))
    return _with(task, "random", one_hot(drawn, tuple(map(str, range(classes)))))


def turned(task: Task, seed: int) -> Task:
    """By how much an image is turned, in quarters, which are drawn; the images are turned so."""
    turns = np.random.default_rng([seed, 2]).integers(4, size=len(task.ids))
    if task.open is None:
        raise UserError(f"the truth 'turned' is of images, and the task {task.name!r} has none")

    def open_turned(index: int) -> Image:
        image, turn = task.image(index), int(turns[index])
        if isinstance(image, np.ndarray):
            return np.rot90(image, turn)
        return image.transpose(TURNS[turn]) if turn else image

    digest = hashlib.sha256(repr((task.fingerprint, turns.tolist())).encode()).hexdigest()
    images = dataclasses.replace(task, open=open_turned, fingerprint=digest)
    return _with(images, "turned", one_hot(turns, ("0", "90", "180", "270")))


TRUTHS = {f.__name__: f for f in (parity, random, turned)}


def thinned(task: Task, name: str, share: float, *, seed: int) -> Task:
    """Return the task with labels of this truth for only a share of its examples to train on and
    of those to validate on, drawn at random, at least one; "" is the task's own classes.
    """
    takes(0 < share <= 1, f"the share of labels of {name or 'the classes'!r}", "one above 0 and at "
          "most 1", share)  # fmt: skip
    without = np.zeros(len(task.ids), bool)
    for split in ("train", "val"):
        drawn = np.random.default_rng([seed, 3, *name.encode()])
        rows = drawn.permutation(task.splits[split])
        without[rows[max(1, round(share * len(rows))) :]] = True
    if not name:
        return task.with_truth(weights=np.where(without, 0, task.weights).astype(np.float32))
    rows = np.where(without[:, None], 0, task.truth[name]).astype(np.float32)
    return task.with_truth(**{name: rows})


def _with(task: Task, name: str, truth: Truth) -> Task:
    return dataclasses.replace(task, further={**task.further, name: truth})
