"""Choosing without target labels: bounds, cases by hand, and scikit-learn's own figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score

from tl_jax.errors import UserError
from tl_jax.measure import validators
from tl_jax.measure.validators import Outputs, controlled, density_ratio, reverse_validation, score

N, C = 60, 3
LABELS = np.arange(N) % C
SURE = np.eye(C)[LABELS]  # certain and balanced
COLLAPSED = np.eye(C)[np.zeros(N, int)]
UNDECIDED = np.full((N, C), 1 / C)
close = pytest.approx


def drawn(seed: int, n: int = N, c: int = C) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(c), n)


def of_target(name: str, probabilities: np.ndarray) -> float:
    return validators.VALIDATORS[name](target_probabilities=probabilities)


@pytest.mark.parametrize(
    ("name", "sure", "collapsed", "undecided"),
    [
        ("entropy", 0, 0, -np.log(C)),
        ("infomax", np.log(C), 0, 0),
        ("bnm", 1, C**-0.5, 1 / C),
        # Same predictions are near by exp(1 / 0.05), others by 1: those of the class alone count
        ("snd", np.log(N / C - 1), np.log(N - 1), np.log(N - 1)),
    ],
)
def test_the_ends_of_each_scale(name, sure, collapsed, undecided):
    said = [of_target(name, p) for p in (SURE, COLLAPSED, UNDECIDED)]
    assert said == close([sure, collapsed, undecided], abs=1e-5)


@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(2, 6))
def test_bounds_hold_for_any_predictions(seed, n, c):
    p = drawn(seed, n, c)
    assert -np.log(c) <= of_target("entropy", p) <= 0
    assert -1e-9 <= of_target("infomax", p) <= np.log(c)
    assert 0 < of_target("bnm", p) <= 1 + 1e-9
    assert -1e-9 <= of_target("snd", p) <= np.log(n - 1) + 1e-9


def test_soft_neighbourhoods_are_the_papers_in_parts_of_any_size(monkeypatch):
    p = drawn(0, 11)
    unit = p / np.linalg.norm(p, axis=1, keepdims=True)
    expected = []
    for i in range(11):
        near = np.array([np.exp(unit[i] @ unit[j] / 0.05) for j in range(11) if j != i])
        near /= near.sum()
        expected.append(-(near * np.log(near)).sum())
    monkeypatch.setattr(validators, "ROWS", 4)
    assert of_target("snd", p) == close(np.mean(expected))


def test_a_control_variate_by_hand():
    weights, losses = np.array([0.5, 1.0, 2.0]), np.array([1.0, 0.0, 1.0])
    weighted, mean = np.array([0.5, 0.0, 2.0]), 3.5 / 3
    covariance = ((weighted - 2.5 / 3) * (weights - mean)).sum() / 2
    eta = -covariance / (((weights - mean) ** 2).sum() / 2)
    assert controlled(weights, losses) == close(2.5 / 3 + eta * (mean - 1))
    assert controlled(np.ones(3), losses) == close(2 / 3)
    # Weights of mean 1 leave the mean: the control variate is of no use there.
    assert controlled(weights / mean, losses) == close(2.5 / 3 / mean)


def test_density_ratios_of_gaussians():
    """p(target) / p(source) is exp(x / 2 - 1 / 8) of N(0, 1) and N(1/2, 1)."""
    rng = np.random.default_rng(0)
    source, target = rng.normal(0, 1, (3000, 1)), rng.normal(0.5, 1, (1500, 1))
    exact = np.exp(source[:, 0] / 2 - 1 / 8)
    found = density_ratio(source, target)
    assert np.abs(np.log(found / exact)).max() < 0.35
    assert found.mean() == close(1, abs=0.05)
    apart = density_ratio(source, target + 100)
    assert apart.max() < 0.01  # nothing of the source lies in the target


def outputs(**changes) -> Outputs:
    """A source and a target from the same three groups of features."""
    rng = np.random.default_rng(0)
    groups = 8 * np.eye(C)[LABELS]
    fields = {
        "source_features": groups + rng.normal(size=(N, C)),
        "source_probabilities": 0.8 * SURE + 0.2 / C,
        "source_labels": LABELS,
        "target_features": groups + rng.normal(size=(N, C)),
        "target_probabilities": 0.8 * SURE + 0.2 / C,
    }
    return Outputs(**(fields | changes))


def test_weighted_losses_of_one_domain_are_its_loss():
    """The same features on both sides: weights are about 1."""
    same = outputs()
    same = same._replace(target_features=same.source_features)
    loss = -np.log(0.8 + 0.2 / C)
    for name in ("iwcv", "dev", "devn"):
        assert score(name, same) == close(-loss, rel=0.15)


def test_devn_is_the_mean_loss_under_weights_that_no_single_one_decides():
    """By hand: weights over their maximum, shifted to the mean 1, times losses that vary."""
    rng = np.random.default_rng(0)
    made = outputs(target_features=4 * np.eye(C)[LABELS] + rng.normal(size=(N, C)))
    made = made._replace(source_probabilities=rng.dirichlet(np.ones(C), N))
    weights = validators.density_ratio(made.source_features, made.target_features)
    loss = -np.log(made.source_probabilities[np.arange(N), LABELS])
    shifted = weights / weights.max() - (weights / weights.max()).mean() + 1
    assert score("devn", made) == close(-(shifted * loss).mean())
    eta = -np.cov(weights * loss, weights)[0, 1] / np.var(weights, ddof=1)
    assert score("dev", made) == close(-(weights * loss).mean() - eta * (weights.mean() - 1))
    assert np.ptp(weights) > 0.1 and score("dev", made) != close(score("devn", made), rel=0.01)


def test_predicted_classes_are_compared_with_clusters_of_the_features():
    good = outputs()
    assert score("class_ami", good) == close(1)
    shuffled = np.random.default_rng(1).permutation(SURE)
    clusters = KMeans(C, n_init=3, random_state=0).fit_predict(good.target_features)
    expected = adjusted_mutual_info_score(shuffled.argmax(1), clusters)
    assert score("class_ami", good._replace(target_probabilities=shuffled)) == close(expected)
    assert score("class_ami", good._replace(target_probabilities=COLLAPSED)) == 0
    constant = good._replace(target_features=np.ones((N, C)))
    assert score("class_ami", constant) == 0  # one cluster, and no warning of scikit-learn's


def test_reverse_validation_trains_back():
    good = outputs()
    assert score("reverse_accuracy", good) == 1
    collapsed = good._replace(target_probabilities=COLLAPSED)
    assert score("reverse_accuracy", collapsed) == close(1 / C)
    turned = good._replace(target_probabilities=np.roll(SURE, 1, 1))
    assert score("reverse_accuracy", turned) == 0
    seen = []

    def fit(inputs, labels):
        seen.append((inputs, labels))
        return lambda rows: rows

    source = {"inputs": np.array([1, 2]), "labels": np.array([1, 0])}
    assert reverse_validation(fit, "x", "y", **source) == 0.5
    assert seen == [("x", "y")]


def test_source_accuracy_and_what_is_refused():
    wrong = np.where(LABELS == 0, 1, LABELS)
    assert score("source_accuracy", outputs(source_labels=wrong)) == close(2 / 3)
    with pytest.raises(UserError, match="unknown validator 'infomx'; did you mean 'infomax'"):
        score("infomx", outputs())
    with pytest.raises(UserError, match="target probabilities are not finite"):
        score("entropy", outputs(target_probabilities=np.full((N, C), np.nan)))
    with pytest.raises(UserError, match="snd takes two or more examples; got 1"):
        of_target("snd", SURE[:1])
    with pytest.raises(UserError, match="5 examples of each domain or more; got 2"):
        density_ratio(np.ones((9, 1)), np.ones((2, 1)))
