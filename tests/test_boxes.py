"""Operations on boxes against torchvision's (golden values of `torchvision_boxes.py`), against
hand-computed cases, and by properties.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision_boxes import ALIGNED, THRESHOLDS

from tl_jax import ops

GOLDEN = np.load(pathlib.Path(__file__).with_name("torchvision_boxes.npz"))


def agrees(name, function):
    """Whether values and gradients of maps are torchvision's."""
    maps, wanted = jnp.asarray(GOLDEN["maps"]), GOLDEN[name]
    found, pullback = jax.vjp(jax.jit(function), maps)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)
    # torchvision's outputs are weighted in their own order, (B R, C, size, size)
    nchw = np.moveaxis(wanted.reshape(-1, *wanted.shape[2:]), -1, 1)
    weights = np.moveaxis(np.cos(np.arange(nchw.size)).reshape(nchw.shape), 1, -1)
    gradient = pullback(jnp.asarray(weights.reshape(wanted.shape), jnp.float32))[0]
    np.testing.assert_allclose(gradient, GOLDEN[f"{name}_gradient"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("aligned", "samples", "size"), ALIGNED)
def test_region_align_is_torchvisions(aligned, samples, size):
    how = {"size": size, "scale": 1 / 16, "samples": samples, "aligned": aligned}
    boxes = GOLDEN["boxes"]
    agrees(
        f"align_{aligned}_{samples}_{size}", lambda maps: ops.region_align(maps, boxes, **how)
    )


@pytest.mark.parametrize("size", (2, 7))
def test_region_max_is_torchvisions(size):
    boxes = GOLDEN["boxes"]
    agrees(f"max_{size}", lambda maps: ops.region_max(maps, boxes, size=size, scale=1 / 16))


def test_the_whole_of_a_map_aligned_by_one_sample_a_pixel_is_the_map():
    maps = jax.random.normal(jax.random.key(0), (1, 5, 5, 2))
    whole = jnp.array([[[0.0, 0.0, 1.0, 1.0]]])
    found = ops.region_align(maps, whole, size=5, scale=5, samples=1)
    np.testing.assert_allclose(found[:, 0], maps, atol=1e-5)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_nms_is_torchvisions(threshold):
    boxes, scores = GOLDEN["many"], GOLDEN["scores"]
    for name, classes in (("nms", np.zeros(40, int)), ("batched_nms", GOLDEN["classes"])):
        stays = jax.jit(ops.nms)(boxes, scores, classes, threshold=threshold)
        # Of equal scores torchvision may keep the order of either: compare as sets.
        assert set(np.flatnonzero(stays)) == set(GOLDEN[f"{name}_{threshold}"].tolist())


def test_iou_and_generalised_iou_are_torchvisions():
    boxes, others = GOLDEN["many"], GOLDEN["others"]
    np.testing.assert_allclose(ops.iou(boxes, others), GOLDEN["iou"], atol=1e-5)
    np.testing.assert_allclose(ops.generalised_iou(boxes, others), GOLDEN["giou"], atol=1e-5)


def test_empty_boxes_overlap_nothing_and_have_finite_gradients():
    nothing = jnp.zeros((2, 4))
    assert not ops.iou(nothing, nothing).any()
    assert not ops.generalised_iou(nothing, nothing).any()
    slopes = jax.grad(lambda boxes: ops.generalised_iou(boxes, nothing).sum())(nothing)
    assert np.isfinite(slopes).all()


def test_boxes_without_a_score_go():
    boxes = jnp.array([[0.0, 0, 1, 1], [2, 2, 3, 3]])
    stays = ops.nms(boxes, jnp.array([-jnp.inf, 0.5]), jnp.zeros(2, int), threshold=0.5)
    assert stays.tolist() == [False, True]


SIDES = st.floats(1, 40, width=32)
BOXES = st.tuples(SIDES, SIDES, SIDES, SIDES).map(lambda b: (*b[:2], b[0] + b[2], b[1] + b[3]))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(BOXES, BOXES), min_size=4, max_size=4))
def test_offsets_lead_from_anchors_to_boxes(pairs):
    anchors, boxes = np.moveaxis(np.float32(pairs), 1, 0)
    found = ops.boxes_at(anchors, ops.box_offsets(boxes, anchors))
    np.testing.assert_allclose(found, boxes, rtol=1e-3, atol=1e-3)
    overlaps = np.asarray(ops.iou(anchors, boxes))
    assert (overlaps >= 0).all() and (overlaps <= 1 + 1e-6).all()
    np.testing.assert_allclose(overlaps, ops.iou(boxes, anchors).T, atol=1e-6)
    assert (ops.generalised_iou(anchors, boxes) <= np.diag(overlaps) + 1e-6).all()


def test_offsets_of_a_box_by_hand():
    anchor, box = jnp.array([0.0, 0, 10, 20]), jnp.array([5.0, 10, 25, 20])
    np.testing.assert_allclose(ops.box_offsets(box, anchor), [1, 0.25, np.log(2), np.log(0.5)])
