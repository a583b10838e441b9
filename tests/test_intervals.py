"""Intervals, calibration and what else a page says of predictions: by hand, scipy, scikit-learn."""

import numpy as np
import pytest
import scipy.stats
from sklearn.calibration import calibration_curve

from tl_jax.stats import intervals, metrics


# Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_as_published(correct, n, low, high):
    assert intervals.wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_bootstrap_agrees_with_scipy():
    random = np.random.default_rng(1)
    correct, weights = random.random(300) < 0.8, random.choice([1 / 3, 1.0], 300)
    expected = scipy.stats.bootstrap(
        (correct * weights, weights), lambda hits, w, axis: hits.sum(axis) / w.sum(axis),
        paired=True, method="percentile", n_resamples=4000, vectorized=True,
        random_state=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    assert intervals.bootstrap(correct, weights) == pytest.approx(tuple(expected), abs=0.01)


def test_intervals_of_nothing_and_of_certainty():
    assert intervals.wilson(0, 0) is None
    assert intervals.bootstrap(np.zeros(0, bool), np.zeros(0)) is None
    assert intervals.bootstrap(np.ones(3, bool), np.zeros(3)) is None
    assert intervals.bootstrap(np.ones(3, bool), np.ones(3)) == (1, 1)


def test_reliability_by_hand():
    confidence = np.array([0.05, 0.55, 0.65, 0.95, 0.85, 1.0, np.nan])
    correct = np.array([1, 0, 1, 1, 0, 1, 1], bool)
    bins = intervals.reliability(confidence, correct, bins=2)
    assert bins.count.tolist() == [1, 5]
    assert bins.confidence == pytest.approx([0.05, 0.8])
    assert bins.accuracy == pytest.approx([1, 0.6])
    assert bins.error == pytest.approx((1 * 0.95 + 5 * 0.2) / 6)


def test_reliability_agrees_with_scikit_learn():
    probabilities = np.random.default_rng(0).dirichlet((1, 2), 200)
    labels = np.arange(200) % 2
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    bins = intervals.reliability(confidence, correct)
    accuracy, mean = calibration_curve(correct, confidence, n_bins=metrics.BINS)
    full = bins.count > 0
    np.testing.assert_allclose(bins.accuracy[full], accuracy)
    np.testing.assert_allclose(bins.confidence[full], mean, rtol=1e-6)


def test_worst_mistakes_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7], [np.nan, np.nan]])
    labels = np.array([0, 0, 0, 1, 0])
    assert intervals.worst(probabilities, labels, most=12).tolist() == [2, 1]
    assert intervals.worst(probabilities, labels, most=1).tolist() == [2]


def test_commonest_confusions_by_hand():
    confusion = np.array([[90, 1, 0], [7, 80, 3], [0, 0, 50]])
    assert intervals.confusions(confusion, most=2) == [(1, 0, 7), (1, 2, 3)]
    assert intervals.confusions(np.diag([3, 4]), most=2) == []


def test_intervals_over_seeds_agree_with_scipy():
    values = np.random.default_rng(0).random((3, 5))
    mean, half = intervals.over_seeds(values)
    for row, m, h in zip(values, mean, half, strict=True):
        wanted = scipy.stats.ttest_1samp(row, 0).confidence_interval(0.95)
        assert (m - h, m + h) == pytest.approx(tuple(wanted))


def test_what_is_missing_is_left_out_of_the_interval():
    mean, half = intervals.over_seeds([[1.0, 3.0, np.nan], [2.0, np.nan, np.nan], [np.nan] * 3])
    alone = intervals.over_seeds([[1.0, 3.0]])
    np.testing.assert_array_equal(mean, [2, 2, np.nan])
    np.testing.assert_array_equal(half, [alone[1][0], np.nan, np.nan])
