"""Mean and spread of the metrics of runs that differ in their seed alone."""

import json
import pathlib
import statistics
from collections.abc import Iterable, Sequence

from tl_jax.errors import UserError
from tl_jax.studies.compare.row import Row

METRICS = ("weighted_accuracy", "accuracy", "f1", "auc", "loss")


def compute(runs: Iterable[pathlib.Path]) -> tuple[list[int], list[Row]]:
    """Return the seeds of finished runs, and a row for each split and metric; see `compare`."""
    return compare([result(run) for run in runs])


def compare(results: Sequence[dict]) -> tuple[list[int], list[Row]]:
    """Return the seeds, in order, and a row for each split and metric.

    UserError unless the results differ in their seed alone.
    """
    results = sorted(results, key=lambda r: r["seed"])
    seeds = [r["seed"] for r in results]
    if any(r["config"] | {"seed": 0} != results[0]["config"] | {"seed": 0} for r in results):
        raise UserError("these runs are not of one config: they differ in more than the seed")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"a seed is there twice: {seeds}")
    return seeds, [_row(results, split, m) for split in ("val", "test") for m in METRICS]


def result(run: pathlib.Path) -> dict:
    """Read the result of a finished run; UserError if it has none that can be read."""
    try:
        return json.loads((run / "result.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{run} is not a finished run: it has no readable result.json") from error


def _row(results: Sequence[dict], split: str, metric: str) -> Row:
    values = [r[split][metric] for r in results]
    if None in values:
        return Row(split, metric, None, None, [])
    values = [(1 if metric == "loss" else 100) * value for value in values]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return Row(split, metric, statistics.mean(values), spread, values)
