"""Cross-validation: a transfer for each fold, and the mean of what they are tested on."""

import pathlib
from typing import Any

import ml_collections

from tl_jax.data.folds import MOST
from tl_jax.errors import takes_whole
from tl_jax.report import text
from tl_jax.runs import results, transfer
from tl_jax.stats import paired

NAME = "folds.json"


def by_config(config: Any, workdir: pathlib.Path, folds: int, *, name: str) -> dict[str, Any]:
    """Transfer as the config says with each of so many folds as the test split, in a results folder
    of its own, `workdir`/fold_0 and so on; return the runs' test metrics, and their means.

    A run that is finished is not repeated. The mean's interval is that of Nadeau & Bengio 2003,
    because folds share their training examples.
    """
    takes_whole(folds, "folds=", 2, MOST)
    rows, shares = [], []
    for fold in range(folds):
        own = ml_collections.ConfigDict(config.to_dict())
        own.task.folds, own.task.fold = folds, fold
        result, _ = transfer.by_config(own, workdir / f"fold_{fold}", name=f"{name}, fold {fold}")
        sizes = result["task"]["sizes"]
        shares.append(paired.overlap_of_sizes(sizes))
        rows.append({"fold": fold, "n": sizes["test"]} | _figures(result["test"]))
    names = [name for name in rows[0] if name not in ("fold", "n")]
    ratio = sum(shares) / len(shares)
    means = {
        metric: paired.corrected([row[metric] for row in rows], ratio=ratio)
        for metric in names
        if all(text.there(row.get(metric)) for row in rows)
    }
    found = {metric: {"mean": m.mean, "low": m.low, "high": m.high} for metric, m in means.items()}
    outcome = {"name": name, "folds": folds, "rows": rows, "means": found}
    results.write_json(workdir / NAME, outcome)
    return outcome


def _figures(test: dict[str, Any]) -> dict[str, float]:
    return {name: test[name] for name in text.METRICS if name in test}


def said(outcome: dict[str, Any]) -> str:
    """The folds as a table for the terminal."""
    told = {name for row in outcome["rows"] for name in text.shown({}, row)}
    names = [name for name in outcome["means"] if name in told]
    head = "".join(f"{text.METRICS[name]:>18}" for name in names)
    lines = [f"{'fold':<8}{'test':>6}{head}"]
    for row in outcome["rows"]:
        figures = "".join(f"{text.metric(name, row[name]):>18}" for name in names)
        lines.append(f"{row['fold']:<8}{row['n']:>6}{figures}")
    for end, label in (("mean", "mean"), ("low", "95 % from"), ("high", "to")):
        figures = "".join(f"{text.metric(n, outcome['means'][n][end]):>18}" for n in names)
        lines.append(f"{label:<14}{figures}")
    return "\n".join(lines)
