"""What may be said of differences: a margin, an interval, and a correction for how many are judged.

A verdict is the answer of a two-sided test at 5 %: what one says with it is true of the whole 95 %
interval. Holm's step-down procedure (Holm 1979, Scandinavian Journal of Statistics 6, 65-70) keeps
the chance of any wrong verdict among all that are asked for below 5 %. Fewer than five pairs decide
nothing: with four, the t quantile and the guess of the spread are both at the mercy of one value.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.errors import UserError
from tl_jax.stats.paired import LEVEL, Estimate

LEAST_PAIRS = 5
ALPHA = 1 - LEVEL
CANNOT_TELL = "cannot tell"


class Claim(NamedTuple):
    """That the true mean lies between `least` and `most`; either may be infinite."""

    estimate: Estimate
    least: float
    most: float


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return p values (V,) adjusted for V verdicts, to be compared with 5 % as they are.

    A NaN is the p value of a verdict that cannot be had: it counts as 1.
    """
    p = np.nan_to_num(np.asarray(p, np.float64), nan=1.0)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1)


def claims_hold(claims: Sequence[Claim]) -> list[str]:
    """Return for each claim `yes`, `no` or `cannot tell`, corrected for their number."""
    found = [_sides(claim) for claim in claims]
    adjusted = holm([p for _, p in found])
    rows = zip(claims, found, adjusted, strict=True)
    return [_said(claim.estimate, answer, p) for claim, (answer, _), p in rows]


def verdicts(differences: Sequence[Estimate], *, margin: float) -> list[str]:
    """Return for each difference `helps`, `hurts` or `cannot tell`, corrected for their number.

    It helps if it is larger than `margin`, hurts if it is smaller than `-margin`: so much counts as
    nothing, in the unit of the differences. UserError for a negative margin.
    """
    if not margin >= 0:
        raise UserError(f"a margin is a number from 0 on; got {margin}")
    found = []
    for own in differences:
        up, down = own.above(margin), own.below(-margin)
        found.append(("helps", 2 * up) if own.mean > 0 else ("hurts", 2 * down))
    adjusted = holm([p for _, p in found])
    rows = zip(differences, found, adjusted, strict=True)
    return [_said(own, word, p) for own, (word, _), p in rows]


def _sides(claim: Claim) -> tuple[str, float]:
    """Return the likelier answer to a claim and its two-sided p value."""
    own = claim.estimate
    inside = max(own.above(claim.least), own.below(claim.most))
    outside = min(own.below(claim.least), own.above(claim.most))
    return ("yes", 2 * inside) if inside < outside else ("no", 2 * outside)


def _said(estimate: Estimate, answer: str, p: float) -> str:
    return answer if estimate.count >= LEAST_PAIRS and p <= ALPHA else CANNOT_TELL
