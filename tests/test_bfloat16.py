"""Frozen layers in bfloat16, which has 8 bits: oneDNN's operations, and what is stored of them."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from tl_jax import ops
from tl_jax.base.load import load_base
from tl_jax.data.tasks.arrays import from_arrays
from tl_jax.engine import prefix
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError
from tl_jax.measure import features
from tl_jax.ops.cpu import constants, onednn
from tl_jax.ops.cpu.onednn import cases, foreign
from tl_jax.train import room
from tl_jax.train.inputs import for_plan
from tl_jax.train.objectives import FastRCNN

ROUNDED = 2.0**-8  # the most by which rounding changes a number, over the number
needs_products = pytest.mark.skipif(
    not onednn.multiplies_bfloat16(), reason="this CPU has no bfloat16 products, or no oneDNN"
)


@pytest.fixture
def run_cases(monkeypatch):
    """Two cores, and oneDNN for everything; the cases that are run."""
    for name in ("LEAST_WORK", "LEAST_SIZE", "MANY", "WIDE"):
        monkeypatch.setattr(onednn, name, 0)
    monkeypatch.setattr(onednn, "cores", lambda: 2)
    run, compiled = [], foreign.compiled
    monkeypatch.setattr(foreign, "compiled", lambda c, lane: run.append(c) or compiled(c, lane))
    return run


def draw(*shape, seed=0):
    """Normal numbers that bfloat16 has, so that products of them are exact."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.bfloat16)


def convolution(*kernel, stride=1, activation=None, residual=False):
    """A program of a convolution with bias, and its kernel and bias."""
    weights = draw(*kernel, seed=1), draw(kernel[3], seed=2)

    def fn(weights, x):
        added = x[..., : kernel[3]] if residual else None
        return ops.conv(x, *weights, added, stride=stride, activation=activation)

    return fn, weights


OPERATIONS = {
    "dense": convolution(3, 3, 24, 16, activation=jax.nn.relu),
    "strided": convolution(5, 3, 24, 16, stride=2, activation=jax.nn.relu6),
    "pointwise": convolution(1, 1, 24, 40, activation=jax.nn.relu),
    "residual": convolution(3, 3, 24, 24, residual=True),
    "depthwise": convolution(5, 5, 1, 24, stride=2),
    "max pool": (lambda _, x: ops.max_pool(x, 3, 2, 1), ()),
    "average": (lambda _, x: ops.avg_pool(x, 3, 2, 1), ()),
}


@needs_products
@pytest.mark.parametrize("count", [4, 3])  # by both cores, and whole
@pytest.mark.parametrize(("fn", "weights"), OPERATIONS.values(), ids=OPERATIONS)
def test_onednn_rounds_once(run_cases, fn, weights, count):
    """Sums are in float32: only the result is rounded, and a value before a residual is added."""
    x = draw(count, 9, 10, 24)
    got = jax.block_until_ready(ops.inference(fn)(weights, x))
    assert got.dtype == jnp.bfloat16
    assert {case.dtype for case in run_cases} == {"bfloat16"}
    exact = fn(*jax.tree.map(lambda a: a.astype(jnp.float32), (weights, x)))
    np.testing.assert_allclose(np.float32(got), exact, rtol=2 * ROUNDED, atol=2 * ROUNDED)


@needs_products
def test_a_depthwise_convolution_with_the_one_before(run_cases):
    weights = draw(1, 1, 24, 96, seed=1), draw(96, seed=2), draw(3, 3, 1, 96, seed=3), draw(96)

    def both(w, x):
        y = ops.conv(x, *w[:2], activation=jax.nn.relu6)
        return ops.conv(y, *w[2:], padding=1, activation=jax.nn.relu6)

    x = draw(4, 9, 10, 24)
    got = jax.block_until_ready(ops.inference(both)(weights, x))
    assert {case.dtype for case in run_cases} == {"bfloat16"}
    assert cases.Pair in map(type, run_cases)
    exact = both(*jax.tree.map(lambda a: a.astype(jnp.float32), (weights, x)))
    # Between the two at most 6 is rounded; nine such numbers are multiplied by up to 4 and added.
    np.testing.assert_allclose(np.float32(got), exact, rtol=0, atol=9 * 4 * 6 * ROUNDED / 2)
    assert np.abs(np.float32(got) - exact).mean() < 4 * ROUNDED


@needs_products
def test_maps_side_by_side_are_moved_as_bits(run_cases):
    x = draw(4, 3, 3, 8)
    program = ops.inference(lambda _, x: ops.concatenated([x, -x]))
    np.testing.assert_array_equal(program((), x), jnp.concatenate([x, -x], -1))
    with constants.recording():
        assert "bitcast" in str(jax.make_jaxpr(lambda x: ops.concatenated([x, x]))(x))
    assert "bitcast" not in str(jax.make_jaxpr(lambda x: ops.concatenated([x, x]))(x))


@needs_products
def test_training_stays_with_xla(run_cases):
    x, kernel = draw(2, 4, 4, 8), draw(1, 1, 8, 8, seed=1)
    gradient = jax.grad(lambda k: ops.conv(x, k).astype(jnp.float32).sum())
    assert gradient(kernel).dtype == jnp.bfloat16
    assert not run_cases


def test_cases_are_stored_with_their_type():
    shape, edges = (1, 4, 4, 8), ((0, 0), (0, 0))
    for case in (
        cases.Convolution("forward", shape, (1, 1, 8, 8), shape, 1, edges, dtype="bfloat16"),
        cases.Pooling("forward", "max", shape, (1, 2, 2, 8), 2, 2, edges, dtype="bfloat16"),
        cases.Pair(
            "forward", shape, (1, 1, 8, 8), None, (3, 3, 1, 8), 1, edges, shape, None, "bfloat16"
        ),
    ):
        assert cases.case_of(type(case).__name__, json.loads(json.dumps(case))) == case


def stored(cache, precision):
    below = prefix.pixels(small.task(), small.PREPROCESSING, cache=cache)
    options = {"examples": len(small.task().ids), "stored_views": (0,), "parallel": Parallel()}
    options |= {"cache": cache, "dtype": "float32", "precision": precision}
    return prefix.features(small.chain(), small.variables(), below, "stage1_block2", **options)


def test_each_precision_has_a_store_of_its_own(tmp_path):
    rows = np.arange(len(small.task().ids))
    wide, narrow, again = (stored(tmp_path, p) for p in ("float32", "bfloat16", "float32"))
    assert wide.key == again.key != narrow.key
    exact, got = (np.float32(one.read(rows, 0 * rows)) for one in (wide, narrow))
    np.testing.assert_array_equal(got, np.float32(jnp.asarray(got, jnp.bfloat16)))
    error = np.linalg.norm(got - exact) / np.linalg.norm(exact)
    assert 0 < error < 5 * ROUNDED  # five convolutions, one above the other, round their outputs


def test_a_run_stores_what_was_foreseen(tmp_path, monkeypatch):
    monkeypatch.setattr(ops, "fast_in_bfloat16", lambda: True)
    foreseen, needed = [], room.require_room
    monkeypatch.setattr(room, "require_room", lambda n: foreseen.append(n) or needed(n))
    mine = small.problem("head_only", cache_precision="bfloat16")
    kept = {"test_views": "none", "cache": tmp_path, "dtype": "float32"}
    inputs = for_plan(mine, **kept)(mine.plan.phases[0], small.variables())
    for_plan(mine, **kept)(mine.plan.phases[0], small.variables())
    assert inputs.key in {need.folder.name for need in foreseen[0]}
    assert sum(need.nbytes for need in foreseen[0]) > sum(need.nbytes for need in foreseen[1]) == 0


def test_features_of_layers_have_their_precision(tmp_path, monkeypatch):
    monkeypatch.setattr(ops, "fast_in_bfloat16", lambda: True)
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    task = from_arrays("noise", images, np.arange(8) % 2, seed=0, val=0.25, test=0.25)
    base, layers = load_base("resnet18", "random:1").resized(32), ["stem", "stage1_block1"]
    wide, narrow = (
        features.of_layers(base, task, layers=layers, cache=tmp_path, precision=p)
        for p in prefix.PRECISIONS
    )
    for name, one in wide.items():
        error = np.linalg.norm(narrow[name].rows - one.rows) / np.linalg.norm(one.rows)
        assert 0 < error < 8 * ROUNDED


def test_a_machine_that_would_be_slower_is_told(monkeypatch):
    monkeypatch.setattr(ops, "fast_in_bfloat16", lambda: False)
    small.problem("head_only", cache_precision="float32")
    with pytest.raises(UserError, match="AVX-512 BF16 or AMX.*take cache_precision=float32"):
        small.problem("head_only", cache_precision="bfloat16")


def test_boxes_are_not_rounded():
    mine = SimpleNamespace(precision="float32", cache_precision="bfloat16")
    with pytest.raises(UserError, match="too coarse in bfloat16: take cache_precision=float32"):
        FastRCNN().check(mine)


@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_accelerators_are_fast_in_bfloat16(monkeypatch, backend):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert ops.fast_in_bfloat16()
