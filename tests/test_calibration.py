"""Temperature scaling, beside torch-free reference computations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from tl_jax.stats import calibration, metrics


def drawn(rows: int = 4000, classes: int = 4, seed: int = 0):
    """Logits whose softmax is the truth, and labels drawn from it."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(rows, classes))
    labels = (softmax(logits, 1).cumsum(1) < rng.random((rows, 1))).sum(1)
    targets = np.eye(classes)[labels]
    return logits, {"labels": labels, "targets": targets, "weights": np.ones(rows)}


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_a_factor_on_the_logits(factor):
    logits, truth = drawn()
    given = {name: truth[name] for name in ("targets", "weights")}
    found = calibration.temperature(softmax(factor * logits, 1), **given)
    assert found == pytest.approx(factor, rel=0.06)


@given(st.floats(0.2, 5), st.integers(0, 5))
def test_scaled_probabilities_are_those_of_the_scaled_logits(temperature, seed):
    logits, _ = drawn(20, seed=seed)
    found = calibration.cooled(softmax(logits, 1), temperature)
    np.testing.assert_allclose(found, softmax(logits / temperature, 1), rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(found.argmax(1), logits.argmax(1))


def test_too_sure_a_classifier_is_calibrated_on_examples_that_chose_nothing():
    (first, val), (second, test) = drawn(seed=1), drawn(seed=2)
    sure = {"val": softmax(3 * first, 1), "test": softmax(3 * second, 1)}
    found = calibration.calibrated(sure, {"val": val, "test": test})
    right = sure["test"].argmax(1) == test["labels"]
    before = metrics.calibration_error(sure["test"].max(1), right)
    assert before > 0.1 and found["test"]["ece"] < 0.03
    whole = metrics.cross_entropy(
        softmax(second, 1), targets=test["targets"], weights=test["weights"]
    )
    assert found["test"]["loss"] == pytest.approx(whole, rel=0.01)


def test_predictions_that_are_all_right_stay_finite():
    targets = np.eye(3)[[0, 1, 2, 0]]
    found = calibration.temperature(0.7 * targets + 0.1, targets=targets, weights=np.ones(4))
    assert 1 / calibration.HOTTEST <= found < 0.1
    hard = calibration.cooled(targets, found)
    np.testing.assert_allclose(hard, targets, atol=1e-9)
