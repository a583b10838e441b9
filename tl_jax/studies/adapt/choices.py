"""What each rule chooses without labels of the target, beside source only and the two oracles."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tl_jax.stats.intervals import over_seeds
from tl_jax.stats.paired import overlap_of_rows, paired
from tl_jax.stats.verdict import verdicts
from tl_jax.studies.adapt import SOURCE_ONLY, TARGET_ONLY

ANY = "any method"  # the choice among all draws of all methods
OWN_RULE = "source_val"  # by which the draw of source_only is chosen: it has these labels

Row = Mapping[str, Any]


def table(rows: Sequence[Row], config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a line for each method, and for any, and each rule: test accuracies on the target,
    (seed -> accuracy), of source only, of what the rule chooses, of what target labels of the
    validation split would choose, and of training on target labels.

    A draw that failed was tried, and is chosen by nobody. A seed counts where every column has one.
    """
    good = [row for row in rows if row.get("error") is None]
    source = _chosen(good, SOURCE_ONLY, lambda row: row[OWN_RULE])
    target = _chosen(good, TARGET_ONLY, lambda row: row["target_val"])
    lines = []
    for method in (*candidates(config), ANY):
        oracle = _chosen(good, method, lambda row: row["target_val"])
        for rule in config["validators"]:
            chosen = _chosen(good, method, functools.partial(_said, rule=rule))
            seeds = [seed for seed in source if seed in chosen and seed in target]
            columns = {"source": source, "chosen": chosen, "oracle": oracle, "target": target}
            line: dict[str, Any] = {"method": method, "rule": rule}
            line["picked"] = {seed: chosen[seed]["method"] for seed in seeds}
            for name, by_seed in columns.items():
                line[name] = {seed: by_seed[seed]["target_test"] for seed in seeds}
            lines.append(line)
    return lines


def candidates(config: Mapping[str, Any]) -> list[str]:
    """Return the methods that are chosen among: all but the one with labels of the target."""
    others = (name for name in config["methods"] if name not in (SOURCE_ONLY, TARGET_ONLY))
    return [SOURCE_ONLY, *others]


def _said(row: Row, rule: str) -> float | None:
    return row["validators"][rule]


def _chosen(rows: Sequence[Row], method: str, by: Callable[[Row], float | None]) -> dict[int, Row]:
    """Return for each seed the row of a method, or of any, for which `by` is largest; of several
    the one with the fewest draws before it.
    """
    found: dict[int, Row] = {}
    for row in sorted(rows, key=lambda row: row["draw"]):
        fits = row["method"] == method or (method == ANY and row["method"] != TARGET_ONLY)
        value = by(row) if fits else None
        if value is not None:
            former = by(found[row["seed"]]) if row["seed"] in found else None
            if former is None or value > former:
                found[row["seed"]] = row
    return found


def judged(lines: Sequence[dict[str, Any]], rows: Sequence[Row], rule: str) -> list[dict]:
    """Return a verdict for each method, and for any, chosen by `rule`: its target test accuracy
    less that of source only, paired by seed, all corrected together (Holm).
    """
    ratio, compared = overlap_of_rows(rows), []
    for line in lines:
        if line["rule"] == rule and line["method"] != SOURCE_ONLY and line["chosen"]:
            estimate = paired(line["chosen"], line["source"], ratio=ratio)
            compared.append((line["method"], estimate))
    words = verdicts([estimate for _, estimate in compared], margin=0.0)
    return [
        {"method": method, **estimate.described(), "verdict": word}
        for (method, estimate), word in zip(compared, words, strict=True)
    ]


def of_rules(
    lines: Sequence[dict[str, Any]], rows: Sequence[Row], config: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield for each rule how well it chooses among all cells of a seed: its rank correlation with
    target test accuracy, what it loses against the oracle (regret), and how many seeds it leaves
    below source only.
    """
    for line in lines:
        if line["method"] == ANY:
            rule, seeds = line["rule"], list(line["chosen"])
            ranks = [_spearman(rows, seed, rule) for seed in config["seeds"]]
            lost = [line["oracle"][seed] - line["chosen"][seed] for seed in seeds]
            below = sum(line["chosen"][seed] < line["source"][seed] for seed in seeds)
            ratio = overlap_of_rows(rows)
            rank, rank_half = over_seeds(np.array(ranks), ratio=ratio)
            regret, regret_half = over_seeds(np.array(lost), ratio=ratio)
            yield {
                "rule": rule,
                "rank_correlation": float(rank),
                "rank_half": float(rank_half),
                "regret": float(regret),
                "regret_half": float(regret_half),
                "below_source": below,
                "seeds": len(seeds),
            }


def _spearman(rows: Sequence[Row], seed: int, rule: str) -> float:
    """Return Spearman's correlation of a rule with test accuracy over the seed's cells; NaN if
    either has a single value.
    """
    from scipy import stats

    pairs = [
        (row["validators"][rule], row["target_test"])
        for row in rows
        if row["seed"] == seed and row["method"] != TARGET_ONLY and row.get("error") is None
    ]
    scores, reached = np.array(pairs, np.float64).reshape(-1, 2).T
    if len(set(scores)) < 2 or len(set(reached)) < 2:
        return float("nan")
    return float(stats.spearmanr(scores, reached).statistic)


def negative(rows: Sequence[Row], config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each method the target test accuracy of all its cells, and how many lie below
    source only with the same seed.
    """
    good = [row for row in rows if row.get("error") is None]
    source = _chosen(good, SOURCE_ONLY, lambda row: row[OWN_RULE])
    found = []
    for method in config["methods"]:
        own = [row for row in good if row["method"] == method and row["seed"] in source]
        reached = [row["target_test"] for row in own]
        below = [row["target_test"] < source[row["seed"]]["target_test"] for row in own]
        found.append(
            {"method": method, "cells": len(own), "below_source": sum(below)}
            | {"lowest": min(reached, default=None), "highest": max(reached, default=None)}
        )
    return found
