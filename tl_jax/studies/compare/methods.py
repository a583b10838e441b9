"""Comparison of methods: runs grouped by config, differences paired by split and seed."""

import json
import statistics
from collections.abc import Sequence

import numpy as np

from tl_jax.errors import UserError, unknown
from tl_jax.report import text
from tl_jax.runs.config import flat
from tl_jax.stats.metrics import LOWER_IS_BETTER
from tl_jax.stats.paired import Estimate, corrected, overlap_of_sizes, paired
from tl_jax.stats.verdict import holm, verdicts
from tl_jax.studies.compare.row import Comparison, Difference, Method


def grouped(results: Sequence[dict]) -> list[list[dict]]:
    """Return the results in groups whose configs differ only in their seed, in the given order.

    Each group is sorted by seed. UserError if a group has a seed twice.
    """
    groups: dict[str, list[dict]] = {}
    for result in results:
        key = json.dumps(result["config"] | {"seed": 0}, sort_keys=True)
        groups.setdefault(key, []).append(result)
    for group in groups.values():
        group.sort(key=lambda result: result["seed"])
        seeds = [result["seed"] for result in group]
        if len(set(seeds)) < len(seeds):
            raise UserError(f"two runs of a config have the same seed: {seeds}; name each run once")
    return list(groups.values())


def compare_methods(
    groups: Sequence[Sequence[dict]], *, metric: str, margin: float = 0.0
) -> Comparison:
    """Compare each group with the first on the test split, by a metric of their results.

    `margin` is in points (hundredths) of metrics that pages show in percent, and in the unit of the
    others: of the loss, where less is better, in nats. UserError for an unknown metric, for runs on
    different test splits, and for a group without a seed in common with the first.
    """
    if not margin >= 0:  # here in points, as it was given
        raise UserError(f"a margin is a number from 0 on; got {margin}")
    numbers = [k for k, v in groups[0][0]["test"].items() if isinstance(v, int | float)]
    if metric not in numbers:
        raise unknown("metric", metric, numbers)
    _require_same_tests(groups)
    ratio, values = _overlap(groups), [_values(group, metric) for group in groups]
    names = names_of([group[0]["config"] for group in groups])
    differences = [paired(one, values[0], ratio=ratio) for one in values[1:]]
    sign = -1 if metric in LOWER_IS_BETTER else 1
    better = [one._replace(mean=sign * one.mean) for one in differences]
    p = holm([2 * min(one.above(0), one.below(0)) for one in differences])
    margin = margin if metric in text.PLAIN else margin / 100
    answers = verdicts(better, margin=margin)
    return Comparison(
        metric,
        ratio,
        margin,
        [
            _method(name, group, corrected(list(one.values()), ratio=ratio))
            for name, group, one in zip(names, groups, values, strict=True)
        ],
        [
            Difference(*row)
            for row in zip(names[1:], differences, map(float, p), answers, strict=True)
        ],
    )


def names_of(configs: Sequence[dict]) -> list[str]:
    """Return for each config the settings that differ between configs, as `a.b=1, c=2`."""
    every = [flat(config) for config in configs]
    keys = list(dict.fromkeys(key for settings in every for key in settings if key != "seed"))
    differ = [k for k in keys if len({json.dumps(settings.get(k)) for settings in every}) > 1]
    return [
        text.visible(", ".join(f"{k}={settings.get(k, 'none')}" for k in differ) or "all")
        for settings in every
    ]


def _values(group: Sequence[dict], metric: str) -> dict[int, float]:
    """Return the metric on test by seed; NaN if a run has none."""
    values = {result["seed"]: result["test"].get(metric) for result in group}
    return {seed: float("nan") if value is None else value for seed, value in values.items()}


def _method(name: str, group: Sequence[dict], mean: Estimate) -> Method:
    seconds = [result.get("cost", {}).get("total_seconds") for result in group]
    phases = group[0].get("plan", {}).get("phases", [])
    return Method(
        name,
        [result["seed"] for result in group],
        mean,
        None if None in seconds else statistics.mean(seconds),
        max((phase["trained_parameters"] for phase in phases), default=None),
        text.kept(*(result["plan"]["phases"][-1] for result in group)) if phases else None,
    )


def _tested_on(result: dict) -> tuple:
    """Return what identifies a run's test split; None where an older result does not say."""
    task = result.get("task", {})
    return task.get("name"), task.get("sizes", {}).get("test"), task.get("test_split")


def _require_same_tests(groups: Sequence[Sequence[dict]]) -> None:
    of_first = {result["seed"]: _tested_on(result) for result in groups[0]}
    for group in groups[1:]:
        for result in group:
            if of_first.get(result["seed"], _tested_on(result)) != _tested_on(result):
                raise UserError(
                    f"runs of seed {result['seed']} are not tested on the same examples, so they "
                    "cannot be compared: give them the same task with the same splits"
                )


def _overlap(groups: Sequence[Sequence[dict]]) -> float:
    """Return n_test / n_train of the splits; 0 if all runs have the same test split."""
    results = [result for group in groups for result in group]
    tests = {result.get("task", {}).get("test_split") for result in results}
    if len(results) > 1 and len(tests) == 1 and None not in tests:
        return 0.0
    tasks = [result.get("task", {}) for result in results]
    if any("sizes" not in task for task in tasks):
        raise UserError("these results do not say how many examples they were tested on")
    return float(np.mean([overlap_of_sizes(t["sizes"], t.get("examples", 0)) for t in tasks]))
