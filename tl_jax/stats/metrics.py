"""Metrics of classes, labels, ranks and numbers, by scikit-learn, under their usual names."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

LOWER_IS_BETTER = (  # of all others more is better
    *("loss", "ece", "mae", "rmse", "rank_error"),
    *("perplexity", "image_median_rank", "text_median_rank"),
)
BINS = 10  # in the expected calibration error
OF_CLASSES = ("loss", "accuracy", "weighted_accuracy", "f1", "auc", "ece")  # numbers of `evaluate`


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
        "ece": calibration_error(probabilities.max(1), predicted == labels),
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


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error of predictions (N,) over equal bins (Guo et al. 2017,
    eq. 3); NaN without any.
    """
    if not len(confidence):
        return float("nan")
    own = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(correct[own == b].mean() - confidence[own == b].mean()) * np.mean(own == b)
        for b in np.unique(own)
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


def of_labels(
    probabilities: np.ndarray, *, targets: np.ndarray, names: Sequence[str], thresholds: np.ndarray
) -> dict[str, Any]:
    """Return the metrics of the probability (N, C) of each label, given from `thresholds` (C,) on.

    Targets (N, C) are 1, 0, or NaN where nobody knows. `map` is the mean average precision and `f1`
    the mean F1 over the labels that occur, `exact` the share of examples of which every known label
    is right.
    """
    from sklearn import metrics

    known, given = ~np.isnan(targets), probabilities >= np.asarray(thresholds)
    rows = []
    for c, name in enumerate(names):
        own = known[:, c]
        true, p = targets[own, c] > 0.5, probabilities[own, c]
        said = given[own, c]
        row: dict[str, Any] = {"name": name, "n": int(true.sum()), "known": int(own.sum())}
        row |= {"threshold": float(thresholds[c]), "ap": None, "auc": None, "f1": None}
        if true.any():
            row["ap"] = float(metrics.average_precision_score(true, p))
            row["f1"] = float(metrics.f1_score(true, said))
            row["auc"] = None if true.all() else float(metrics.roc_auc_score(true, p))
        rows.append(row)
    right: Any = np.where(known, given == (targets > 0.5), True).all(1)
    return {
        "map": _mean(row["ap"] for row in rows),
        "f1": _mean(row["f1"] for row in rows),
        "auc": _mean(row["auc"] for row in rows),
        "exact": float(right.mean()) if len(right) else None,
        "per_label": rows,
    }


def best_thresholds(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return for each label (C,) the threshold of its probabilities (N, C) that has the best F1; of
    equal ones the greatest; 1/2 for a label that does not occur.
    """
    from sklearn import metrics

    found = np.full(targets.shape[1], 0.5)
    for c in range(len(found)):
        own = ~np.isnan(targets[:, c])
        true, p = targets[own, c] > 0.5, probabilities[own, c]
        if not true.any():
            continue
        precision, recall, at = metrics.precision_recall_curve(true, p)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        found[c] = at[len(at) - 1 - np.argmax(f1[: len(at)][::-1])]
    return found


def of_numbers(
    predicted: np.ndarray, *, targets: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    """Return the metrics of numbers (N, D), in their units; targets may be NaN.

    `r2` is the share of the variance that is explained and `spearman` the correlation of ranks,
    means over the numbers; `mae` and `rmse` are of a single number alone, because those of several
    have different units. All are in `per_number`.
    """
    from scipy import stats
    from sklearn import metrics

    rows = []
    for d, name in enumerate(names):
        own = ~np.isnan(targets[:, d])
        true, said = targets[own, d].astype(float), predicted[own, d].astype(float)
        row: dict[str, Any] = {"name": name, "n": len(true), "r2": None, "spearman": None}
        if len(true):
            row["mae"] = float(np.abs(said - true).mean())
            row["rmse"] = float(np.sqrt(((said - true) ** 2).mean()))
        if len(true) > 1 and true.std() > 0:
            row["r2"] = float(metrics.r2_score(true, said))
            constant = said.std() == 0  # a constant ranks nothing
            row["spearman"] = 0.0 if constant else float(stats.spearmanr(true, said).statistic)
        rows.append(row)
    found = {name: _mean(row[name] for row in rows) for name in ("r2", "spearman")}
    if len(rows) == 1:
        found |= {name: rows[0].get(name) for name in ("mae", "rmse")}
    return found | {"per_number": rows}


def of_ranks(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return `rank_error`, by how many classes the median of the probabilities (N, K) is off, and
    `kappa`, Cohen's with quadratic weights.
    """
    from sklearn import metrics

    said = (np.cumsum(probabilities, 1) < 0.5).sum(1)
    numbers = np.arange(probabilities.shape[1])
    kappa = metrics.cohen_kappa_score(labels, said, labels=numbers, weights="quadratic")
    return {"rank_error": float(np.abs(said - labels).mean()), "kappa": float(kappa)}


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None
