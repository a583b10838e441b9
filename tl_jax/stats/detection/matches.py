"""Which detections of a class are right, by COCO's rule and by VOC's."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from tl_jax.stats.detection import overlap

Arrays = Mapping[str, np.ndarray]
MOST = 100  # detections of a class in an image that COCO looks at, by score
EVERY = 0.0, np.inf


class Matches(NamedTuple):
    """The D detections of a class in N images, by falling score, at T thresholds of overlap."""

    image: np.ndarray  # (D,) row of the image
    scores: np.ndarray  # (D,)
    right: np.ndarray  # (T, D) bool
    wrong: np.ndarray  # (T, D) bool; neither where what it found is ignored
    positives: np.ndarray  # (N,) boxes that must be found


class OfImage(NamedTuple):
    """The detections and boxes of one class in one image; detections by falling score."""

    scores: np.ndarray  # (K,)
    boxes: np.ndarray  # (K, 4)
    truth: np.ndarray  # (M, 4)
    ignored: np.ndarray  # (M,)
    areas: np.ndarray  # (M,)


def of_image(detections: Arrays, truths: Arrays, row: int, label: int) -> OfImage:
    """Return what there is of a class in an image."""
    own = _columns(detections, row, label)
    true = truths["classes"][row] == label
    return OfImage(
        detections["scores"][row][own],
        detections["boxes"][row][own],
        truths["boxes"][row][true],
        truths["ignored"][row][true],
        truths["areas"][row][true],
    )


def _columns(detections: Arrays, row: int, label: int) -> np.ndarray:
    """Return the columns (K,) of the detections of a class in an image, by falling score."""
    own = np.flatnonzero(detections["classes"][row] == label)
    return own[np.argsort(-detections["scores"][row][own], kind="stable")]


def by_coco(
    detections: Arrays,
    truths: Arrays,
    label: int,
    thresholds: np.ndarray,
    areas: tuple[float, float] = EVERY,
) -> Matches:
    """Match as pycocotools' COCOeval does (`taken`), at most `MOST` detections an image.

    Boxes whose area is not in `areas`, both ends included, are ignored as well, and so are
    detections of such an area that find nothing.
    """

    def match(one: OfImage) -> tuple[np.ndarray, np.ndarray, int]:
        one = one._replace(scores=one.scores[:MOST], boxes=one.boxes[:MOST])
        aside = one.ignored | (one.areas < areas[0]) | (one.areas > areas[1])
        size = (one.boxes[:, 2:] - one.boxes[:, :2]).prod(-1)
        beyond = (size < areas[0]) | (size > areas[1])
        found = taken(one, thresholds, aside)
        right = (found >= 0) & ~np.append(aside, True)[found]
        return right, (found < 0) & ~beyond, int((~aside).sum())

    return _collected(detections, truths, label, match, len(thresholds))


def taken(one: OfImage, thresholds: np.ndarray, aside: np.ndarray) -> np.ndarray:
    """Return (T, K) the number of the box that each detection takes at each threshold, or -1.

    By falling score, a detection takes the box of the greatest overlap, at least the threshold,
    that no other took; the last of equal ones, and one of `aside` (M,) only if there is no other.
    An ignored one, a crowd, can be taken many times.
    """
    ious = overlap.of_pairs(one.boxes, one.truth, one.ignored)
    least = np.minimum(thresholds, 1 - 1e-10)[:, None]  # as pycocotools has it
    found = np.full((len(thresholds), len(one.boxes)), -1)
    free = np.ones((len(thresholds), len(one.truth)), bool)
    for d in range(len(one.boxes) if len(one.truth) else 0):
        fits = (ious[d] >= least) & free
        counted = fits & ~aside
        chosen = np.where(counted.any(1, keepdims=True), counted, fits)
        last = len(one.truth) - 1 - np.where(chosen, ious[d], -1)[:, ::-1].argmax(1)
        some = np.flatnonzero(chosen.any(1))
        found[some, d] = last[some]
        free[some, last[some]] = one.ignored[last[some]]
    return found


def found_in(
    detections: Arrays, truths: Arrays, row: int, threshold: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for each class that is said to be in an image the columns (K,) of its detections, by
    falling score, and those (K,) of the boxes that they take by COCO's rule, or -1.
    """
    labels = detections["classes"][row]
    for label in np.unique(labels[labels >= 0]).tolist():
        one = of_image(detections, truths, row, label)
        one = one._replace(scores=one.scores[:MOST], boxes=one.boxes[:MOST])
        own = _columns(detections, row, label)[:MOST]
        boxes = np.flatnonzero(truths["classes"][row] == label)
        yield own, np.append(boxes, -1)[taken(one, np.array([threshold]), one.ignored)[0]]


def by_voc(detections: Arrays, truths: Arrays, label: int, thresholds: np.ndarray) -> Matches:
    """Match as the development kit of VOC does, and Fast R-CNN's `voc_eval`.

    A detection is right if it covers the box of the greatest overlap by more than the threshold,
    and is the first of this box: it takes no second best. To find an ignored one, difficult, is
    neither right nor wrong, as often as it happens.
    """

    def match(one: OfImage) -> tuple[np.ndarray, np.ndarray, int]:
        shape = len(thresholds), len(one.boxes)
        right, wrong = np.zeros(shape, bool), np.ones(shape, bool)
        if len(one.truth):
            ious = overlap.of_pairs(one.boxes, one.truth)
            best = ious.argmax(1)
            over = ious.max(1) > np.asarray(thresholds)[:, None]
            for t in range(len(thresholds)):
                found = np.flatnonzero(over[t] & ~one.ignored[best])
                _, first = np.unique(best[found], return_index=True)
                right[t, found[first]] = True
            wrong = ~right & ~(over & one.ignored[best])
        return right, wrong, int((~one.ignored).sum())

    return _collected(detections, truths, label, match, len(thresholds))


def _collected(
    detections: Arrays,
    truths: Arrays,
    label: int,
    match: Callable[[OfImage], tuple[np.ndarray, np.ndarray, int]],
    count: int,
) -> Matches:
    """Match image by image, and order all detections by score; of equal scores the first stays."""
    positives = np.zeros(len(truths["classes"]), int)
    image, scores, none = [], [], np.zeros((count, 0), bool)
    rights, wrongs = [none], [none]
    own = (np.asarray(each["classes"]) == label for each in (detections, truths))
    for row in np.flatnonzero(np.logical_or(*(there.any(1) for there in own))).tolist():
        one = of_image(detections, truths, row, label)
        right, wrong, positives[row] = match(one)
        image += [row] * right.shape[1]
        scores += one.scores[: right.shape[1]].tolist()
        rights.append(right)
        wrongs.append(wrong)
    order = np.argsort(-np.array(scores, float), kind="stable")
    right, wrong = (np.concatenate(each, 1)[:, order] for each in (rights, wrongs))
    image, scores = np.array(image, int)[order], np.array(scores, float)[order]
    return Matches(image, scores, right, wrong, positives)
