"""What the errors of a detector cost: Bolya et al. 2020, "TIDE: A General Toolbox for Identifying
Object Detection Errors", arXiv:2008.08115, section 2.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.stats.detection import overlap
from tl_jax.stats.detection.matches import Arrays, found_in
from tl_jax.stats.detection.precision import Curve, at_101, mean, require

FOUND, SEEN = 0.5, 0.1  # overlaps from which on a box is found, and from which on it is meant
KINDS = {
    "classification": "the right place, the wrong class",
    "localisation": "the right class, too far off",
    "both": "the wrong class, and too far off",
    "duplicate": "a box that a higher score has found already",
    "background": "where there is no box",
    "missed": "a box that no detection means",
}
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND = range(5)
NO_ERROR = -1


class Table(NamedTuple):
    """D detections of all images, and G boxes that must be found."""

    labels: np.ndarray  # (D,)
    scores: np.ndarray  # (D,)
    right: np.ndarray  # (D,) bool
    kinds: np.ndarray  # (D,) number of the kind of error, or `NO_ERROR`
    meant: np.ndarray  # (D,) number of the box that a wrong detection means, or -1
    of_boxes: np.ndarray  # (G,) labels
    found: np.ndarray  # (G,) bool


def errors(detections: Arrays, truths: Arrays, *, classes: Sequence[str]) -> dict[str, Any]:
    """Return `ap50`, and for each of `KINDS` how many errors there are, `count`, and by how much
    `ap50` would rise if all of them were mended and nothing else was, `cost`.

    The arrays are those of `average_precision`, and matching is COCO's. To mend a wrong class or
    place makes the detection right, or removes it if a higher score has the box; other errors are
    removed, and missed boxes need not be found. Costs do not add up to what is lacking.
    """
    require(detections, truths, classes)
    table = _table(detections, truths)
    there = np.unique(table.of_boxes).tolist()
    now = _ap50(table, there)
    missed = ~table.found
    missed[table.meant[table.meant >= 0]] = False
    rows = []
    for number, (name, what) in enumerate(KINDS.items()):
        if name == "missed":
            kept = table._replace(of_boxes=table.of_boxes[~missed])
            count = int(missed.sum())
        else:
            kept, count = _mended(table, number), int((table.kinds == number).sum())
        then = _ap50(kept, there)
        cost = None if now is None or then is None else max(0.0, then - now)
        rows.append({"kind": name, "what": what, "count": count, "cost": cost})
    return {"ap50": now, "errors": rows}


def _table(detections: Arrays, truths: Arrays) -> Table:
    parts: list[Table] = []
    boxes = 0
    for row in range(len(truths["classes"])):
        one = _of_image(detections, truths, row)
        parts.append(one._replace(meant=np.where(one.meant < 0, -1, one.meant + boxes)))
        boxes += len(one.of_boxes)
    return Table(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _of_image(detections: Arrays, truths: Arrays, row: int) -> Table:
    """The detections of an image, without those that find what is ignored, and its boxes."""
    classes, ignored = truths["classes"][row], truths["ignored"][row]
    true = np.flatnonzero((classes >= 0) & ~ignored)
    none = np.zeros(0, int)
    pairs = [(none, none), *found_in(detections, truths, row, FOUND)]
    own, taken = (np.concatenate(columns) for columns in zip(*pairs, strict=True))
    aside = (taken >= 0) & ignored[taken]
    own, taken = own[~aside], taken[~aside]
    marked = Table(
        labels=detections["classes"][row][own],
        scores=detections["scores"][row][own],
        right=taken >= 0,
        kinds=np.full(len(own), NO_ERROR),
        meant=np.full(len(own), -1),
        of_boxes=classes[true],
        found=np.isin(true, taken),
    )
    ious = overlap.of_pairs(detections["boxes"][row][own], truths["boxes"][row][true])
    return _explained(marked, ious)


def _explained(table: Table, ious: np.ndarray) -> Table:
    """The table of an image with the kind of each wrong detection, and the box that it means.

    ious: (D, G). The first kind that fits is taken, in the order of the authors' code.
    """
    ious = np.concatenate([ious, np.zeros((len(ious), 1))], 1)  # a box that overlaps nothing
    same = np.append(table.of_boxes, -1) == table.labels[:, None]
    own, other = np.where(same, ious, 0), np.where(same, 0, ious)
    again = np.where(np.append(table.found, False), own, 0).max(1)
    near = own.max(1)
    conditions = {
        LOCALISATION: (near >= SEEN) & (near <= FOUND),
        CLASSIFICATION: other.max(1) >= FOUND,
        DUPLICATE: again >= FOUND,
        BACKGROUND: ious.max(1) <= SEEN,
    }
    kinds = np.select(list(conditions.values()), list(conditions), BOTH)
    kinds = np.where(table.right, NO_ERROR, kinds)
    meant = np.full(len(kinds), -1)
    for kind, overlaps in ((LOCALISATION, own), (CLASSIFICATION, other)):
        meant = np.where(kinds == kind, overlaps.argmax(1), meant)
    return table._replace(kinds=kinds, meant=meant)


def _mended(table: Table, kind: int) -> Table:
    """The table without the errors of a kind.

    Of several detections that mean a box the first makes the others duplicates, whichever of the
    two kinds they are of.
    """
    keep, right, labels = table.kinds != kind, table.right.copy(), table.labels.copy()
    near = np.flatnonzero(table.meant >= 0)
    near = near[np.argsort(-table.scores[near], kind="stable")]
    boxes, first = np.unique(table.meant[near], return_index=True)
    best = near[first[~table.found[boxes]]]
    best = best[table.kinds[best] == kind]
    labels[best], right[best], keep[best] = table.of_boxes[table.meant[best]], True, True
    return table._replace(
        labels=labels[keep],
        scores=table.scores[keep],
        right=right[keep],
        kinds=table.kinds[keep],
        meant=table.meant[keep],
    )


def _ap50(table: Table, classes: Sequence[int]) -> float | None:
    """The mean over these classes; 0 of one all of whose boxes were taken away as missed."""
    found = []
    for label in classes:
        own = np.flatnonzero(table.labels == label)
        own = own[np.argsort(-table.scores[own], kind="stable")]
        right, count = np.cumsum(table.right[own]), int((table.of_boxes == label).sum())
        curve = Curve(right / max(1, count), right / (1 + np.arange(len(own))))
        found.append(at_101(curve) if count else 0.0)
    return mean(found)
