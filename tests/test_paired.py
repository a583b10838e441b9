"""Intervals and verdicts: scipy, cases by hand, and simulations of how often they are right."""

import itertools

import numpy as np
import pytest
from scipy import stats

from tl_jax.errors import UserError
from tl_jax.stats import ranking
from tl_jax.stats.intervals import drawn_clusters, over_seeds
from tl_jax.stats.paired import (
    Estimate,
    corrected,
    overlap,
    overlap_of_rows,
    overlap_of_sizes,
    paired,
    widening,
)
from tl_jax.stats.verdict import Claim, claims_hold, holm, verdicts

VALUES = [88.29, 88.23, 87.28, 87.73, 87.56]  # ELPV, seeds 5 to 9


def test_without_overlap_it_is_students_interval():
    found = corrected(VALUES, ratio=0)
    theirs = stats.ttest_1samp(VALUES, 87).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(theirs))
    assert 2 * found.above(87) == pytest.approx(stats.ttest_1samp(VALUES, 87).pvalue)
    less = stats.ttest_1samp(VALUES, 88, alternative="less").pvalue
    assert found.below(88) == pytest.approx(less)


def test_the_correction_by_hand():
    # Differences 1, 2, 3, 2, 2: mean 2, variance 1/2. Five splits of a half for test and train:
    # the error is sqrt((1/5 + 1) / 2) = sqrt(0.6), t of 4 degrees of freedom 2.776.
    found = corrected([1, 2, 3, 2, 2], ratio=1)
    assert found.error == pytest.approx(np.sqrt(0.6))
    assert found.half == pytest.approx(2.7764 * np.sqrt(0.6), rel=1e-4)
    assert found.high - found.mean == pytest.approx(found.mean - found.low)


def test_the_published_interval_of_elpv():
    found = corrected(VALUES, ratio=25 / 70)
    assert widening(5, 25 / 70) == pytest.approx(1.67, abs=0.005)
    assert found.mean == pytest.approx(87.82, abs=0.005)
    assert (found.low, found.high) == pytest.approx((86.92, 88.72), abs=0.005)
    mean, half = over_seeds(VALUES, ratio=25 / 70)
    assert (mean, half) == pytest.approx((found.mean, found.half))


def test_one_figure_has_no_interval_and_what_is_missing_stays_missing():
    alone = corrected([0.5], ratio=0.3)
    assert alone.mean == 0.5 and np.isnan([alone.low, alone.high, alone.above(0)]).all()
    missing = corrected([0.5, np.nan], ratio=0.3)
    assert np.isnan([missing.mean, missing.low, missing.above(-np.inf)]).all()
    with pytest.raises(UserError, match="must not be negative; got -1"):
        corrected([1, 2], ratio=-1)


def test_pairs_are_those_of_the_same_key():
    one = {0: 0.9, 1: 0.8, 2: 0.7, 7: 0.1}
    other = {2: 0.6, 1: 0.8, 0: 0.6, 9: 1.0}
    found = paired(one, other, ratio=0.5)
    assert tuple(found) == pytest.approx(corrected([0.3, 0.0, 0.1], ratio=0.5))
    with pytest.raises(UserError, match="nothing to pair"):
        paired({0: 1.0}, {1: 1.0}, ratio=0)


def test_only_test_splits_that_are_drawn_anew_overlap():
    one = {"train": np.arange(6), "test": np.arange(6, 10)}
    other = {"train": np.arange(4, 10), "test": np.arange(4)}
    assert overlap([one, other]) == pytest.approx(4 / 6)
    assert overlap([one, {"train": np.arange(3), "test": np.arange(6, 10)[::-1]}]) == 0


def test_a_label_budget_makes_splits_no_more_alike():
    sizes = {"train": 70, "val": 5, "test": 25}
    assert overlap_of_sizes(sizes) == overlap_of_sizes(sizes, 100) == 25 / 70
    assert overlap_of_sizes(sizes | {"train": 2}, 100) == 25 / 70
    rows = [{"seed": seed, "n_test": 25, "n_all": 100, "test_split": str(seed)} for seed in (0, 1)]
    assert overlap_of_rows([*rows, {"error": "none"}]) == 25 / 75
    assert overlap_of_rows([row | {"test_split": "given"} for row in rows]) == 0


def correlated(draws: int, count: int, rho: float) -> np.ndarray:
    """Figures (draws, count) about 0, of variance 1, any two of one draw correlated by rho."""
    random = np.random.default_rng(0)
    common, own = random.normal(size=(draws, 1)), random.normal(size=(draws, count))
    return np.sqrt(rho) * common + np.sqrt(1 - rho) * own


def test_it_covers_the_mean_where_students_does_not():
    """rho / (1 - rho) = n_test / n_train is what the correction takes for granted."""
    ratio = 25 / 70
    values = correlated(4000, 5, ratio / (1 + ratio))
    covered = []
    for assumed in (0, ratio):
        found = [corrected(own, ratio=assumed) for own in values]
        covered.append(np.mean([abs(one.mean) < one.half for one in found]))
    assert covered[0] == pytest.approx(0.83, abs=0.02)  # t of 4 within 2.776 / 1.67
    assert covered[1] == pytest.approx(0.95, abs=0.012)  # standard error 0.0034


def test_holm_by_hand():
    # Holm 1979: 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04, and none smaller than the one before
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, np.nan]) == pytest.approx([1, 1])
    assert holm([]).tolist() == []


def test_what_is_said_is_true_of_the_whole_interval():
    random = np.random.default_rng(0)
    for mean in np.linspace(-3, 3, 61):
        own = corrected(mean + random.normal(size=6), ratio=0.4)
        (said,) = verdicts([own], margin=0.5)
        wanted = "helps" if own.low >= 0.5 else "hurts" if own.high <= -0.5 else "cannot tell"
        assert said == wanted
        (held,) = claims_hold([Claim(own, -1.0, 1.0)])
        wanted = "yes" if -1 <= own.low and own.high <= 1 else "cannot tell"
        assert held == ("no" if own.low >= 1 or own.high <= -1 else wanted)


def test_four_pairs_decide_nothing():
    sure = [10.0, 10.1, 10.2, 10.1]
    assert verdicts([corrected(sure, ratio=0)], margin=0) == ["cannot tell"]
    assert verdicts([corrected([*sure, 10.0], ratio=0)], margin=0) == ["helps"]
    assert claims_hold([Claim(corrected(sure, ratio=0), 0, np.inf)]) == ["cannot tell"]


def test_a_verdict_that_stands_alone_may_not_stand_among_many():
    own = corrected(np.array([1.0, 2, 3, 2, 2]) - 1, ratio=0)
    p = 2 * own.above(0)
    assert 0.03 < p < 0.05
    nothing = [Estimate(0.0, 1.0, 5)] * 9
    assert verdicts([own], margin=0) == ["helps"]
    assert verdicts([own, *nothing], margin=0)[0] == "cannot tell"


def test_differences_that_are_all_equal_are_certain():
    assert verdicts([corrected([0.0] * 5, ratio=1)], margin=0) == ["cannot tell"]
    assert verdicts([corrected([-1.0] * 5, ratio=1)], margin=0.5) == ["hurts"]
    assert claims_hold([Claim(corrected([0.0] * 5, ratio=1), -0.01, 0.01)]) == ["yes"]


def test_any_wrong_verdict_among_ten_is_rare():
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(400):
        differences = [corrected(v, ratio=0) for v in random.normal(size=(10, 5))]
        wrong += verdicts(differences, margin=0) != ["cannot tell"] * 10
    assert wrong / 400 < 0.08  # 5 % at most in truth: standard error 1.1 %


def test_a_negative_margin_is_refused():
    with pytest.raises(UserError, match="margin must not be negative; got -1"):
        verdicts([], margin=-1)


# Clusters


def test_clusters_are_drawn_whole():
    clusters, random = ["b", "a", "b", "c"], np.random.default_rng(0)
    rows = {"a": [1], "b": [0, 2], "c": [3]}
    known = {sum((rows[c] for c in drawn), start=[]).__repr__()
             for drawn in itertools.product("abc", repeat=3)}  # fmt: skip
    seen = {drawn_clusters(clusters, random).tolist().__repr__() for _ in range(400)}
    assert seen == known


def test_the_cluster_interval_is_that_of_all_resamples():
    random, clusters = np.random.default_rng(0), np.repeat(list("wxyz"), 3)
    scores = random.normal(size=(12, 1)) + np.repeat(random.normal(size=(4, 1)), 3, 0)
    accuracies = scores + random.normal(size=(12, 1))
    options = {"clusters": clusters.tolist(), "resamples": 2000}
    found = ranking.agreement(scores=scores, accuracies=accuracies, **options)["Pearson"]
    rows = np.arange(12).reshape(4, 3)
    every = [rows[list(drawn)].ravel() for drawn in itertools.product(range(4), repeat=4)]
    values = [stats.pearsonr(scores[r, 0], accuracies[r, 0]).statistic for r in every]
    np.testing.assert_allclose(found[1:], np.quantile(values, (0.025, 0.975)), atol=0.05)


def test_one_cluster_has_no_interval():
    scores = np.arange(5.0)[:, None]
    found = ranking.agreement(scores=scores, accuracies=scores, clusters=["a"] * 5, resamples=9)
    assert found["Kendall"].value == pytest.approx(1) and np.isnan(found["Kendall"][1:]).all()


def test_alike_cuts_of_few_bases_widen_the_interval():
    """Four cuts that are copies of each other know no more than one does."""
    random = np.random.default_rng(3)
    scores = random.normal(size=(8, 1))
    accuracies = scores + random.normal(size=(8, 1))
    copied = {"scores": np.repeat(scores, 4, 0), "accuracies": np.repeat(accuracies, 4, 0)}
    alone = ranking.agreement(scores=scores, accuracies=accuracies)["Pearson"]
    clustered = ranking.agreement(**copied, clusters=np.repeat(list("abcdefgh"), 4).tolist())
    ignored = ranking.agreement(**copied)["Pearson"]
    clustered = clustered["Pearson"]
    assert clustered == pytest.approx(alone, abs=0.06)
    assert ignored.high - ignored.low < 0.8 * (clustered.high - clustered.low)
