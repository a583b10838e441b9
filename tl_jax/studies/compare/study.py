"""Mean and spread of metrics over runs that differ only in their seed; methods compared."""

import pathlib
import statistics
from collections.abc import Iterable, Sequence

from tl_jax.errors import UserError
from tl_jax.runs.results import read_json
from tl_jax.studies.compare.methods import compare_methods, grouped
from tl_jax.studies.compare.row import Comparison, Row

METRICS = (
    *("weighted_accuracy", "accuracy", "map", "r2", "f1", "auc", "exact", "kappa", "rank_error"),
    *("spearman", "mae", "rmse"),
    *("cider", "bleu4", "bleu1", "image_recall_at_10", "text_recall_at_10"),
    *("image_median_rank", "text_median_rank", "loss"),
)


def compute(
    runs: Iterable[pathlib.Path], *, metric: str = "", margin: float = 0.0
) -> tuple[list[int], list[Row]] | Comparison:
    """Compare finished runs, by `compare` if they have one config, else by `compare_methods`.

    Runs whose configs differ only in their seed count as one config. `metric` "" is the first of
    `METRICS` that all runs have.
    """
    results = [result(run) for run in runs]
    metric = metric or next((m for m in METRICS if all(m in r["test"] for r in results)), "loss")
    groups = grouped(results)
    if len(groups) == 1:
        return compare(results)
    return compare_methods(groups, metric=metric, margin=margin)


def compare(results: Sequence[dict]) -> tuple[list[int], list[Row]]:
    """Return the seeds, in order, and a row for each split and metric that a run has.

    UserError unless the results differ only in their seed.
    """
    groups = grouped(results)
    if len(groups) > 1:
        raise UserError("these runs are not of one config: they differ in more than the seed")
    seeds = [r["seed"] for r in groups[0]]
    splits = ("val", "test")
    metrics = [m for m in METRICS if any(m in r[split] for r in results for split in splits)]
    return seeds, [_row(groups[0], split, metric) for split in splits for metric in metrics]


def result(run: pathlib.Path) -> dict:
    """Read the result of a finished run; UserError if it has none, or one of another program."""
    try:
        found = read_json(run / "result.json")
    except (OSError, ValueError) as error:
        raise UserError(f"{run} is not a finished run: it has no readable result.json") from error
    parts = [found.get(name) for name in ("config", "val", "test")]
    if not isinstance(found.get("seed"), int) or not all(isinstance(p, dict) for p in parts):
        raise UserError(f"{run} holds no result of experiments.transfer, which is what is compared")
    return found


def _row(results: Sequence[dict], split: str, metric: str) -> Row:
    values = [r[split].get(metric) for r in results]
    if None in values:
        return Row(split, metric, None, None, [])
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return Row(split, metric, statistics.mean(values), spread, values)
