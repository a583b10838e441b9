"""Probes at each layer of a base: one call returns one table."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.base.base import Base
from tl_jax.data.task import Task
from tl_jax.data.tasks.arrays import from_arrays
from tl_jax.errors import UserError, takes_several
from tl_jax.measure import features
from tl_jax.measure.probes import protocol


class ProbeRow(NamedTuple):
    """The result of one probe on one layer."""

    layer: str
    probe: str
    dimensions: int
    views: str  # of each image, see `probe`
    setting: Any  # chosen on validation
    val: float  # accuracy
    test: float


@dataclasses.dataclass(frozen=True)
class ProbeTable:
    """Accuracies by layer, in forward order, and by probe."""

    rows: tuple[ProbeRow, ...]

    def best(self) -> ProbeRow:
        """Return the layer and probe that validation prefers; of equal ones the lowest layer."""
        return max(self.rows, key=lambda row: row.val)

    def __str__(self) -> str:
        lines = [f"{'layer':<20}{'probe':<14}{'features':>9}  {'views':<9}{'val':>8}{'test':>9}"]
        for row in self.rows:
            features = f"{row.dimensions:>9}  {row.views:<8}"
            accuracies = f"{100 * row.val:7.1f} %{100 * row.test:7.1f} %"
            lines.append(f"{row.layer:<20}{row.probe:<14}{features}{accuracies}")
        return "\n".join(lines)


def probe(
    base: Base,
    what: Task | np.ndarray,
    labels: np.ndarray | None = None,
    *,
    layers: Sequence[str] | None = None,
    probes: Sequence[str] = ("logistic",),
    budget: float = 1.0,
    seed: int = 0,
    pool: str = "mean",
    views: str = "none",
    cache: str | pathlib.Path | None = ".cache",
) -> ProbeTable:
    """Fit probes on the features of each layer (default: all below the classifier).

    `what` is a task, or images (N, H, W) or (N, H, W, 1 or 3), uint8, with `labels` (N,), which are
    split by `seed`. `probes`: ridge, logistic, linear_svm, rbf_svm, neighbours, class_means; the
    setting of each is chosen on validation, then tested once. `budget`: see `protocol.within`.
    `views`: none, flip, flips, dihedral or crops; a probe learns from all of them, and answers with
    the mean over an image's views (see `protocol.examine`).
    """
    takes_several(probes, "probes=")
    if not isinstance(what, Task):
        if labels is None:
            raise UserError("probe takes a task, or images and their labels")
        what = from_arrays("arrays", what, labels, seed=seed)
    examples = protocol.within(what, budget, seed=seed)
    how = {"layers": layers, "pool": pool, "views": views, "cache": cache}
    by_layer = features.of_layers(base, what, **how)
    rows = []
    for layer, of_layer in by_layer.items():
        (answers,) = protocol.examine(of_layer.rows, [(what, examples)], list(probes))
        size = of_layer.rows.shape[-1]
        rows += [
            ProbeRow(layer, name, size, views, answer["setting"], answer["val"], answer["test"])
            for name, answer in answers.items()
        ]
    return ProbeTable(tuple(rows))
