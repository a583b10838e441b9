import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.stats import metrics


def scores(probabilities, labels, classes="ab", **changes):
    probabilities, labels = np.asarray(probabilities, np.float32), np.asarray(labels)
    ones = np.ones(len(labels), np.float32)
    given = {
        "labels": labels,
        "targets": np.eye(len(classes), dtype=np.float32)[labels],
        "weights": ones,
        "graded_labels": labels,
        "graded_weights": ones,
    }
    return metrics.evaluate(probabilities, **(given | changes), classes=classes)


def random(n=200, classes=3):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n, classes))
    labels = (logits + rng.gumbel(size=(n, classes))).argmax(1)
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels


def test_two_classes_by_hand():
    # predicted 1 1 0 0: two true positives, no false one, one missed
    found = scores([[0.2, 0.8], [0.1, 0.9], [0.7, 0.3], [0.6, 0.4]], [1, 1, 0, 1])
    assert found["accuracy"] == 3 / 4
    assert found["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1))  # 2 tp / (2 tp + fp + fn)
    assert found["auc"] == pytest.approx(1)  # every 1 is above every 0
    assert found["confusion"] == [[1, 0], [1, 2]]  # row: true, column: predicted
    assert found["loss"] == pytest.approx(-np.log([0.8, 0.9, 0.7, 0.4]).mean(), rel=1e-6)
    assert found["per_class"] == [
        {"name": "a", "n": 1, "precision": 1 / 2, "recall": 1.0, "f1": pytest.approx(2 / 3)},
        {"name": "b", "n": 3, "precision": 1.0, "recall": pytest.approx(2 / 3), "f1": 0.8},
    ]


def test_weighted_accuracy_by_hand():
    probabilities = [[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]]  # predicted 0 0 1 1
    found = scores(
        probabilities,
        [0, 1, 1, 1],
        graded_labels=np.array([0, 0, 1, 0]),
        graded_weights=np.array([1, 1 / 3, 1 / 3, 1], np.float32),
    )
    assert found["accuracy"] == 3 / 4
    assert found["weighted_accuracy"] == pytest.approx((1 + 1 / 3 + 1 / 3) / (8 / 3))


def test_loss_has_weights_and_soft_targets():
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75]])
    targets, weights = np.array([[1, 0], [1 / 3, 2 / 3]]), np.array([1.0, 3.0])
    soft = -(np.log(0.25) / 3 + 2 * np.log(0.75) / 3)
    wanted = (np.log(2) + 3 * soft) / 4
    found = metrics.cross_entropy(probabilities, targets=targets, weights=weights)
    assert found == pytest.approx(wanted)


def test_a_certain_mistake_costs_a_finite_loss():
    assert 20 < scores([[1.0, 0.0], [0.5, 0.5]], [1, 0])["loss"] * 2 < 40


def test_as_scikit_learn():
    probabilities, labels = random()
    found = scores(probabilities, labels, classes="abc")
    predicted = probabilities.argmax(1)
    assert found["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    assert found["f1"] == pytest.approx(
        sklearn.metrics.f1_score(labels, predicted, average="macro")
    )
    auc = [sklearn.metrics.roc_auc_score(labels == c, probabilities[:, c]) for c in range(3)]
    assert found["auc"] == pytest.approx(np.mean(auc), abs=1e-6)
    assert found["loss"] == pytest.approx(sklearn.metrics.log_loss(labels, probabilities))
    assert np.sum(found["confusion"]) == len(labels)
    assert [c["n"] for c in found["per_class"]] == np.bincount(labels).tolist()


def test_weighted_loss_as_scikit_learn():
    probabilities, labels = random()
    weights = np.random.default_rng(1).uniform(0.1, 2, len(labels))
    wanted = sklearn.metrics.log_loss(labels, probabilities, sample_weight=weights)
    found = metrics.cross_entropy(probabilities, targets=np.eye(3)[labels], weights=weights)
    assert found == pytest.approx(wanted)


def test_auc_is_none_where_a_class_does_not_occur():
    found = scores([[0.6, 0.4], [0.3, 0.7]], [0, 0])
    assert found["auc"] is None
    assert found["per_class"][1] == {"name": "b", "n": 0, "precision": 0, "recall": 0, "f1": 0}
    assert found["confusion"] == [[1, 1], [0, 0]]


def test_calibration_error_by_hand():
    # Ten bins: 0.95 and 0.99 share one (one of two right), 0.6 is alone and right.
    confidence, right = np.array([0.95, 0.99, 0.6]), [True, False, True]
    probabilities = np.stack([confidence, 1 - confidence], 1)
    labels = np.where(right, 0, 1)
    wanted = 2 / 3 * abs(0.5 - 0.97) + 1 / 3 * abs(1 - 0.6)
    assert metrics.calibration_error(confidence, np.array(right)) == pytest.approx(wanted)
    found = scores(probabilities, labels)
    assert found["ece"] == pytest.approx(wanted, abs=1e-6)
    numbers = [name for name, value in found.items() if not isinstance(value, list)]
    assert tuple(numbers) == metrics.OF_CLASSES


@given(sure=st.lists(st.booleans(), min_size=1))
def test_certainty_has_the_error_of_its_mistakes(sure):
    labels = np.array(sure, int)
    certain = np.ones(len(labels))
    assert metrics.calibration_error(certain, labels == 0) == pytest.approx(labels.mean())
