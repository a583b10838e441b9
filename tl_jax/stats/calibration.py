"""Temperature scaling: one number, fitted on validation, that makes confidences honest."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tl_jax.stats import metrics

HOTTEST = 100.0  # and 1 / that the coldest: beyond, all confidences are even, or all are 1


def temperature(
    probabilities: np.ndarray, *, targets: np.ndarray, weights: np.ndarray
) -> float:
    """Return the T that minimises the cross entropy of softmax(logits / T) over (N, C).

    Guo et al. 2017 (arXiv:1706.04599), section 4.2. T is above 1 where the classifier is too sure.
    """
    from scipy import optimize

    def loss(log: float) -> float:
        scaled = cooled(probabilities, math.exp(log))
        return metrics.cross_entropy(scaled, targets=targets, weights=weights)

    widest = math.log(HOTTEST)
    found: Any = optimize.minimize_scalar(loss, bounds=(-widest, widest), method="bounded")
    return math.exp(found.x)


def cooled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(logits / temperature) (N, C), float64, of the softmax of the logits."""
    scaled = np.log(np.maximum(probabilities.astype(np.float64), 1e-12)) / temperature
    scaled = np.exp(scaled - scaled.max(1, keepdims=True))
    return scaled / scaled.sum(1, keepdims=True)


def calibrated(
    probabilities: Mapping[str, np.ndarray], truth: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """Return the temperature fitted on "val", and with it the loss and calibration error of each
    split. `truth` has "labels", "targets" and "weights" by split.
    """
    val = {name: truth["val"][name] for name in ("targets", "weights")}
    chosen = temperature(probabilities["val"], **val)
    result: dict[str, Any] = {"temperature": chosen}
    for split, own in truth.items():
        scaled = cooled(probabilities[split], chosen)
        loss = metrics.cross_entropy(scaled, targets=own["targets"], weights=own["weights"])
        error = metrics.calibration_error(scaled.max(1), scaled.argmax(1) == own["labels"])
        result[split] = {"loss": loss, "ece": error}
    return result
