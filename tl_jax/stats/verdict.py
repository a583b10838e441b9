"""Verdicts on differences: a margin, an interval, and a correction for the number of verdicts.

A verdict is the answer of a two-sided test at 5 %, so it is true of the whole 95 % interval. Holm's
step-down procedure (Holm 1979, Scandinavian Journal of Statistics 6, 65-70) keeps the chance that
any of the verdicts is wrong below 5 %. Fewer than five pairs decide nothing: with four, the t
quantile is large and a single value dominates the estimate of the spread.
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
    """The claim that a true mean lies between `least` and `most`; either may be infinite."""

    estimate: Estimate
    least: float
    most: float


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return p values (V,) adjusted for V verdicts, so that each is compared with 5 %.

    A NaN, the p value of a verdict that cannot be computed, counts as 1.

    >>> holm([0.01, 0.04]).tolist()
    [0.02, 0.04]
    """
    p = np.nan_to_num(np.asarray(p, np.float64), nan=1.0)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1)


def claims_hold(claims: Sequence[Claim]) -> list[str]:
    """Return for each claim `yes`, `no` or `cannot tell`, corrected for their number."""
    answers = [_sides(claim) for claim in claims]
    adjusted = holm([p for _, p in answers])
    rows = zip(claims, answers, adjusted, strict=True)
    return [_said(claim.estimate, answer, p) for claim, (answer, _), p in rows]


def verdicts(differences: Sequence[Estimate], *, margin: float) -> list[str]:
    """Return for each difference `helps`, `hurts` or `cannot tell`, corrected for their number.

    A difference above `margin` helps, one below `-margin` hurts, and one between counts as nothing;
    the margin is in the unit of the differences. UserError for a negative margin.

    >>> from tl_jax.stats.paired import corrected
    >>> clear, unclear = [3.0, 3.2, 2.8, 3.1, 2.9], [2.0, -2.0, 1.0, -1.0, 0.5]
    >>> verdicts([corrected(points, ratio=0.3) for points in (clear, unclear)], margin=0.5)
    ['helps', 'cannot tell']
    """
    if not margin >= 0:
        raise UserError(f"a margin must not be negative; got {margin}")
    answers = []
    for difference in differences:
        up, down = difference.above(margin), difference.below(-margin)
        answers.append(("helps", 2 * up) if difference.mean > 0 else ("hurts", 2 * down))
    adjusted = holm([p for _, p in answers])
    rows = zip(differences, answers, adjusted, strict=True)
    return [_said(difference, word, p) for difference, (word, _), p in rows]


def _sides(claim: Claim) -> tuple[str, float]:
    """Return the likelier answer to a claim and its two-sided p value."""
    mean = claim.estimate
    inside = max(mean.above(claim.least), mean.below(claim.most))
    outside = min(mean.below(claim.least), mean.above(claim.most))
    return ("yes", 2 * inside) if inside < outside else ("no", 2 * outside)


def _said(estimate: Estimate, answer: str, p: float) -> str:
    return answer if estimate.count >= LEAST_PAIRS and p <= ALPHA else CANNOT_TELL
