"""Probes that use distances: nearest neighbours, nearest class mean, RBF SVM."""

from collections.abc import Sequence

import numpy as np

from tl_jax.measure.probes.points import Points


def neighbours(points: Points, ks: Sequence[int]) -> np.ndarray:
    """Return the class with most weight among the k nearest neighbours: (len(ks), M).

    Near is a large cosine of centred features. A tie goes to the first class. A k above the number
    of examples takes all of them.
    """
    lengths = np.linalg.norm(points.train, axis=1)
    # A query's own length changes nothing in the order of its neighbours.
    cosines = points.query @ (points.train / np.where(lengths > 0, lengths, 1)[:, None]).T
    most = min(max(ks), len(points.train))
    nearest = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(cosines, nearest, 1), axis=1, kind="stable")
    nearest = np.take_along_axis(nearest, order, 1)
    votes = np.eye(points.classes)[points.labels] * points.weights[:, None]
    votes = votes[nearest].cumsum(1).round(12)  # (M, most, C)
    return np.stack([votes[:, min(k, most) - 1].argmax(1) for k in ks])


def class_means(points: Points) -> np.ndarray:
    """Return the class whose mean is nearest in Euclidean distance: (1, M)."""
    shares = np.eye(points.classes)[points.labels] * points.weights[:, None]
    means = (shares / shares.sum(0)).T @ points.train
    # |q - m|^2 without |q|^2, which is the same for all
    distances = (means**2).sum(1) - 2 * points.query @ means.T
    return distances.argmin(1)[None]


def rbf_svm(points: Points, settings: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return classes (len(settings), M) of scikit-learn's SVC with the kernel exp(-gamma * d^2).

    Settings are pairs (C, width). gamma is `width` over the mean squared distance of two examples,
    so that the same settings suit every layer. C holds for an example of mean weight.
    """
    from sklearn.svm import SVC

    n = len(points.train)
    inner = _squared_distances(points.train, points.train)
    outer = _squared_distances(points.query, points.train) + points.outside[:, None]
    mean = inner.sum() / (n * (n - 1)) or 1.0
    predicted = []
    for penalty, width in settings:
        svm = SVC(C=penalty, kernel="precomputed")
        svm.fit(np.exp(-width / mean * inner), points.labels, n * points.weights)
        predicted.append(svm.predict(np.exp(-width / mean * outer)))
    return np.stack(predicted)


def _squared_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = (one**2).sum(1)[:, None] + (other**2).sum(1)
    return np.maximum(lengths - 2 * one @ other.T, 0)
