"""Transferability scores against their definitions in loops, cases by hand, limits, properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from sklearn.covariance import LedoitWolf

from tl_jax.errors import UserError
from tl_jax.measure import scores

WIDTHS = [5, 60]  # fewer and more than there are examples


def problem(d=5, n=40, classes=3, seed=0, apart=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = apart * rng.normal(size=(classes, d))
    return centres[labels] + rng.normal(size=(n, d)), labels


def rotated(features, seed=1):
    d = features.shape[1]
    return features @ np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


@pytest.mark.parametrize("d", WIDTHS)
def test_logme_is_the_largest_evidence_of_a_gaussian_process(d):
    """Its definition another way: the marginal density of y, at the best two variances."""
    features, labels = problem(d)
    n, found = len(labels), []
    for c in range(3):

        def surprise(log, y=1.0 * (labels == c)):
            covariance = np.exp(log[0]) * features @ features.T + np.exp(log[1]) * np.eye(n)
            return -stats.multivariate_normal(np.zeros(n), covariance).logpdf(y)

        tried = (optimize.minimize(surprise, start) for start in ([-2, -2], [-5, -1], [-4, -4]))
        found.append(-min(result.fun for result in tried) / n)
    assert scores.logme(features, labels) == pytest.approx(np.mean(found), abs=1e-4)


def test_leep_and_nce_by_hand():
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.5, 0.5]])
    labels = np.array([0, 0, 1, 1])
    # P(z) is (2.0, 2.0) / 4; P(y = 0 | z) is (1.4 / 2, 0.6 / 2)
    expected = [0.8 * 0.7 + 0.2 * 0.3, 0.6 * 0.7 + 0.4 * 0.3]
    expected += [0.1 * 0.3 + 0.9 * 0.7, 0.5 * 0.3 + 0.5 * 0.7]
    assert scores.leep(probabilities, labels) == pytest.approx(np.log(expected).mean())
    # Source 7 has the labels 0, 0, 1 and source 9 only 1.
    wanted = (2 * np.log(2 / 3) + np.log(1 / 3) + 0) / 4
    assert scores.nce(np.array([7, 7, 7, 9]), np.array([0, 0, 1, 1])) == pytest.approx(wanted)


def test_nce_is_minus_the_entropy_of_labels_given_source():
    rng = np.random.default_rng(0)
    source, labels = rng.integers(0, 4, 50), rng.integers(0, 3, 50)
    entropy = 0.0
    for z in range(4):
        share = np.bincount(labels[source == z]) / (source == z).sum()
        entropy += (source == z).mean() * stats.entropy(share)
    assert scores.nce(source, labels) == pytest.approx(-entropy)


def test_leep_with_source_classes_that_are_never_predicted():
    probabilities = np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 0]])
    assert scores.leep(probabilities, np.array([0, 1, 0])) == pytest.approx(0)


def covariances(features, labels):
    """Of the features, and of their classes' means: sums over examples, one by one."""
    mean, n = features.mean(0), len(features)
    whole = sum(np.outer(x - mean, x - mean) for x in features) / n
    centres = [features[labels == y].mean(0) for y in labels]
    return whole, sum(np.outer(g - mean, g - mean) for g in centres) / n


@pytest.mark.parametrize("d", WIDTHS)
def test_h_scores_are_the_published_traces(d):
    features, labels = problem(d)
    whole, between = covariances(features, labels)
    wanted = np.trace(np.linalg.pinv(whole, rcond=1e-10, hermitian=True) @ between)
    assert scores.h_score(features, labels) == pytest.approx(wanted)
    shrunk = LedoitWolf().fit(features)
    a = shrunk.shrinkage_
    wanted = (1 - a) * np.trace(np.linalg.inv(shrunk.covariance_) @ between)
    assert scores.regularised_h_score(features, labels) == pytest.approx(wanted)


def test_more_dimensions_than_examples_blind_the_h_score_but_not_the_regularised():
    features, labels = problem(200)
    mixed = np.random.default_rng(0).permutation(labels)
    assert scores.h_score(features, labels) == pytest.approx(2)
    assert scores.h_score(features, mixed) == pytest.approx(2)
    regularised = scores.regularised_h_score
    assert 2 > regularised(features, labels) > regularised(features, mixed) + 0.1


@pytest.mark.parametrize("d", WIDTHS)
def test_transrate_is_the_published_rates(d):
    features, labels = problem(d)
    labels[:7] = 0  # classes of different sizes
    z, eps = features - features.mean(0), 1e-4

    def rate(z):
        return 0.5 * np.linalg.slogdet(np.eye(d) + z.T @ z / (len(z) * eps))[1]

    within = sum((labels == c).mean() * rate(z[labels == c]) for c in range(3))
    assert scores.transrate(features, labels) == pytest.approx(rate(z) - within)


def test_class_separation_is_the_ratio_of_mean_cosine_distances():
    features, labels = problem(n=20)
    labels[:4] = 0

    def distance(a, b):
        pairs = [1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x in a for y in b]
        return np.mean(pairs)

    groups = [features[labels == c] for c in range(3)]
    within = np.mean([distance(g, g) for g in groups])
    total = np.mean([distance(g, h) for g in groups for h in groups])
    assert scores.class_separation(features, labels) == pytest.approx(1 - within / total)


def test_nleep_knows_classes_that_are_clusters_and_none_that_are_not():
    features, labels = problem(d=8, n=300, apart=30.0)
    assert scores.nleep(features, labels) == pytest.approx(0, abs=1e-6)
    mixed = np.random.default_rng(0).permutation(labels)
    assert scores.nleep(features, mixed) == pytest.approx(-np.log(3), abs=0.1)


def test_a_distance_of_sets_that_are_alike_and_that_are_not():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 200, 5))
    assert scores.proxy_a_distance(first, second) < 0.3
    assert scores.proxy_a_distance(first, second[:50] + 8) == pytest.approx(2)
    # Two unit Gaussians 2 apart: the best classifier errs with probability Phi(-1).
    apart = rng.normal(size=(3000, 1)) + 2
    found = scores.proxy_a_distance(rng.normal(size=(3000, 1)), apart)
    assert found == pytest.approx(2 * (1 - 2 * stats.norm.cdf(-1)), abs=0.06)


@pytest.mark.parametrize("name", scores.ON_FEATURES)
def test_perfect_features_beat_noisy_ones_and_those_beat_independent_ones(name):
    score = scores.ON_FEATURES[name]
    perfect, labels = problem(n=90, apart=60.0)
    noisy, _ = problem(n=90, apart=1.0)
    mixed = np.random.default_rng(3).permutation(labels)
    assert score(perfect, labels) > score(noisy, labels) > score(noisy, mixed)


def test_limits():
    labels = np.arange(60) % 3
    exact = np.eye(3)[labels]
    assert scores.h_score(exact, labels) == pytest.approx(2)
    assert scores.class_separation(exact, labels) == pytest.approx(1)
    assert scores.nce(labels, labels) == scores.leep(exact, labels) == 0
    assert np.isfinite(scores.logme(exact, labels))
    noise, _ = problem(n=60, apart=0)
    assert scores.logme(exact, labels) > 5 > scores.logme(noise, labels)
    # What does not know the label's class is as good as its frequencies.
    assert scores.nce(np.zeros(60), labels) == pytest.approx(-np.log(3))
    assert scores.leep(np.full((60, 4), 0.25), labels) == pytest.approx(-np.log(3))


@pytest.mark.parametrize("name", scores.ON_FEATURES)
@pytest.mark.parametrize("d", WIDTHS)
def test_rotation_changes_nothing(name, d):
    features, labels = problem(d)
    wanted = scores.ON_FEATURES[name](features, labels)
    assert scores.ON_FEATURES[name](rotated(features), labels) == pytest.approx(wanted, rel=1e-6)


# N-LEEP's mixture begins at randomly chosen examples, so that their order matters a little.
@pytest.mark.parametrize("name", [n for n in scores.ON_FEATURES if n != "N-LEEP"])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_the_order_of_examples_and_the_names_of_classes_change_nothing(name, seed):
    score, (features, labels) = scores.ON_FEATURES[name], problem(seed=seed)
    wanted = score(features, labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    assert score(features[order], labels[order]) == pytest.approx(wanted)
    assert score(features, np.array([7, -2, 40])[labels]) == pytest.approx(wanted)


# Not the regularised H-score, which shrinks towards the mean variance of all D.
@pytest.mark.parametrize("name", ["H-score", "TransRate", "LogME"])
def test_constant_features_add_nothing(name):
    features, labels = problem()
    features -= features.mean(0)
    score = scores.ON_FEATURES[name]
    offset = 0 if name == "LogME" else 1e3  # to LogME, which has no intercept, 1 is a feature
    more = np.hstack([features, np.full((40, 2), offset)])
    assert score(more, labels) == pytest.approx(score(features, labels))


@pytest.mark.parametrize("name", scores.ON_FEATURES)
def test_duplicated_and_all_constant_features_have_finite_scores(name):
    features, labels = problem()
    score = scores.ON_FEATURES[name]
    assert np.isfinite(score(np.hstack([features, features]), labels))
    for value in (0.0, 0.1):
        assert np.isfinite(score(np.full((40, 3), value), labels))


def test_duplicates_leave_the_h_score_as_it_is():
    features, labels = problem()
    twice = np.hstack([features, features])
    assert scores.h_score(twice, labels) == pytest.approx(scores.h_score(features, labels))


def test_features_as_they_come_from_a_network_are_taken_for_float64():
    features, labels = problem()
    features = np.float32(features)
    for score in scores.ON_FEATURES.values():
        assert score(features, labels) == score(np.float64(features), labels)


@pytest.mark.parametrize("name", scores.ON_FEATURES)
def test_bad_input_is_refused(name):
    score, (features, labels) = scores.ON_FEATURES[name], problem()
    wrong = features.copy()
    wrong[3, 2] = np.nan
    with pytest.raises(UserError, match="feature 2 of example 3 is not finite"):
        score(wrong, labels)
    with pytest.raises(UserError, match=r"got \(40, 5\) and \(39,\)"):
        score(features, labels[1:])
    with pytest.raises(UserError, match="needs two classes: 1 in 40 labels"):
        score(features, np.zeros(40))


def test_other_bad_input_is_refused():
    features, labels = problem()
    with pytest.raises(UserError, match="each row must sum to 1"):
        scores.leep(features, labels)
    with pytest.raises(UserError, match="here 15, and has too few examples: 12"):
        scores.nleep(features[:12], labels[:12])
    with pytest.raises(UserError, match="have the same D"):
        scores.proxy_a_distance(features, features[:, 1:])
    with pytest.raises(UserError, match="5 examples of each"):
        scores.proxy_a_distance(features, features[:4])
