"""How transferable is each layer? The experiment of Yosinski et al. 2014 (arXiv:1411.1792).

Bases A and B are trained on two halves of a dataset, or on two datasets. For every n the first n
layers are taken from one of them and the layers above start afresh, to be trained on B's half:

    BnB, AnB      the first n layers from B itself ("selffer") or from A ("transfer"), frozen
    BnB+, AnB+    the same, but all layers learn
    random        the first n layers as they were drawn, frozen

What BnB lacks of base B is lost because layers that had learned together were parted
(co-adaptation); what AnB lacks of BnB, because A's layers are A's own (specificity); what AnB+ has
above BnB+ is what remains of A after fine-tuning (generalisation).
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.chain.network import Network
from tl_jax.chain.variables import merged, select
from tl_jax.data import splits
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.data.task import Task
from tl_jax.errors import UserError, unknown
from tl_jax.train.fit import Data, Run, fit

BLOCK = 128  # images that go through the frozen layers at once


class Treatment(NamedTuple):
    """What becomes of the first n layers."""

    donor: str | None  # whose they are: "A", "B"; None: drawn at random
    frozen: bool


TREATMENTS = {
    "BnB": Treatment("B", frozen=True),
    "AnB": Treatment("A", frozen=True),
    "BnB+": Treatment("B", frozen=False),
    "AnB+": Treatment("A", frozen=False),
    "random": Treatment(None, frozen=True),
}

SOURCE = (
    "mean of the ten best validation accuracies of each of 163 logs in yosinski/convnet_transfer"
)
# Accuracy at n = 1 to 7 of CaffeNet on halves of ImageNet: our means of their logs
PUBLISHED = {
    "BnB": (0.6267, 0.6235, 0.6211, 0.6048, 0.5935, 0.6188, 0.6232),
    "AnB": (0.6282, 0.6239, 0.6189, 0.5998, 0.5780, 0.5806, 0.5425),
    "BnB+": (0.6177, 0.6215, 0.6313, 0.6287, 0.6301, 0.6276, 0.6266),
    "AnB+": (0.6373, 0.6358, 0.6426, 0.6398, 0.6446, 0.6460, 0.6465),
    "random": (0.4917, 0.4026, 0.0011, 0.0191, 0.0499, 0.0145, 0.0146),
}
PUBLISHED_BASE = 0.6251
# The same of AnB with 449 natural and 551 man-made classes, and the target's own base
PUBLISHED_DISSIMILAR = {
    "natural to man-made": (0.5392, 0.5214, 0.5008, 0.4616, 0.4098, 0.3742, 0.2914),
    "man-made to natural": (0.6571, 0.6506, 0.6250, 0.5824, 0.5219, 0.4851, 0.3990),
}
PUBLISHED_DISSIMILAR_BASE = {"natural to man-made": 0.5372, "man-made to natural": 0.6534}


# Where a chain is cut, and the two sides of the data


def cuts(chain: Network, input_shape: Sequence[int]) -> dict[str, str]:
    """For n = 1 to L - 1 the n-th layer with parameters, and the last that goes with it.

    Poolings belong to the layer below. The classifier, the L-th, is always fresh.
    """
    params = chain.shapes(input_shape)[0]["params"]
    found, own = {}, None
    for name in chain.names:
        own = name if params.get(name) else own
        if own is not None:
            found[own] = name
    if len(found) < 2:
        raise UserError("a chain of one layer with parameters has nothing to transfer")
    return dict(list(found.items())[:-1])


def halves(classes: Sequence[str], seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Two random halves of the classes; an odd one is left out. UserError for fewer than four."""
    if len(classes) < 4:
        raise UserError(
            f"{len(classes)} classes cannot be halved: each half needs two of its own to tell apart"
        )
    order = np.random.default_rng(seed).permutation(len(classes))
    half = len(classes) // 2
    parts = order[:half], order[half : 2 * half]
    return tuple(tuple(classes[i] for i in sorted(part)) for part in parts)


def group(classes: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The classes that a group names; UserError for an unknown one, and for fewer than two."""
    for name in names:
        if name not in classes:
            raise unknown("class in a group", name, classes)
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise UserError(f"a group names at least two classes, each once; got {', '.join(names)!r}")
    return tuple(names)


class Half(NamedTuple):
    """Some classes of a task, as a task of its own that shares the other's examples."""

    task: Task
    classes: tuple[str, ...]

    @property
    def places(self) -> np.ndarray:
        """(C,) int32: of each class of the task the number that it has here, or -1."""
        order = {name: number for number, name in enumerate(self.classes)}
        return np.array([order.get(name, -1) for name in self.task.classes], np.int32)

    def rows(self, split: str, *, per_class: int = 0, seed: int = 0) -> np.ndarray:
        """The split's examples of these classes; of each class only so many, if not 0."""
        rows = self.task.splits[split]
        rows = rows[self.places[self.task.labels[rows]] >= 0]
        if per_class:
            names = np.array(self.task.classes)[self.task.labels[rows]]
            rows = rows[splits.budget(np.arange(len(rows)), names, per_class=per_class, seed=seed)]
        return rows

    def alone(self, *, per_class: int = 0, seed: int = 0) -> Task:
        """The half as a `Task`, without the other examples."""
        kept = np.flatnonzero(self.places[self.task.labels] >= 0)
        columns = [self.task.classes.index(name) for name in self.classes]
        own = {name: self.rows(name) for name in self.task.splits}
        own["train"] = self.rows("train", per_class=per_class, seed=seed)
        told = hashlib.sha256(repr((self.task.fingerprint, self.classes)).encode()).hexdigest()
        return dataclasses.replace(
            self.task,
            classes=self.classes,
            ids=tuple(self.task.ids[i] for i in kept),
            open=lambda index: self.task.open(int(kept[index])),
            labels=self.places[self.task.labels[kept]],
            targets=self.task.targets[kept][:, columns],
            weights=self.task.weights[kept],
            graded_labels=self.places[self.task.graded_labels[kept]],
            graded_weights=self.task.graded_weights[kept],
            splits={name: np.searchsorted(kept, rows) for name, rows in own.items()},
            fingerprint=told,
        )


# Training


class Images(NamedTuple):
    """What all trainings on a task read."""

    pixels: Any  # (N, S, S, C) uint8
    labels: Any  # (N,) int32, of the task


class Transfer(NamedTuple):
    """One training; those of equal shapes go together."""

    below: Any  # variables of the frozen layers; none if all learn
    run: Run  # of the layers above them; its examples are rows of the images
    places: Any  # (C,) int32: `Half.places`
    val: Any  # (V,) rows to be judged on, filled up with -1
    test: Any  # (T,) likewise


class Transferred(NamedTuple):
    """What a training gives."""

    variables: Any  # of the layers above the frozen ones
    loss: jax.Array  # (E,)
    val: jax.Array  # how many of the rows are told right
    test: jax.Array


def transferred(
    given: Transfer,
    images: Images,
    *,
    chain: Network,
    stop: str | None,
    preprocessing: Preprocessing,
    **settings: Any,
) -> Transferred:
    """Train the layers above `stop` (None: all) on the run's examples; to be run by `together`.

    The frozen layers see each image once, so that a training costs what is above them. `settings`
    are those of `together.fit`.
    """

    def frozen(row):
        x = preprocessing.normalise(images.pixels[row][None])
        return x[0] if stop is None else chain.apply(given.below, x, stop=stop).output[0]

    classes = chain.layers[-1].module.classes
    rows = given.run.examples
    data = Data(
        jax.lax.map(frozen, rows, batch_size=BLOCK),
        jax.nn.one_hot(given.places[images.labels[rows]], classes),
    )
    run = given.run._replace(examples=jnp.arange(len(rows)))
    fitted = fit(run, data, chain=chain, start=stop, **settings)

    def right(row):
        logits = chain.apply(fitted.variables, frozen(row)[None], start=stop).output[0]
        return (row >= 0) & (logits.argmax() == given.places[images.labels[row]])

    val, test = (
        jax.lax.map(right, rows, batch_size=BLOCK).sum() for rows in (given.val, given.test)
    )
    return Transferred(fitted.variables, fitted.loss, val, test)


def beginning(
    chain: Network, stop: str | None, *, donor: Any, fresh: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Variables of which the layers up to `stop` are the donor's, and the names of these."""
    below = () if stop is None else chain.cut(stop).names
    return merged(fresh, select(donor, below)), below


# What came of it


def decomposition(base: np.ndarray, accuracy: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The drop in two parts, and the gain, each paired by seed: (L, S) from `base` (S,) and
    `accuracy` by treatment (L, S).
    """
    return {
        "co-adaptation": base - accuracy["BnB"],
        "specificity": accuracy["BnB"] - accuracy["AnB"],
        "generalisation": accuracy["AnB+"] - accuracy["BnB+"],
    }


def interval(values: np.ndarray, *, resamples: int = 9999) -> tuple[float, float, float]:
    """Mean of (S,), and its 95 % percentile bootstrap interval (Efron 1979), always the same draws.

    Over few seeds it is too narrow: of five, the true mean is outside about one time in six. NaN
    where there is one value alone.
    """
    from scipy import stats

    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return float(values.mean()), float("nan"), float("nan")
    options = {"n_resamples": resamples, "method": "percentile", "rng": np.random.default_rng(0)}
    low, high = stats.bootstrap((values,), np.mean, **options).confidence_interval
    return float(values.mean()), float(low), float(high)
