"""The report of a finished run: one HTML file without scripts or other files."""

import json
import math
import pathlib
from typing import Any

import numpy as np

from tl_jax.data.task import Task
from tl_jax.errors import UserError
from tl_jax.report import answered, html, mistakes, plots, text
from tl_jax.stats import intervals, metrics

MOST_PAIRS = 10
# Parts that pages of some tasks have, and others not
PARTS = (
    *("confusion", "per_class", "calibration", "per_label", "per_number", "scatters"),
    *("captions", "searches", "mistakes"),
)
LARGE = 12  # with more classes a confusion matrix is a picture and the class table is folded
HOW = {
    "image_accuracy": "Wilson score",
    "accuracy": "Wilson score",
    "weighted_accuracy": f"percentile bootstrap, {intervals.RESAMPLES:,} resamples",
}


def can_be_drawn() -> bool:
    """Return whether the report's libraries are installed."""
    try:
        html.require()
    except UserError:
        return False
    return True


def write(
    directory: pathlib.Path,
    *,
    result: dict,
    history: list[dict],
    probabilities: np.ndarray,
    task: Task,
    words: mistakes.Words | None = None,
) -> pathlib.Path:
    """Write `directory`/report.html and return its path; it appears whole or not at all.

    `probabilities` (n, C), of a task of numbers these, are those of the test split, in the order of
    `task.splits["test"]`. `words(text, answer)`: the words of a text, and the weight of each for an
    answer. UserError if they cannot be, or if matplotlib or jinja2 is not installed.
    """
    html.require()
    if task.asks == "classes":
        own = _classified(result, probabilities, task, words)
    else:
        own = {"comparison": comparison(result, {})} | answered.page(result, probabilities, task)
    page = html.render(
        "report.html.j2",
        result=result,
        metrics=text.shown(result["val"] or {}, result["test"] or {}),
        labels=text.METRICS,
        plain=text.PLAIN,
        strip=strip(result["plan"]["phases"]),
        curves=_curves(history, result["plan"]["phases"]),
        large=len(task.classes) > LARGE,
        shares=time_shares(result),
        config=json.dumps(result["config"], indent=2, default=str, ensure_ascii=False),
        **(dict.fromkeys(PARTS) | own),
    )
    return html.put(pathlib.Path(directory) / "report.html", page)


def _classified(
    result: dict, probabilities: np.ndarray, task: Task, words: mistakes.Words | None
) -> dict[str, Any]:
    """Return the parts of the page that are of classes alone."""
    _check(result, probabilities, task)
    bounds, test = metric_intervals(probabilities, task), task.splits["test"]
    counted = {task.wholes[int(example)] for example in test} if task.wholes else test
    return {
        "headline": headline(result, bounds, n=len(counted)),
        "comparison": comparison(result, bounds),
        "confusion": _confusion((result["test"] or {}).get("confusion"), task.classes),
        "per_class": _per_class(result),
        "calibration": _calibration(probabilities, task, result.get("calibration")),
        "mistakes": mistakes.of_classes(probabilities, task, words),
    }


def _check(result: dict, probabilities: np.ndarray, task: Task) -> None:
    expected = (len(task.splits["test"]), len(task.classes))
    if probabilities.shape != expected:
        raise UserError(
            f"probabilities have shape {probabilities.shape}, but the test split of {task.name!r}"
            f" has {expected[0]} examples of {expected[1]} classes: pass those of the test split"
        )
    stated = (result["test"] or {}).get("accuracy")
    if stated is None or not expected[0]:
        return
    measured = _correct(probabilities, task.labels[task.splits["test"]]).mean()
    if abs(measured - stated) > 0.005:
        raise UserError(
            f"probabilities give {text.percent(measured)} test accuracy, but the result says "
            f"{text.percent(stated)}: pass those of this run in the order of the test split"
        )


def _correct(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return probabilities.argmax(1) == labels


def metric_intervals(
    probabilities: np.ndarray, task: Task
) -> dict[str, tuple[float, float] | None]:
    """Return 95 % intervals of the test metrics that are means over examples: see `HOW`."""
    test = task.splits["test"]
    correct = _correct(probabilities, task.labels[test])
    graded = _correct(probabilities, task.graded_labels[test])
    whole = {}
    if task.wholes:
        names = [task.wholes[int(example)] for example in test]
        groups = metrics.accuracy_of_groups(probabilities, task.labels[test], names)
        whole["image_accuracy"] = intervals.wilson(*groups)
    return whole | {
        "accuracy": intervals.wilson(int(correct.sum()), len(test)),
        "weighted_accuracy": intervals.bootstrap(graded, task.graded_weights[test]),
    }


def headline(result: dict, bounds: dict, *, n: int) -> dict[str, Any]:
    """Return the figure on top, of `n` examples: weighted accuracy if others published it; of tiles
    that of the `n` images, as the tiles of an image are right or wrong together.
    """
    others = {text.metric_key(p["metric"]) for p in result["published"] or ()}
    test = result["test"] or {}
    weighted = "weighted_accuracy" in others and not text.missing(test.get("weighted_accuracy"))
    metric = "weighted_accuracy" if weighted else "accuracy"
    metric = "image_accuracy" if "image_accuracy" in test else metric
    value = test.get(metric)
    interval = None if text.missing(value) else bounds[metric]
    return {"metric": metric, "value": value, "interval": interval, "how": HOW[metric], "n": n}


def comparison(result: dict, bounds: dict) -> dict[str, Any]:
    """Return this run's and published figures by metric, as fractions, and a common scale."""
    groups: dict[str, list[dict]] = {}
    for p in result["published"] or ():
        row = {"what": p["what"], "source": p["source"], "figure": text.fraction(p["figure"])}
        groups.setdefault(text.metric_key(p["metric"]), []).append(row)
    table: list[dict[str, Any]] = []
    for key, rows in groups.items():
        ours = (result["test"] or {}).get(key)
        ours = None if text.missing(ours) else ours
        interval = None if ours is None else bounds.get(key)
        label = text.METRICS.get(key, key.replace("_", " "))
        table.append({"metric": label, "ours": ours, "interval": interval, "rows": rows})
    figures = [
        x
        for group in table
        for x in (group["ours"], *(group["interval"] or ()), *(r["figure"] for r in group["rows"]))
        if not text.missing(x)
    ]
    low = math.floor((min(figures, default=0) - 0.01) * 20) / 20  # the next 5 % below the lowest
    return {"groups": table, "low": max(low, 0)}


def strip(phases: list[dict]) -> dict[str, Any]:
    """Return the table of phases (rows) and layers (columns, in forward order).

    A cell's `kind` is `cached` (frozen, with its output read from the cache), `frozen` or
    `trained`; its `strength`, from 0 to 1, falls with the logarithm of the multiplier; it is `same`
    if its left neighbour has the same multiplier.
    """
    layers = list(dict.fromkeys(name for phase in phases for name in phase["multipliers"]))
    top = max((m for phase in phases for m in phase["multipliers"].values()), default=0)
    rows = []
    for phase in phases:
        cached = layers.index(phase["prefix"]) + 1 if phase["prefix"] in layers else 0
        cells = []
        for i, layer in enumerate(layers):
            multiplier = phase["multipliers"].get(layer, 0)
            kind = "trained" if multiplier else "cached" if i < cached else "frozen"
            strength = 1 + math.log10(multiplier / top) / 4 if multiplier > 0 else 0
            same = bool(cells) and cells[-1]["multiplier"] == multiplier
            cell = {"kind": kind, "multiplier": multiplier, "same": same}
            cells.append({**cell, "strength": max(strength, 0.25)})
        rows.append({"phase": phase, "cells": cells})
    return {"layers": layers, "rows": rows}


def time_shares(result: dict) -> list[dict]:
    """Return each phase's share of the run's time, and the share outside the phases."""
    phases = result["plan"]["phases"]
    parts = [(f"{i} {p['name']}", p["seconds"] or 0, False) for i, p in enumerate(phases, 1)]
    inside = sum(seconds for _, seconds, _ in parts)
    total = max(result["cost"]["total_seconds"] or 0, inside)
    parts.append(("outside the phases", total - inside, True))
    return [
        {"name": name, "seconds": seconds, "share": seconds / total, "rest": rest}
        for name, seconds, rest in parts
        if seconds > 0
    ]


def _curves(history: list[dict], phases: list[dict]) -> list[dict]:
    curves = []
    for title, series in plots.panels(history):
        if any(row.get(column) is not None for row in history for column, _, _ in series):
            curves.append({"title": title, "image": plots.curves(history, phases, series).uri})
    return curves


def _confusion(counts: list[list[int]] | None, classes: tuple[str, ...]) -> dict | None:
    if not counts:
        return None
    matrix = np.asarray(counts)
    totals = np.maximum(matrix.sum(1, keepdims=True), 1)
    shares = matrix / totals
    pairs = intervals.confusions(matrix, most=MOST_PAIRS)
    return {
        "image": plots.confusion(matrix).uri if len(matrix) > LARGE else None,
        "rows": [
            {"name": name, "cells": np.stack((matrix[i], shares[i]), 1).tolist()}
            for i, name in enumerate(classes)
        ],
        "pairs": [(classes[t], classes[p], n, n / int(totals[t, 0])) for t, p, n in pairs],
    }


def _per_class(result: dict) -> list[dict]:
    counts = result["task"]["class_counts"] or {}
    rows = (result["test"] or {}).get("per_class") or []
    if len(rows) > LARGE:
        rows = sorted(rows, key=lambda row: row["f1"] or 0)
    return [{**row, "train": (counts.get("train") or {}).get(row["name"])} for row in rows]


def _calibration(probabilities: np.ndarray, task: Task, scaled: dict | None) -> dict | None:
    if not len(probabilities):
        return None
    correct = _correct(probabilities, task.labels[task.splits["test"]])
    bins = intervals.reliability(probabilities.max(1), correct)
    return {
        "image": plots.reliability(bins).uri,
        "error": bins.error,
        "bins": len(bins.count),
        "confidence": float(probabilities.max(1).mean()),
        "accuracy": float(correct.mean()),
        "temperature": scaled and scaled["temperature"],
        "error_scaled": scaled and scaled["test"]["ece"],
    }
