"""Where each plan helps and where it hurts, beside the reference at the same budget."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tl_jax.stats.paired import Estimate, paired, seeds_to_settle
from tl_jax.stats.verdict import CANNOT_TELL, LEAST_PAIRS, verdicts

SCENARIO = ("task", "base", "budget")
TESTED = {"accuracy": "test", "weighted_accuracy": "test_weighted"}  # column by metric


def against_reference(rows: Sequence[dict], config: Mapping[str, Any]) -> list[dict]:
    """Return a verdict for each scenario and plan: its test figures less the reference's, paired
    by seed, with the interval, and how many seeds would settle what cannot be told.

    All verdicts of the study are corrected together (Holm). Cells that failed are left out.
    """
    column, reference = TESTED[config["metric"]], config["reference"]
    found, differences = [], []
    for scenario, own in _by_scenario(rows).items():
        of_plan = {
            plan: {row["seed"]: row[column] for row in own if row["plan"] == plan}
            for plan in config["plans"]
        }
        for plan in config["plans"]:
            common = of_plan[plan].keys() & of_plan[reference].keys()
            if plan == reference or not common:
                continue
            ratio = overlap(own)
            estimate = paired(of_plan[plan], of_plan[reference], ratio=ratio)
            about = {**dict(zip(SCENARIO, scenario, strict=True)), "plan": plan}
            found.append({**about, **_told(estimate), "ratio": ratio})
            differences.append(estimate)
    margin = config["margin"]
    for own, estimate, said in zip(
        found, differences, verdicts(differences, margin=margin), strict=True
    ):
        own["verdict"] = said
        if said == CANNOT_TELL:
            least = max(LEAST_PAIRS, estimate.count + 1)
            own["seeds_to_settle"] = seeds_to_settle(
                estimate, margin=margin, ratio=own["ratio"], least=least
            )
    return found


def overlap(rows: Sequence[dict]) -> float:
    """Return n_test / (N - n_test), of the N examples from which splits are drawn anew; 0 if all
    seeds have the same test split.

    Nadeau & Bengio's n_test / n_train, where a label budget takes only a part of what is not
    tested: two splits are as alike as their test sets make them, not the less the fewer labels.
    """
    if len({row["seed"] for row in rows}) > 1 and len({row["test_split"] for row in rows}) == 1:
        return 0.0
    return float(np.mean([row["n_test"] / (row["n_all"] - row["n_test"]) for row in rows]))


def _by_scenario(rows: Sequence[dict]) -> dict[tuple, list[dict]]:
    def key(row):
        return tuple(row[name] for name in SCENARIO)

    good = [row for row in rows if row.get("error") is None]
    order = list(dict.fromkeys(map(key, good)))
    grouped = itertools.groupby(sorted(good, key=lambda row: order.index(key(row))), key)
    return {scenario: list(own) for scenario, own in grouped}


def _told(estimate: Estimate) -> dict[str, Any]:
    return {
        "difference": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "pairs": estimate.count,
    }
