"""What a run's page says of several labels, of numbers, and of captions."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tl_jax.data.task import Task
from tl_jax.report import captioned, mistakes, plots, text
from tl_jax.stats import metrics

RESAMPLES = 300
SCATTERED = 4  # numbers that have a figure
HOW = f"percentile bootstrap, {RESAMPLES} resamples"


def page(result: dict, predictions: Any, task: Task) -> dict[str, Any]:
    """Return the parts of the page for predictions (n, C) of the test split, or a tree of them."""
    test = result["test"] or {}
    if task.asks == "captions":
        return _captions(test, predictions, task)
    targets = task.targets[task.splits["test"]]
    parts = _labels if task.asks == "labels" else _numbers
    return parts(test, predictions, targets, task)


def _labels(test: dict, predictions: np.ndarray, targets: np.ndarray, task: Task) -> dict:
    thresholds = np.array([row["threshold"] for row in test["per_label"]])

    def value(rows: np.ndarray) -> float | None:
        given = {"targets": targets[rows], "thresholds": thresholds}
        return metrics.of_labels(predictions[rows], names=task.classes, **given)["map"]

    def said(row: int) -> tuple[str, str]:
        names = np.array(task.classes)
        given, true = names[predictions[row] >= thresholds], names[targets[row] > 0.5]
        return ", ".join(given) or "none", ", ".join(true) or "none"

    known = ~np.isnan(targets)
    of_truth = np.where(targets > 0.5, predictions, 1 - predictions)
    losses = np.where(known, -np.log(np.maximum(of_truth, 1e-7)), 0).sum(1)
    return {
        "headline": _headline("map", test, value, len(predictions)),
        "per_label": test["per_label"],
        "mistakes": mistakes.of_others(losses, task, said),
    }


def _numbers(test: dict, predictions: np.ndarray, targets: np.ndarray, task: Task) -> dict:
    def value(rows: np.ndarray) -> float | None:
        given = {"targets": targets[rows], "names": task.classes}
        return metrics.of_numbers(predictions[rows], **given)["r2"]

    def said(row: int) -> tuple[str, str]:
        given, true = (map(text.number, own[row].tolist()) for own in (predictions, targets))
        return ", ".join(given), ", ".join(true)

    spread = np.nanstd(targets, 0)
    errors = np.abs(predictions - targets) / np.where(spread > 0, spread, 1)
    names = task.classes[:SCATTERED]
    return {
        "headline": _headline("r2", test, value, len(predictions)),
        "per_number": test["per_number"],
        "scatters": [
            {"name": name, "image": plots.scatter(targets[:, d], predictions[:, d]).uri}
            for d, name in enumerate(names)
        ],
        "mistakes": mistakes.of_others(np.nansum(errors, 1), task, said),
    }


def _captions(test: dict, predictions: dict[str, Any], task: Task) -> dict:
    metric, name, parts = (
        ("cider", "captions", captioned.of_captions)
        if "words" in predictions
        else ("image_recall_at_1", "searches", captioned.of_pairs)
    )
    of_each, shown = parts(predictions, task)
    return {
        "headline": _headline(
            metric, test, lambda rows: float(of_each[rows].mean()), len(of_each)
        ),
        name: shown,
    }


def _headline(
    metric: str, test: dict, value: Callable[[np.ndarray], float | None], n: int
) -> dict[str, Any]:
    """Return the figure on top, with the interval over draws of the n test examples."""
    random = np.random.default_rng(0)
    drawn = [value(random.integers(0, n, n)) for _ in range(RESAMPLES)] if n > 1 else []
    found = [each for each in drawn if each is not None]
    interval = tuple(np.quantile(found, (0.025, 0.975)).tolist()) if found else None
    return {"metric": metric, "value": test[metric], "interval": interval, "how": HOW, "n": n}
