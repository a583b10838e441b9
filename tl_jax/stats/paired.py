"""Means over splits drawn anew from one dataset, and differences paired by split and seed.

Such splits share examples, so their figures are correlated and Student's interval is too narrow.
Nadeau & Bengio 2003 ("Inference for the generalization error", Machine Learning 52, 239-281) widen
it: they estimate the variance of the mean over J splits as (1/J + n_test/n_train) times that of one
figure, instead of 1/J times.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.errors import UserError

LEVEL = 0.95


class Estimate(NamedTuple):
    """A mean over J figures and its standard error, in the figures' unit.

    The error of a single figure is NaN. A missing figure makes all values NaN.
    """

    mean: float
    error: float
    count: int  # J

    @property
    def half(self) -> float:
        """Half of the 95 % interval, by Student's t with J - 1 degrees of freedom."""
        from scipy import stats  # takes a second to import

        if self.count < 2:
            return float("nan")
        return float(stats.t.ppf((1 + LEVEL) / 2, self.count - 1)) * self.error

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.mean + self.half

    def described(self) -> dict[str, Any]:
        """Return it as plain data, of a difference over pairs."""
        ends = {"low": self.low, "high": self.high}
        return {"difference": self.mean, **ends, "pairs": self.count}

    def above(self, bound: float) -> float:
        """Return the one-sided p value of `the true mean is at most bound`."""
        from scipy import stats

        if self.count < 2 or not np.isfinite(self.mean):
            return float("nan")
        if np.isinf(bound) or self.error == 0:
            return float(self.mean <= bound)
        return float(stats.t.sf((self.mean - bound) / self.error, self.count - 1))

    def below(self, bound: float) -> float:
        """Return the one-sided p value of `the true mean is at least bound`."""
        return self._replace(mean=-self.mean).above(-bound)


def widening(count: int, ratio: float) -> float:
    """Return the factor on Student's standard error: sqrt((1/J + ratio) / (1/J)) for J figures."""
    return float(np.sqrt(1 + count * ratio))


def corrected(values: np.ndarray | Sequence[float], *, ratio: float) -> Estimate:
    """Estimate the mean of figures (J,) over J splits; `ratio` is n_test / n_train.

    `ratio` 0 gives Student's interval: it is right for splits without a common example, and for
    figures on one fixed test split, whose interval shows training alone. UserError for a negative
    ratio.

    >>> elpv = corrected([88.29, 88.23, 87.28, 87.73, 87.56], ratio=25 / 70)
    >>> [round(figure, 2) for figure in (elpv.mean, elpv.low, elpv.high)]
    [87.82, 86.92, 88.72]
    """
    values = np.asarray(values, np.float64)
    if not ratio >= 0:
        raise UserError(f"n_test / n_train must not be negative; got {ratio}")
    count = len(values)
    if count < 2:
        return Estimate(float(values.mean()) if count else float("nan"), float("nan"), count)
    error = values.std(ddof=1) / np.sqrt(count) * widening(count, ratio)
    return Estimate(float(values.mean()), float(error), count)


def paired(one: Mapping[Any, float], other: Mapping[Any, float], *, ratio: float) -> Estimate:
    """Estimate the mean of `one` minus `other` over the keys (split and seed) that both have.

    UserError if they have no key in common.
    """
    common = [key for key in one if key in other]
    if not common:
        raise UserError(f"nothing to pair: {sorted(map(str, one))} and {sorted(map(str, other))}")
    return corrected([one[key] - other[key] for key in common], ratio=ratio)


def seeds_to_settle(
    estimate: Estimate,
    *,
    margin: float,
    ratio: float,
    least: int = 2,
    most: int = 1000,
    level: float = LEVEL,
) -> int | None:
    """Return the fewest figures J, `least` or more, whose interval would leave the margin out, if
    mean and spread stayed as estimated; None where `most` do not. `level` is the interval's.

    With overlapping splits the interval has a least width, however many are drawn: then only other
    data settle it.
    """
    from scipy import stats

    beyond = abs(estimate.mean) - margin
    if estimate.count < 2 or not beyond > 0:
        return None
    deviation = estimate.error / np.sqrt(1 / estimate.count + ratio)
    counts = np.arange(max(least, 2), most + 1)
    quantiles = stats.t.ppf((1 + level) / 2, counts - 1)
    (enough,) = np.nonzero(quantiles * deviation * np.sqrt(1 / counts + ratio) < beyond)
    return int(counts[enough[0]]) if len(enough) else None


def overlap(splits: Sequence[Mapping[str, np.ndarray]]) -> float:
    """Return n_test / n_train of J splits, for `corrected`; 0 if all have the same test examples.

    Each split holds indices under "train" and "test". A dataset's own test split is not drawn anew:
    figures on it say nothing about other test examples, and their interval is over training sets,
    initial weights and orders.
    """
    tests = [np.sort(np.asarray(one["test"])) for one in splits]
    if all(np.array_equal(tests[0], test) for test in tests):
        return 0.0
    return float(np.mean([len(one["test"]) / len(one["train"]) for one in splits]))


def overlap_of_sizes(sizes: Mapping[str, int], count: int = 0) -> float:
    """Return n_test / n_train of splits that are drawn anew, from their sizes.

    `count`: the examples that they divide. Where a label budget takes a part of those to train on,
    n_train is all of these: two splits are as alike as their test sets make them.
    """
    return sizes["test"] / max(sizes["train"], count - sizes["test"] - sizes["val"])


def overlap_of_rows(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return n_test / (N - n_test), of the N examples from which a study's rows draw splits anew; 0
    if all seeds have the same test split, and without rows. Those that failed do not count.

    As `overlap_of_sizes`, with the examples of validation among those that could be trained on.
    """
    rows = [row for row in rows if row.get("error") is None]
    if len({row["seed"] for row in rows}) > 1 and len({row["test_split"] for row in rows}) == 1:
        return 0.0
    return float(np.mean([row["n_test"] / (row["n_all"] - row["n_test"]) for row in rows] or [0]))
