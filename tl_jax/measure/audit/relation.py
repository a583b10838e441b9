"""How a base's features suit a task, layer by layer, and how far another task's images are."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tl_jax.data.task import Task
from tl_jax.measure.features import LayerFeatures
from tl_jax.measure.probes import protocol
from tl_jax.measure.scores import logme, proxy_a_distance
from tl_jax.measure.similarity import linear_cka

MOST = 2000  # examples of a task that a domain classifier sees


class Suits(NamedTuple):
    """How well L layers in forward order suit a task; the last one is the bottleneck."""

    layers: tuple[str, ...]
    accuracy: np.ndarray  # (L,) of a ridge probe on validation
    alignment: np.ndarray  # (L,) linear CKA of the features with the class indicators
    logme: float  # of the bottleneck, on the training split

    @property
    def gap(self) -> float:
        """Accuracy of the best layer minus that of the bottleneck; 0 if that is the best."""
        return float(self.accuracy.max() - self.accuracy[-1])


def suits(features: Mapping[str, LayerFeatures], task: Task, *, seed: int = 0) -> Suits:
    """Return how well each layer suits the task; `features` are in forward order.

    The alignment of features and labels is that of two kernels (Cortes, Mohri & Rostamizadeh 2012,
    JMLR 13, 795-828), by the estimator of `linear_cka`. The test split stays unseen.
    """
    examples = protocol.within(task, 1.0, seed=seed)
    train = task.splits["train"]
    indicators = np.eye(len(task.classes))[task.labels[train]]
    accuracy = []
    for of_layer in features.values():
        (answers,) = protocol.examine(of_layer.rows, [(task, examples)], ["ridge"])
        accuracy.append(answers["ridge"]["val"])
    rows = [of_layer.rows[train] for of_layer in features.values()]
    return Suits(
        tuple(features),
        np.array(accuracy),
        linear_cka(rows, [indicators], seed=seed)[:, 0],
        logme(rows[-1], task.labels[train]),
    )


def distance(first: np.ndarray, second: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """Return the proxy A-distance of two sets of features (N, D), (M, D), and its chance level.

    The level is the distance between two random halves of the first set. At most `MOST` examples of
    each set are compared, a random sample.
    """
    rng = np.random.default_rng(seed)
    first, second = (rows[rng.permutation(len(rows))[:MOST]] for rows in (first, second))
    half = len(first) // 2
    return (
        proxy_a_distance(first, second, seed=seed),
        proxy_a_distance(first[:half], first[half:], seed=seed),
    )
