"""Strata, over which splits are spread evenly: what is asked of an example, in a few kinds."""

import numpy as np

from tl_jax.data.boxes.truth import presence
from tl_jax.data.task import Task

BINS = 10  # of a number's range
LEAST = 3  # examples of a stratum: one for each split


def of_task(task: Task) -> list[str]:
    """The stratum of each of the N examples; of a task without an answer all are in one."""
    if task.asks == "numbers":
        return by_number(task.targets[:, 0])
    if task.asks == "labels":
        return by_rarest(task.targets)
    if task.asks == "boxes":
        return by_rarest(presence(task.truth, len(task.classes)))
    if not task.classes:
        return ["all"] * len(task.ids)
    return [task.classes[label] for label in task.labels]


def by_number(numbers: np.ndarray) -> list[str]:
    """Of each of the numbers (N,), or NaN, the part of their range that it is in."""
    parts = min(BINS, len(numbers) // 10)
    if parts < 2 or np.isnan(numbers).all():
        return ["all"] * len(numbers)
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, parts + 1)[1:-1]))
    return _joined(np.digitize(np.nan_to_num(numbers, nan=np.nanmedian(numbers)), edges))


def by_rarest(targets: np.ndarray) -> list[str]:
    """Of each row of targets (N, C), 1, 0 or NaN, the rarest of its labels."""
    counts = np.nansum(targets, 0)
    ranked = np.where(np.nan_to_num(targets) > 0.5, counts, np.inf)
    return _joined(np.where(np.isfinite(ranked.min(1)), ranked.argmin(1), -1))


def _joined(strata: np.ndarray) -> list[str]:
    """Names of strata (N,); one of fewer than `LEAST` examples is joined to the largest."""
    sizes = dict(zip(*np.unique(strata, return_counts=True), strict=True))
    largest = max(sizes, key=lambda one: sizes[one])
    return [str(one if sizes[one] >= LEAST else largest) for one in strata]
