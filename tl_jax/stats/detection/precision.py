"""Average precision of detections: precision over recall, as VOC averages it and as COCO does."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.errors import UserError, unknown
from tl_jax.stats.detection.matches import EVERY, Arrays, Matches, by_coco, by_voc

COCO = np.linspace(0.5, 0.95, 10)  # overlaps of at least so much
VOC = np.array([0.5])  # of more than so much
SMALL, LARGE = 32**2, 96**2  # pixels of area
AREAS = {"small": (0, SMALL), "medium": (SMALL, LARGE), "large": (LARGE, np.inf)}


class Curve(NamedTuple):
    """Recall and precision after each detection that counts, by falling score."""

    recall: np.ndarray
    precision: np.ndarray


def curve(matches: Matches, threshold: int, weights: np.ndarray | None = None) -> Curve:
    """Return the curve at one of the thresholds. `weights` (N,): how often each image counts."""
    right, wrong = matches.right[threshold], matches.wrong[threshold]
    each = np.ones(len(matches.positives)) if weights is None else np.asarray(weights, float)
    of_image = each[matches.image]
    counts = (right | wrong) & (of_image > 0)
    found = np.cumsum((right * of_image)[counts])
    missed = np.cumsum((wrong * of_image)[counts])
    return Curve(found / (each @ matches.positives), found / (found + missed))


def at_101(curve: Curve) -> float:
    """Return the mean of COCO's 101 precisions: at each recall the greatest there or further on."""
    return _at(curve, np.linspace(0, 1, 101))


def at_11(curve: Curve) -> float:
    """Return the mean at the recalls 0, 0.1, ..., 1, as VOC until 2009 (Everingham et al. 2010,
    IJCV 88, eq. 1).
    """
    return _at(curve, np.linspace(0, 1, 11))


def area(curve: Curve) -> float:
    """Return the exact area below the greatest precision at each recall or further on, as VOC since
    2010.
    """
    steps = np.diff(curve.recall, prepend=0.0)
    return float(steps @ _falling(curve.precision))


class Rule(NamedTuple):
    """How detections are matched, at which overlaps, and how a curve becomes a number."""

    match: Callable[..., Matches]
    thresholds: np.ndarray
    average: Callable[[Curve], float]


RULES: dict[str, Rule] = {
    "coco": Rule(by_coco, COCO, at_101),
    "voc": Rule(by_voc, VOC, area),
    "voc07": Rule(by_voc, VOC, at_11),
}


def average_precision(
    detections: Arrays, truths: Arrays, *, classes: Sequence[str], rule: str = "coco"
) -> dict[str, Any]:
    """Return the average precision of each class, and the mean over those that there are.

    detections: "boxes" (N, K, 4), "scores" (N, K) and "classes" (N, K), -1 for none; truths:
    "boxes" (N, M, 4), "classes" (N, M), "ignored" (N, M) and "areas" (N, M), all in pixels of the
    images. By COCO's rule it is the mean over ten thresholds of overlap, and there are also `ap50`,
    `ap75`, `small`, `medium` and `large`, and `recall`, the greatest, over the same classes. A
    class without a box that counts has `ap` None, and no part in a mean. UserError for an unknown
    rule, and for arrays that do not fit each other.
    """
    of_classes = matched(detections, truths, classes=classes, rule=rule)
    return of_matches(of_classes, detections, truths, classes=classes, rule=rule)


def of_matches(
    of_classes: Sequence[Matches],
    detections: Arrays,
    truths: Arrays,
    *,
    classes: Sequence[str],
    rule: str,
) -> dict[str, Any]:
    """Return what `average_precision` does, for what is `matched` already."""
    each = [precisions(matches, rule) for matches in of_classes]
    rows = [
        {"name": name, "n": int(matches.positives.sum()), "ap": mean(own)}
        for name, matches, own in zip(classes, of_classes, each, strict=True)
    ]
    found: dict[str, Any] = {"map": mean(row["ap"] for row in rows), "per_class": rows}
    if RULES[rule].match is not by_coco:
        return found
    for name, threshold in (("ap50", 0.5), ("ap75", 0.75)):
        at = int(np.flatnonzero(np.isclose(COCO, threshold))[0])
        found[name] = mean(own[at] if own else None for own in each)
    found["recall"] = mean(_recall(matches) for matches in of_classes)
    for name, areas in AREAS.items():
        of_size = matched(detections, truths, classes=classes, rule=rule, areas=areas)
        found[name] = mean(mean(precisions(matches, rule)) for matches in of_size)
    return found


def matched(
    detections: Arrays,
    truths: Arrays,
    *,
    classes: Sequence[str],
    rule: str = "coco",
    areas: tuple[float, float] = EVERY,
) -> list[Matches]:
    """Return the matches of each class; `areas` are of COCO's rule."""
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    require(detections, truths, classes)
    own = {"areas": areas} if areas != EVERY else {}
    match, thresholds, _ = RULES[rule]
    return [match(detections, truths, c, thresholds, **own) for c in range(len(classes))]


def precisions(matches: Matches, rule: str, weights: np.ndarray | None = None) -> list[float]:
    """Return the average precision of a class at each of the rule's thresholds; nothing without a
    box that counts. `weights` (N,): how often each image counts.
    """
    each = matches.positives if weights is None else matches.positives * weights
    if not each.sum():
        return []
    curves = (curve(matches, t, weights) for t in range(len(matches.right)))
    return [RULES[rule].average(one) for one in curves]


def require(detections: Arrays, truths: Arrays, classes: Sequence[str]) -> None:
    """UserError unless the arrays fit each other."""
    _require_shapes("detections", detections, ("scores", "classes"))
    _require_shapes("truths", truths, ("classes", "ignored", "areas"))
    counts = len(detections["classes"]), len(truths["classes"])
    if counts[0] != counts[1]:
        raise UserError(f"detections are of {counts[0]} images, and truths of {counts[1]}")
    for what, arrays in (("detections", detections), ("truths", truths)):
        if len(classes) <= (most := int(np.max(arrays["classes"], initial=-1))):
            raise UserError(f"{what} have the class {most}, and there are {len(classes)} classes")
    if not np.isfinite(detections["scores"])[np.asarray(detections["classes"]) >= 0].all():
        raise UserError("scores are finite; a detection has NaN or infinity")


def _require_shapes(what: str, arrays: Mapping[str, Any], names: Sequence[str]) -> None:
    if missing := [name for name in ("boxes", *names) if name not in arrays]:
        raise UserError(f"{what} have no {' and no '.join(missing)}")
    shape = np.shape(arrays["boxes"])
    wrong = [name for name in names if np.shape(arrays[name]) != shape[:2]]
    if len(shape) != 3 or shape[2] != 4 or wrong:
        shapes = {name: np.shape(arrays[name]) for name in ("boxes", *names)}
        raise UserError(f"{what} are boxes (N, K, 4) and (N, K) of each other; got {shapes}")


def _at(curve: Curve, recalls: np.ndarray) -> float:
    """The mean of the precisions at these recalls; 0 at one that is not reached."""
    at = np.searchsorted(curve.recall, recalls, side="left")
    return float(np.append(_falling(curve.precision), 0.0)[at].mean())


def _falling(precision: np.ndarray) -> np.ndarray:
    """At each recall the greatest precision there or further on."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def _recall(matches: Matches) -> float | None:
    if not (count := matches.positives.sum()):
        return None
    return float((matches.right.sum(1) / count).mean())


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of what is there; None of nothing."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None
