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
    same. They have fewer boxes that differ, of which a detector finds a larger share; so their
    mean is moved to the figure itself.
    """
    count = len(of_classes[0].positives) if of_classes else 0
    random, drawn = np.random.default_rng(0), []

    def figures(weights: np.ndarray) -> list[float | None]:
        each = [mean(precisions(matches, rule, weights)) for matches in of_classes]
        return [*each, mean(each)]

    for _ in range(RESAMPLES if count > 1 else 0):
        drawn.append(figures(np.bincount(random.integers(0, count, count), minlength=count)))
    columns = zip(figures(np.ones(count, int)), zip(*drawn, strict=True), strict=False)
    bounds = [_bounds(value, column) for value, column in columns]
    *per_class, whole = bounds or [None] * (len(of_classes) + 1)
    return {"map": whole, "per_class": per_class}


def _bounds(value: float | None, drawn: Sequence[float | None]) -> tuple[float, float] | None:
    there = [one for one in drawn if one is not None]
    if value is None or not there:
        return None
    moved = np.quantile(there, (0.025, 0.975)) + (value - np.mean(there))
    low, high = np.clip(moved, 0, 1).tolist()
    return low, high
