"""How a ranking is judged: cases by hand, scipy, and intervals that cover."""

import numpy as np
import pytest
from scipy import stats

from tl_jax.errors import UserError
from tl_jax.stats import ranking


def column(values):
    return np.array(values, float)[:, None]


def test_measures_by_hand():
    scores, accuracies = np.array([1, 2, 3, 4.0]), np.array([0.1, 0.2, 0.4, 0.3])
    # Of 6 pairs 1 is discordant.
    assert ranking.kendall(scores, accuracies) == pytest.approx(4 / 6)
    # Ranks 1, 2, ... have weights 1, 1/2, ...; by one order the swapped pair weighs 1 + 1/2 of
    # 3 (1 + 1/2 + 1/3 + 1/4), by the other the same.
    total = 3 * (1 + 1 / 2 + 1 / 3 + 1 / 4)
    assert ranking.weighted_tau(scores, accuracies) == pytest.approx(1 - 2 * 1.5 / total)
    assert ranking.pearson(scores, accuracies) == pytest.approx(0.8)


def test_a_mistake_among_the_best_costs_more_than_one_among_the_worst():
    accuracies = np.arange(6.0)
    best, worst = np.array([0, 1, 2, 3, 5, 4.0]), np.array([1, 0, 2, 3, 4, 5.0])
    assert ranking.weighted_tau(best, accuracies) < ranking.weighted_tau(worst, accuracies)
    assert ranking.kendall(best, accuracies) == ranking.kendall(worst, accuracies)


def test_perfect_order_is_certain_and_reversed_scores_give_the_opposite():
    scores = np.random.default_rng(0).normal(size=(12, 3)) + 10 * np.arange(12)[:, None]
    found = ranking.agreement(scores=scores, accuracies=scores, resamples=50)
    assert all(tuple(a) == pytest.approx((1, 1, 1)) for a in found.values())
    found = ranking.agreement(scores=-scores, accuracies=scores, resamples=50)
    assert all(tuple(a) == pytest.approx((-1, -1, -1)) for a in found.values())


def test_values_are_of_the_means_over_seeds():
    rng = np.random.default_rng(0)
    scores, accuracies = rng.normal(size=(2, 9, 4))
    found = ranking.agreement(scores=scores, accuracies=accuracies, resamples=20)
    wanted = stats.pearsonr(scores.mean(1), accuracies.mean(1)).statistic
    assert found["Pearson"].value == pytest.approx(wanted)


def test_the_interval_of_pearson_is_near_fishers():
    rng = np.random.default_rng(1)
    x = rng.normal(size=200)
    y = 0.6 * x + 0.8 * rng.normal(size=200)
    found = ranking.agreement(scores=column(x), accuracies=column(y), resamples=400)["Pearson"]
    theirs = stats.pearsonr(x, y).confidence_interval()
    np.testing.assert_allclose(found[1:], theirs, atol=0.04)


def test_seeds_that_disagree_widen_the_interval():
    x = np.arange(10.0)
    noise = 6 * np.random.default_rng(0).normal(size=(10, 4))
    steady = np.repeat((x[:, None] + noise).mean(1, keepdims=True), 4, axis=1)
    found = [
        ranking.agreement(scores=np.repeat(x[:, None], 4, 1), accuracies=y, resamples=300)
        for y in (steady, x[:, None] + noise)
    ]
    narrow, wide = (a["Kendall"].high - a["Kendall"].low for a in found)
    assert wide > narrow


def test_scores_that_are_all_alike_have_no_agreement():
    found = ranking.agreement(scores=np.ones((4, 1)), accuracies=column([1, 2, 3, 4]), resamples=10)
    assert np.isnan([tuple(a) for a in found.values()]).all()


def test_bad_input_is_refused():
    with pytest.raises(UserError, match="at least 3 candidates; got 2"):
        ranking.agreement(scores=np.ones((2, 1)), accuracies=np.ones((2, 1)))
    with pytest.raises(UserError, match=r"got \(3,\) and \(3,\)"):
        ranking.agreement(scores=np.ones(3), accuracies=np.ones(3))
    with pytest.raises(UserError, match="finite"):
        ranking.agreement(scores=column([1, 2, np.nan]), accuracies=column([1, 2, 3]))


def test_the_score_that_orders_best_is_the_best_in_every_resample():
    accuracies = np.random.default_rng(0).normal(size=(12, 3)) + 10 * np.arange(12)[:, None]
    bases = [f"base{i // 2}" for i in range(12)]
    good, bad = accuracies, -accuracies
    found = ranking.shares_best({"a": bad, "b": good}, accuracies, clusters=bases, resamples=40)
    assert found == {"a": 0, "b": 1}
    found = ranking.shares_best({"a": good, "b": good}, accuracies, clusters=bases, resamples=40)
    assert found == {"a": 0.5, "b": 0.5}


def test_scores_that_are_noise_share_the_first_place():
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(size=(30, 2)) for name in "abc"}
    accuracies, bases = rng.normal(size=(30, 2)), [str(i // 3) for i in range(30)]
    found = ranking.shares_best(scores, accuracies, clusters=bases, resamples=200)
    assert sum(found.values()) == pytest.approx(1) and max(found.values()) < 0.9


@pytest.mark.parametrize(("clusters", "same"), [(["one"] * 4, False), (list("abcd"), True)])
def test_one_base_or_no_difference_makes_no_score_the_best(clusters, same):
    scores = {"a": column([1, 1, 1, 1] if same else [1, 2, 3, 4])}
    found = ranking.shares_best(scores, column([1, 2, 3, 4]), clusters=clusters, resamples=20)
    assert np.isnan(found["a"])
