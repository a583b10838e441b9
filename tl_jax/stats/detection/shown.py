"""What a picture shows of detections: from which score on, and which of them are right."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.stats.detection.matches import Arrays, Matches, found_in

OVERLAP = 0.5  # from which on a box counts as found


def best_score(of_classes: Sequence[Matches]) -> float:
    """Return the score from which on detections of all classes have the greatest F1, at the first
    threshold of overlap; of equal ones the greatest. Infinity if none is right.
    """
    scores = np.concatenate([one.scores for one in of_classes])
    right = np.concatenate([one.right[0] for one in of_classes])
    wrong = np.concatenate([one.wrong[0] for one in of_classes])
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(right[order])
    said = np.cumsum((right | wrong)[order])
    f1 = 2 * found / np.maximum(1, said + sum(one.positives.sum() for one in of_classes))
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores come together
    if not found.any():
        return np.inf
    return float(scores[order][np.argmax(np.where(last, f1, -1))])


class Marks(NamedTuple):
    """What is right in N images, of the detections of a score or more."""

    shown: np.ndarray  # (N, K) bool: score high enough, and not of something ignored
    right: np.ndarray  # (N, K) bool
    found: np.ndarray  # (N, M) bool: boxes that a detection has found

    def mistakes(self, truths: Arrays) -> np.ndarray:
        """Return (N,) how many detections are wrong or boxes missed."""
        missed = (truths["classes"] >= 0) & ~truths["ignored"] & ~self.found
        return (self.shown & ~self.right).sum(1) + missed.sum(1)


def marks(detections: Arrays, truths: Arrays, least: float) -> Marks:
    """Match the detections of score `least` or more with the boxes, by COCO's rule at `OVERLAP`."""
    shown = (detections["classes"] >= 0) & (detections["scores"] >= least)
    right, found = np.zeros_like(shown), np.zeros(truths["classes"].shape, bool)
    kept = {**detections, "classes": np.where(shown, detections["classes"], -1)}
    for row in range(len(shown)):
        for own, boxes in found_in(kept, truths, row, OVERLAP):
            there = boxes >= 0
            aside = there & truths["ignored"][row][boxes]
            right[row, own] = there & ~aside
            shown[row, own[aside]] = False
            found[row, boxes[there & ~aside]] = True
    return Marks(shown, right, found)
