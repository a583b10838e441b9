"""A look at a task's data before training; with a base also at its labels, and at a source."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tl_jax import interrupt
from tl_jax.base.base import Base
from tl_jax.data.task import SPLITS, Task
from tl_jax.errors import UserError
from tl_jax.measure.audit import contents, copies, doubts, relation
from tl_jax.measure.features import LayerFeatures, of_layers
from tl_jax.runs.subject import base_of, named_task, outline_of, task_of


def check(config: Any) -> None:
    """Raise UserError for an unknown base, and for a source without one."""
    if config.base:
        outline_of(config)
    elif config.source.name:
        raise UserError("source= is compared by a base's features: give base= as well")


def data(config: Any) -> dict[str, Task]:
    """Return the tasks that a results folder belongs to."""
    tasks = {"": task_of(config, config.seed)}
    return tasks | ({"source": _source(config)} if config.source.name else {})


def _source(config: Any) -> Task:
    return named_task(config.source, config.seed)


def compute(config: Any, workdir: Path) -> dict:
    """Look at the task as the config says; the task itself is `material` for the page."""
    started, task = time.monotonic(), task_of(config, config.seed)
    seen = contents.contents(task)
    interrupt.check()
    result = {
        **_described(task, seen),
        **_copies(task, seen),
        "skipped": list(task.skipped),
        "material": {"task": task},
    }
    if config.base:
        base = base_of(config)
        features = of_layers(base, task, cache=config.cache)
        result |= {"doubts": _doubts(task, features[base.bottleneck].rows, config.seed)}
        interrupt.check()
        result |= _related(config, base, task, features)
    return result | {"seconds": time.monotonic() - started}


def _described(task: Task, seen: contents.Contents) -> dict:
    """Return classes, counts by split (C,), evenness, sides' quartiles, and kinds of files."""
    found = contents.balance(task)

    def quartiles(sizes: np.ndarray) -> list[int]:
        return np.quantile(sizes, (0, 0.25, 0.5, 0.75, 1), method="nearest").tolist()

    return {
        "noun": "texts" if task.texts else "images",
        "classes": list(task.classes),
        "counts": {split: counts.tolist() for split, counts in found.counts.items()},
        "imbalance": found.imbalance,
        "effective_classes": found.effective_classes,
        **{side: quartiles(sizes) for side, sizes in seen.sizes.items()},
        "kinds": dict(Counter(seen.kinds).most_common()),
    }


def _copies(task: Task, seen: contents.Contents) -> dict:
    """Return the pairs that are closer than chance, and what that means here.

    `leaked` counts the examples of val and test that have a copy in an earlier split.
    """
    found = copies.near(seen.points, task)
    split_of = copies.split_numbers(task)
    later = {max(pair, key=lambda i: split_of[i]) for pair in found.pairs[found.across].tolist()}
    leaked = Counter(SPLITS[split_of[i]] for i in later)
    same = "same_text" if task.texts else "same_pixels"
    pairs = [
        {
            "examples": [first, second],
            "distance": distance,
            "across": across,
            same: seen.digests[first] == seen.digests[second],
        }
        for (first, second), distance, across in zip(
            found.pairs.tolist(), found.distances.tolist(), found.across.tolist(), strict=True
        )
    ]
    return {
        "pairs": pairs,
        "leaked": {split: leaked[split] for split in SPLITS[1:]},
        "dimension": found.dimension,
        "ratio": found.ratio,
    }


def _doubts(task: Task, rows: np.ndarray, seed: int) -> dict:
    """Return the examples whose label is doubtful by features (N, D), and the expected share.

    Examples that no split has, because a label budget left them out, are not judged.
    """
    used = np.flatnonzero(copies.split_numbers(task) >= 0)
    labels = task.labels[used]
    probabilities = doubts.held_out(rows[used], labels, len(task.classes), seed=seed)
    found = doubts.confident(probabilities, labels)
    return {
        "examples": used[found.examples].tolist(),
        "suggested": found.suggested.tolist(),
        "margins": found.margins.tolist(),
        "counts": found.counts.tolist(),
        "share": found.share,
    }


def _related(
    config: Any, base: Base, task: Task, features: dict[str, LayerFeatures]
) -> dict[str, Any]:
    """Return how the base's layers suit the task and the source, and the source's distance."""
    tasks = {"task": (task, features)}
    if config.source.name:
        source = _source(config)
        tasks["source"] = source, of_layers(base, source, cache=config.cache)
    suits = {
        name: relation.suits(layers, of, seed=config.seed) for name, (of, layers) in tasks.items()
    }
    found: dict[str, Any] = {
        "suits": {
            name: {
                "name": tasks[name][0].name,
                "layers": list(of.layers),
                "accuracy": of.accuracy.tolist(),
                "alignment": of.alignment.tolist(),
                "logme": of.logme,
                "gap": of.gap,
            }
            for name, of in suits.items()
        }
    }
    if config.source.name:
        rows = [layers[base.bottleneck].rows for _, layers in tasks.values()]
        apart, chance = relation.distance(*rows, seed=config.seed)
        found["distance"] = {"a_distance": apart, "halves": chance}
    return found
