"""Where each plan helps and where it hurts, beside the reference at the same budget."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tl_jax.stats.paired import Estimate, overlap_of_rows, paired, seeds_to_settle
from tl_jax.stats.verdict import ALPHA, CANNOT_TELL, LEAST_PAIRS, verdicts

SCENARIO = ("task", "base", "budget")
TESTED = {"accuracy": "test", "weighted_accuracy": "test_weighted"}  # column by metric


def against_reference(rows: Sequence[dict], config: Mapping[str, Any]) -> list[dict]:
    """Return a verdict for each scenario and plan: its test figures less the reference's, paired
    by seed, with the interval, and how many seeds would settle what cannot be told.

    All verdicts of the study are corrected together (Holm). So many seeds settle a verdict whatever
    the others are (Bonferroni). Cells that failed are left out.
    """
    compared = list(_compared(rows, config))
    margin, level = config["margin"], 1 - ALPHA / max(1, len(compared))
    words = verdicts([estimate for _, estimate in compared], margin=margin)
    found = []
    for (about, estimate), word in zip(compared, words, strict=True):
        verdict = {**about, **estimate.described(), "verdict": word}
        if word == CANNOT_TELL:
            least = max(LEAST_PAIRS, estimate.count + 1)
            verdict["seeds_to_settle"] = seeds_to_settle(
                estimate, margin=margin, ratio=about["ratio"], least=least, level=level
            )
        found.append(verdict)
    return found


def _compared(
    rows: Sequence[dict], config: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], Estimate]]:
    """Yield scenario, plan and `overlap`, and the plan's test figures less the reference's, for
    each plan that has a seed in common with the reference.
    """
    column, reference = TESTED[config["metric"]], config["reference"]
    for scenario, of_scenario in _by_scenario(rows).items():
        ratio = overlap_of_rows(of_scenario)
        tested: dict[str, dict[int, float]] = {plan: {} for plan in config["plans"]}
        for row in of_scenario:
            tested[row["plan"]][row["seed"]] = row[column]
        for plan in tested:
            if plan != reference and tested[plan].keys() & tested[reference].keys():
                about = dict(zip(SCENARIO, scenario, strict=True))
                estimate = paired(tested[plan], tested[reference], ratio=ratio)
                yield {**about, "plan": plan, "ratio": ratio}, estimate


def _by_scenario(rows: Sequence[dict]) -> dict[tuple, list[dict]]:
    """Return the rows of cells that did not fail by task, base and budget."""
    found: dict[tuple, list[dict]] = {}
    for row in rows:
        if row.get("error") is None:
            found.setdefault(tuple(row[name] for name in SCENARIO), []).append(row)
    return found
