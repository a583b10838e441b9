"""Intervals of average precisions: by how much they vary with the images that are judged."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tl_jax.stats.detection.matches import Matches
from tl_jax.stats.detection.precision import mean, precisions

RESAMPLES = 300


def intervals(of_classes: Sequence[Matches], rule: str) -> dict[str, Any]:
    """Return the 95 % percentile bootstrap interval over images of the mean, `map`, and of each
    class, `per_class`; None where there are no boxes, or fewer than two images.

    Images are drawn, not boxes: those of an image are not independent. The draws are always the
    same.
    """
    count = len(of_classes[0].positives) if of_classes else 0
    random, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES if count > 1 else 0):
        weights = np.bincount(random.integers(0, count, count), minlength=count)
        each = [mean(precisions(matches, rule, weights)) for matches in of_classes]
        drawn.append([*each, mean(each)])
    bounds = [_bounds(column) for column in zip(*drawn, strict=True)]
    *per_class, whole = bounds or [None] * (len(of_classes) + 1)
    return {"map": whole, "per_class": per_class}


def _bounds(values: Sequence[float | None]) -> tuple[float, float] | None:
    there = [value for value in values if value is not None]
    if not there:
        return None
    low, high = np.quantile(there, (0.025, 0.975)).tolist()
    return low, high
