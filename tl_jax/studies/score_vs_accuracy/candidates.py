"""Candidates: bases cut at a layer, each with rows over several seeds."""

from typing import Any

ON_SOURCE = ("LEEP", "NCE")  # scores of the base's own predictions, equal for all its cuts


def by_candidate(rows: list[dict], *keys: str) -> dict[tuple[str, str], list]:
    """Return each row's value under the nested keys, as lists over seeds by (base, cut).

    Without keys, return the rows themselves.
    """
    candidates: dict[tuple[str, str], list] = {}
    for row in rows:
        value: Any = row
        for key in keys:
            value = value[key]
        candidates.setdefault((row["base"], row["cut"]), []).append(value)
    return candidates
