"""Classes of unequal size: weights that make up for it, and draws of each class as often."""

import numpy as np

from tl_jax.data.task import Task
from tl_jax.errors import UserError


def train_labels(task: Task, setting: str) -> np.ndarray:
    """Return the class (n,) of each training example: the label that accuracy counts, whatever the
    targets' shares. UserError, which names the `setting`, if examples have none, or several.
    """
    labels, targets = task.truth.get("labels"), task.truth.get("targets")
    fits = labels is not None and labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
    if fits and targets is not None:
        fits = targets.ndim == 2 and np.allclose(targets.sum(1), 1, atol=1e-3)
    if not fits:
        raise UserError(
            f"{setting} needs one class for each example, and those of {task.name!r} have none, or "
            "several: leave it out"
        )
    return task.truth["labels"][task.splits["train"]]


def weighted(task: Task) -> Task:
    """Return the task with weights of training examples multiplied by N / (C n): of N training
    examples in C classes, n have the example's class (scikit-learn's "balanced" class weights).

    The other splits keep their weights, so that all metrics do.
    """
    labels = train_labels(task, "class_weights=balanced")
    classes, number, counts = np.unique(labels, return_inverse=True, return_counts=True)
    factors = len(labels) / (len(classes) * counts)
    weights = task.truth.get("weights", np.ones(len(task.ids), np.float32)).copy()
    weights[task.splits["train"]] *= factors[number]
    return task.with_truth(weights=weights)


def balanced(rng: np.random.Generator, labels: np.ndarray, count: int) -> np.ndarray:
    """Return `count` positions in `labels` (n,), where the counts of classes differ by 1 at most.

    Classes take turns in a random order, so that each batch is balanced too. Within a class every
    example is drawn before one is drawn again.
    """
    classes, labels = np.unique(labels, return_inverse=True)
    rounds = -(-count // len(classes))
    drawn = np.concatenate([rng.permutation(len(classes)) for _ in range(rounds)])[:count]
    positions = np.empty(count, np.int64)
    for number in range(len(classes)):
        own, turns = np.flatnonzero(labels == number), np.flatnonzero(drawn == number)
        again = -(-len(turns) // len(own))
        orders = [rng.permutation(own) for _ in range(again)]
        positions[turns] = np.concatenate(orders)[: len(turns)]
    return positions
