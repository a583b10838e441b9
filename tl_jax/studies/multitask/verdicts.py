"""What each task gains by being learned with others, beside a network of its own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tl_jax.stats.paired import Estimate, paired
from tl_jax.stats.verdict import verdicts
from tl_jax.studies.multitask import SINGLE


def beside_single(rows: Sequence[dict], overlaps: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return for each variant, method and task the test accuracy less that of a network for this
    task alone, paired by seed, with a verdict; all verdicts are corrected together (Holm).

    `overlaps`: n_test / n_train of each variant's splits, 0 where they are not drawn anew.
    """
    compared = list(_compared(rows, overlaps))
    words = verdicts([estimate for _, estimate in compared], margin=0.0)
    return [
        {**about, **estimate.described(), "verdict": word}
        for (about, estimate), word in zip(compared, words, strict=True)
    ]


def _compared(
    rows: Sequence[dict], overlaps: Mapping[str, float]
) -> Iterator[tuple[dict[str, Any], Estimate]]:
    for variant, ratio in overlaps.items():
        own = [row for row in rows if row["variant"] == variant]
        single = by_seed(own, SINGLE)
        for method in dict.fromkeys(row["method"] for row in own):
            if method == SINGLE:
                continue
            for name, accuracies in by_seed(own, method).items():
                about = {"variant": variant, "method": method, "task": name}
                yield about, paired(accuracies, single[name], ratio=ratio)


def by_seed(rows: Sequence[dict], method: str) -> dict[str, dict[int, float]]:
    """Return by task the test accuracy of a method in each seed."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["method"] == method:
            for name, figures in row["tasks"].items():
                found.setdefault(name, {})[row["seed"]] = figures["test"]
    return found


def delta(rows: Sequence[dict], method: str) -> np.ndarray:
    """Return by seed the mean over tasks of (M - B) / B: M the test accuracy of the method, B that
    of a network for the task alone (LibMTL's `count_improvement`, of which more is better here).
    """
    mine, single = by_seed(rows, method), by_seed(rows, SINGLE)
    seeds = next(iter(mine.values()))
    gains = [
        [(mine[name][seed] - single[name][seed]) / single[name][seed] for name in mine]
        for seed in seeds
    ]
    return np.mean(gains, axis=1)
