"""Methods against each other: runs grouped by config, differences paired by split and seed."""

import json
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from tl_jax.errors import UserError, unknown
from tl_jax.report import text
from tl_jax.stats.paired import Estimate, corrected, paired
from tl_jax.stats.verdict import holm, verdicts
from tl_jax.studies.compare.row import Comparison, Difference, Method

LOWER_IS_BETTER = ("loss", "ece")


def grouped(results: Sequence[dict]) -> list[list[dict]]:
    """Return the results in groups whose configs differ in their seed alone, in the given order.

    In a group they are sorted by seed. UserError for a seed that is there twice in one.
    """
    groups: dict[str, list[dict]] = {}
    for result in results:
        key = json.dumps(result["config"] | {"seed": 0}, sort_keys=True)
        groups.setdefault(key, []).append(result)
    for group in groups.values():
        group.sort(key=lambda result: result["seed"])
        seeds = [result["seed"] for result in group]
        if len(set(seeds)) < len(seeds):
            raise UserError(f"a seed is there twice: {seeds}; name each run once")
    return list(groups.values())


def compare_methods(
    groups: Sequence[Sequence[dict]], *, metric: str, margin: float = 0.0
) -> Comparison:
    """Compare each group with the first on the test split, by a metric that results have.

    `margin` is in points, hundredths of the metric; in nats for the loss, where less is better.
    UserError for an unknown metric, for runs on different test splits, or where a group
    has no seed in common with the first.
    """
    if not margin >= 0:  # here in points, as it was given
        raise UserError(f"a margin is a number from 0 on; got {margin}")
    numbers = [k for k, v in groups[0][0]["test"].items() if isinstance(v, int | float)]
    if metric not in numbers:
        raise unknown("metric", metric, numbers)
    _require_same_tests(groups)
    ratio, values = _overlap(groups), [_values(group, metric) for group in groups]
    names = names_of([group[0]["config"] for group in groups])
    differences = [paired(own, values[0], ratio=ratio) for own in values[1:]]
    sign = -1 if metric in LOWER_IS_BETTER else 1
    better = [own._replace(mean=sign * own.mean) for own in differences]
    p = holm([2 * min(own.above(0), own.below(0)) for own in differences])
    margin = margin if metric == "loss" else margin / 100
    said = verdicts(better, margin=margin)
    return Comparison(
        metric,
        ratio,
        margin,
        [
            _method(name, group, corrected(list(own.values()), ratio=ratio))
            for name, group, own in zip(names, groups, values, strict=True)
        ],
        [Difference(*row) for row in zip(names[1:], differences, map(float, p), said, strict=True)],
    )


def names_of(configs: Sequence[dict]) -> list[str]:
    """Return for each config the settings in which it is unlike another, as `a.b=1, c=2`."""
    flat = [_flat(config) for config in configs]
    keys = list(dict.fromkeys(key for own in flat for key in own if key != "seed"))
    differ = [k for k in keys if len({json.dumps(own.get(k)) for own in flat}) > 1]
    said = [", ".join(f"{k}={own.get(k, 'none')}" for k in differ) or "all" for own in flat]
    return [text.visible(name) for name in said]


def _flat(config: dict, above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        inner = _flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
        found |= inner
    return found


def _values(group: Sequence[dict], metric: str) -> dict[int, float]:
    """Return the metric on test by seed; NaN where a run has none."""
    found = {result["seed"]: result["test"].get(metric) for result in group}
    return {seed: float("nan") if v is None else v for seed, v in found.items()}


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
    """Return what tells a run's test split; a result may be of before it was written down."""
    task = result.get("task", {})
    return task.get("name"), task.get("sizes", {}).get("test"), task.get("test_split")


def _require_same_tests(groups: Sequence[Sequence[dict]]) -> None:
    of_first = {result["seed"]: _tested_on(result) for result in groups[0]}
    for group in groups[1:]:
        for result in group:
            if of_first.get(result["seed"], _tested_on(result)) != _tested_on(result):
                raise UserError(
                    f"runs of seed {result['seed']} are not tested on the same examples, so they "
                    "are not compared: give them the same task with the same splits"
                )


def _overlap(groups: Sequence[Sequence[dict]]) -> float:
    """Return n_test / n_train of the splits; 0 where all runs have the same test split."""
    results = [result for group in groups for result in group]
    tests = {result.get("task", {}).get("test_split") for result in results}
    if len(results) > 1 and len(tests) == 1 and None not in tests:
        return 0.0
    sizes = [result.get("task", {}).get("sizes") for result in results]
    if None in sizes:
        raise UserError("these results do not say how many examples they were tested on")
    return float(np.mean([own["test"] / own["train"] for own in sizes]))
