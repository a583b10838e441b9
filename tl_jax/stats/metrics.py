"""Metrics of a classifier's probabilities, by scikit-learn, under their usual names."""

from collections.abc import Sequence
from typing import Any

import numpy as np

LOWER_IS_BETTER = ("loss", "ece")  # of all others more is better
BINS = 10  # in the expected calibration error


def evaluate(
    probabilities: np.ndarray,
    *,
    labels: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    graded_labels: np.ndarray,
    graded_weights: np.ndarray,
    classes: Sequence[str],
) -> dict[str, Any]:
    """Return the metrics of `probabilities` (N, C); the other arrays are the task's for these N.

    Metrics are fractions, not percent. For two classes F1 and AUC are those of the second class;
    for more they are macro averages (AUC one against the rest). AUC is None if a class does not
    occur.
    """
    from sklearn import metrics

    predicted = probabilities.argmax(1)
    all_classes = np.arange(len(classes))
    by_class: Any = metrics.precision_recall_fscore_support(
        labels, predicted, labels=all_classes, zero_division=0
    )
    precision, recall, f1, n = by_class
    binary = len(classes) == 2
    return {
        "loss": cross_entropy(probabilities, targets=targets, weights=weights),
        "accuracy": float(np.mean(predicted == labels)),
        "weighted_accuracy": float(np.average(predicted == graded_labels, weights=graded_weights)),
        "f1": float(f1[1] if binary else f1.mean()),
        "auc": _auc(probabilities, labels, all_classes),
        "ece": calibration_error(probabilities, labels),
        "per_class": [
            {"name": classes[c], "n": int(n[c])}
            | {"precision": float(precision[c]), "recall": float(recall[c]), "f1": float(f1[c])}
            for c in range(len(classes))
        ],
        "confusion": metrics.confusion_matrix(labels, predicted, labels=all_classes).tolist(),
    }


def accuracy_of_groups(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence[str]
) -> tuple[int, int]:
    """Return how many groups of the N examples are right, and how many there are.

    A group, such as the tiles of an image, is classified by the mean of the rows of `probabilities`
    (N, C); its examples have one label (N,).
    """
    _, first, group = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    sums = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(sums, group, probabilities)
    return int(np.sum(sums.argmax(1) == labels[first])), len(first)


def cross_entropy(probabilities: np.ndarray, *, targets: np.ndarray, weights: np.ndarray) -> float:
    """Return the weighted mean of -sum(targets * log(probabilities)) over (N, C), in nats."""
    log = np.log(np.maximum(probabilities.astype(np.float64), 1e-12))
    return float(np.average(-(targets * log).sum(1), weights=weights))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error over equal bins (Guo et al. 2017, eq. 3)."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        abs(right[bins == b].mean() - confidence[bins == b].mean()) * np.mean(bins == b)
        for b in np.unique(bins)
    ]
    return float(sum(gaps))


def _auc(probabilities: np.ndarray, labels: np.ndarray, all_classes: np.ndarray) -> float | None:
    from sklearn import metrics

    if len(np.unique(labels)) < len(all_classes):
        return None
    if len(all_classes) == 2:
        return float(metrics.roc_auc_score(labels, probabilities[:, 1]))
    # scikit-learn wants sums closer to 1 than float32's.
    rows = probabilities / probabilities.sum(1, keepdims=True)
    return float(metrics.roc_auc_score(labels, rows, multi_class="ovr", labels=all_classes))
