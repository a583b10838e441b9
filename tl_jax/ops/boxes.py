"""Boxes (..., 4) as x1, y1, x2, y2: overlaps, offsets between boxes, and suppression.

All of it runs inside a compiled program: shapes are fixed, and what is not there is masked.
"""

import math

import jax
import jax.numpy as jnp

MOST_GROWTH = math.log(1000 / 16)  # of a side, as a logarithm; beyond it exp would overflow


def area(boxes):
    """Return the areas (...) of boxes (..., 4); 0 where a side is negative."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def overlap(boxes, others):
    """Return intersection and union of each box (..., 4) with the other beside it: (...) both."""
    corner = jnp.maximum(boxes[..., :2], others[..., :2])
    opposite = jnp.minimum(boxes[..., 2:], others[..., 2:])
    shared = area(jnp.concatenate([corner, opposite], -1))
    return shared, area(boxes) + area(others) - shared


def iou(boxes, others):
    """Return intersection over union of all pairs of boxes (..., A, 4) and (..., B, 4): (..., A,
    B); 0 where both are empty.
    """
    shared, union = overlap(boxes[..., :, None, :], others[..., None, :, :])
    return shared / jnp.where(union > 0, union, 1)


def generalised_iou(boxes, others):
    """Return GIoU of each box (..., 4) with the other beside it: (...), from -1 to 1 (Rezatofighi
    et al. 2019, arXiv:1902.09630, algorithm 1).
    """
    shared, union = overlap(boxes, others)
    corner = jnp.minimum(boxes[..., :2], others[..., :2])
    opposite = jnp.maximum(boxes[..., 2:], others[..., 2:])
    hull = area(jnp.concatenate([corner, opposite], -1))
    some = jnp.where(union > 0, union, 1)
    return shared / some - (hull - union) / jnp.where(hull > 0, hull, 1)


def box_offsets(boxes, anchors):
    """Return the offsets (..., 4) that lead from anchors (..., 4) to boxes: the centre's shift in
    sides of the anchor, and the logarithms of the sides' ratios (Girshick 2014, R-CNN, appendix C).
    """
    (centre, sides), (own_centre, own_sides) = _middle(boxes), _middle(anchors)
    return jnp.concatenate([(centre - own_centre) / own_sides, jnp.log(sides / own_sides)], -1)


def boxes_at(anchors, by):
    """Return the boxes (..., 4) to which `box_offsets` lead from the anchors (..., 4)."""
    centre, sides = _middle(anchors)
    centre = centre + by[..., :2] * sides
    half = sides * jnp.exp(jnp.minimum(by[..., 2:], MOST_GROWTH)) / 2
    return jnp.concatenate([centre - half, centre + half], -1)


def nms(boxes, scores, classes, *, threshold):
    """Return which of K boxes (K, 4) are kept by greedy suppression within each class: bool (K,).

    The box of the highest score is kept; those of its class that overlap it by an IoU above
    `threshold` go; and so on with those that are left. Of equal scores the first is kept. Boxes of
    score -inf are none, and go.
    """
    order = jnp.argsort(-scores, stable=True)
    boxes, classes, there = boxes[order], classes[order], scores[order] > -jnp.inf
    close = (iou(boxes, boxes) > threshold) & (classes[:, None] == classes[None, :])
    later = jnp.arange(len(scores))

    def look(number, stays):
        gone = close[number] & stays[number] & (later > number)
        return stays & ~gone

    stays = jax.lax.fori_loop(0, len(scores), look, there)
    return jnp.zeros_like(stays).at[order].set(stays)


def _middle(boxes):
    """Return centres and sides (..., 2) of boxes."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
