"""The forms made for the CPU against XLA's own convolutions and Flax's batch norm, in float64;
pooling against a loop over the windows.
"""

import ctypes
import functools
import math
import os
import subprocess
import sys
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tl_jax import ops
from tl_jax.models.layers import ConvNorm
from tl_jax.ops.cpu import onednn
from tl_jax.ops.cpu.onednn import depthwise, foreign, frames, library, winograd
from tl_jax.ops.cpu.onednn.cases import KERNEL_GRADIENT, Convolution
from tl_jax.ops.cpu.onednn.compiled import compiled
from tl_jax.ops.cpu.onednn.lanes import lane
from tl_jax.ops.cpu.onednn.program import Program

KINDS = ("dense", "depthwise")
# kernel, stride, padding, (H, W)
GRID = [
    (1, 1, "SAME", (7, 6)),
    (1, 2, "VALID", (7, 6)),
    (1, 2, "SAME", (5, 8)),
    (3, 1, 1, (7, 6)),
    (3, 1, "VALID", (5, 8)),
    (3, 2, "SAME", (7, 6)),
    (3, 2, 2, (5, 8)),
    (3, 3, 0, (7, 6)),
    (5, 2, "VALID", (5, 8)),
    (5, 3, 1, (5, 8)),
    (3, 2, ((0, 1), (2, 0)), (7, 6)),
]


def draw(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def inputs(kind, kernel, size, dtype=np.float64):
    x = draw(3, *size, 4, dtype=dtype)
    shape = (kernel, kernel, 1, 4) if kind == "depthwise" else (kernel, kernel, 4, 5)
    return x, draw(*shape, seed=1, dtype=dtype)


def stock(kind, stride, padding):
    if isinstance(padding, int):
        padding = ((padding, padding),) * 2

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=x.shape[-1] if kind == "depthwise" else 1,
        )

    return convolve


def ours(kind, stride, padding):
    return functools.partial(ops.conv, stride=stride, padding=padding)


def with_gradients(f, *args):
    """`f(*args)` and the gradients of its product with a fixed random array."""

    def loss(*args):
        y = f(*args)
        return (y * draw(*y.shape, seed=9)).sum(), y

    gradients = jax.value_and_grad(loss, tuple(range(len(args))), has_aux=True)
    (_, y), grads = jax.jit(gradients)(*args)
    return y, *grads


def assert_same(got, wanted, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), tolerance, tolerance
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), GRID)
def test_convolution_equals_the_stock_one(kind, kernel, stride, padding, size):
    with jax.enable_x64(True):
        args = inputs(kind, kernel, size)
        got = with_gradients(ours(kind, stride, padding), *args)
        assert_same(got, with_gradients(stock(kind, stride, padding), *args))
        # Not differentiated, the depthwise convolution takes another form.
        assert_same(jax.jit(ours(kind, stride, padding))(*args), got[0])


EDGES = st.tuples(st.integers(0, 3), st.integers(0, 3))
few = settings(max_examples=12, deadline=None, derandomize=True)  # each is a compilation


@few
@given(
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 4),
    padding=st.tuples(EDGES, EDGES),
    count=st.integers(1, 3),
    kind=st.sampled_from(KINDS),
)
def test_convolution_of_any_shape(sides, kernel, stride, padding, count, kind):
    assume(all(n + sum(e) >= k for n, e, k in zip(sides, padding, kernel, strict=True)))
    x = draw(count, *sides, 4)
    weights = draw(*kernel, *((1, 4) if kind == "depthwise" else (4, 5)), seed=1)
    with jax.enable_x64(True):
        got = with_gradients(ours(kind, stride, padding), x, weights)
        assert_same(got, with_gradients(stock(kind, stride, padding), x, weights))


ACTIVATIONS = {"none": None, "relu": jax.nn.relu, "relu6": jax.nn.relu6, "other": jax.nn.silu}


def added_by_hand(kind, stride, padding, activation):
    """Convolution, bias, residual, activation, one after the other."""

    def f(x, kernel, bias, residual):
        y = stock(kind, stride, padding)(x, kernel) + bias + residual
        return activation(y) if activation else y

    return f


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_bias_residual_and_activation_are_part_of_it(kind, activation):
    with jax.enable_x64(True):
        x, kernel = inputs(kind, 3, (7, 6))
        bias = draw(kernel.shape[3], seed=2)
        residual = 3 * draw(3, 4, 3, kernel.shape[3], seed=3)  # so that relu6 cuts off at both ends
        convolve = functools.partial(ours(kind, 2, 1), activation=activation)
        got = with_gradients(convolve, x, kernel, bias, residual)
        by_hand = added_by_hand(kind, 2, 1, activation)
        assert_same(got, with_gradients(by_hand, x, kernel, bias, residual))


needs_onednn = pytest.mark.skipif(library.library() is None, reason="oneDNN is not to be had here")


@pytest.fixture
def all_by_onednn(monkeypatch):
    """However small; the calls that there were."""
    calls, run = [], Program.run
    monkeypatch.setattr(onednn, "LEAST_WORK", 0)
    monkeypatch.setattr(Program, "run", lambda *args: calls.append(args) or run(*args))
    return calls


@needs_onednn
@few
@given(
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 4),
    padding=st.tuples(EDGES, EDGES),
    count=st.integers(1, 3),
    kind=st.sampled_from(KINDS),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
)
def test_onednn(sides, kernel, stride, padding, count, kind, activation):
    """Its convolution and gradients against XLA's own, in float32."""
    assume(all(n + sum(e) >= k for n, e, k in zip(sides, padding, kernel, strict=True)))
    x = draw(count, *sides, 4, dtype=np.float32)
    shape = (*kernel, *((1, 4) if kind == "depthwise" else (4, 5)))
    weights = draw(*shape, seed=1, dtype=np.float32)
    by_hand = added_by_hand(kind, stride, padding, ACTIVATIONS[activation])
    y = jax.eval_shape(stock(kind, stride, padding), x, weights)
    args = (x, weights, draw(shape[3], seed=2, dtype=np.float32))
    args += (3 * draw(*y.shape, seed=3, dtype=np.float32),)
    calls, run = [], Program.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onednn, "LEAST_WORK", 0)
        patch.setattr(Program, "run", lambda *args: calls.append(args) or run(*args))
        options = {"stride": stride, "padding": padding, "activation": ACTIVATIONS[activation]}
        got = jax.block_until_ready(with_gradients(functools.partial(ops.conv, **options), *args))
    assert len(calls) == 3
    assert_same(got, with_gradients(by_hand, *args), 2e-5)


def closely(got, wanted, tolerance=1e-5):
    """By the size of the whole array, as sums of many products have it."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@needs_onednn
@few
@given(
    sides=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    count=st.integers(1, 4),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    tiles=st.sampled_from([1, 3, 8, 1000]),
    biased=st.booleans(),
    added=st.booleans(),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
)
def test_winograd(sides, padding, count, channels, tiles, biased, added, activation):
    """With its gradients against XLA's own convolution, whatever the size of the blocks."""
    assume(all(n + sum(e) >= 3 for n, e in zip(sides, padding, strict=True)))
    x = draw(count, *sides, channels[0], dtype=np.float32)
    kernel = draw(3, 3, *channels, seed=1, dtype=np.float32)
    y = jax.eval_shape(stock("dense", 1, padding), x, kernel)
    args = [x, kernel]
    args += [draw(channels[1], seed=2, dtype=np.float32)] if biased else []
    args += [draw(*y.shape, seed=3, dtype=np.float32)] if added else []

    def f(convolve):
        def whole(x, kernel, *more):
            bias = more[0] if biased else None
            return convolve(x, kernel, bias, more[-1] if added else None)

        return with_gradients(whole, *args)

    def by_hand(x, kernel, bias, residual):
        y = stock("dense", 1, padding)(x, kernel)
        y = y + (0 if bias is None else bias) + (0 if residual is None else residual)
        return ACTIVATIONS[activation](y) if activation != "none" else y

    cases, kept = [], foreign.compiled
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LEAST_WORK", "WIDE", "MANY"):
            patch.setattr(onednn, name, 0)
        patch.setattr(winograd, "TILES", tiles)
        patch.setattr(winograd, "NUMBERS", 0)
        patch.setattr(foreign, "compiled", lambda *case: cases.append(case[0]) or kept(*case))
        compiled.cache_clear()
        own = functools.partial(ops.conv, padding=padding, activation=ACTIVATIONS[activation])
        got = jax.block_until_ready(f(own))
        compiled.cache_clear()
    assert [type(case).__name__ for case in cases] == ["Winograd"] * 3
    closely(got, f(by_hand), 2e-5)


@needs_onednn
def test_winograds_blocks_are_the_whole():
    """Each row of tiles is in one block; blocks are alike."""
    for y in [(1, 5, 9, 1), (6, 14, 14, 1), (7, 56, 56, 1), (16, 7, 7, 1)]:
        for most in (1, 10, 100):
            block = frames.block_of(y, most)
            rows = [
                (n + image, row + i)
                for n, row in frames.starts(y, block)
                for image in range(block.images)
                for i in range(block.rows)
            ]
            assert sorted(rows) == [(n, i) for n in range(y[0]) for i in range(-(-y[1] // 4))]
            assert block.tiles <= max(most, -(-y[2] // 4))


@needs_onednn
@pytest.mark.parametrize(
    ("x", "kernel", "stride", "fewer"),
    [
        ((4, 16, 16, 64), (3, 3, 64, 64), 1, True),
        ((4, 16, 16, 64), (3, 3, 64, 64), 2, False),
        ((4, 16, 16, 64), (3, 3, 64, 32), 1, False),
        ((4, 16, 16, 64), (5, 5, 64, 64), 1, False),
        ((4, 16, 16, 128), (3, 3, 64, 64), 1, False),  # two groups
        ((1, 16, 16, 64), (3, 3, 64, 64), 1, False),
    ],
)
def test_wide_convolutions_take_winograds_form(x, kernel, stride, fewer):
    args = [jax.ShapeDtypeStruct(shape, np.float32) for shape in (x, kernel)]
    text = jax.jit(functools.partial(ops.conv, stride=stride)).lower(*args).as_text()
    assert ("Winograd" in text, "Convolution" in text) == (fewer, not fewer)


@needs_onednn
@few
@given(
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    rows=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    count=st.integers(1, 3),
    channels=st.integers(2, 40),
)
@example(sides=(7, 7), rows=5, stride=1, padding=((2, 2),) * 2, count=3, channels=32)
@example(sides=(8, 8), rows=5, stride=2, padding=((1, 2),) * 2, count=2, channels=17)
@example(sides=(8, 8), rows=5, stride=2, padding=((2, 2),) * 2, count=2, channels=16)
def test_depthwise_kernel_of_five_columns(sides, rows, stride, padding, count, channels):
    """Its gradient in parts against XLA's own, whatever was in scratch memory before."""
    kernel = (rows, 5, 1, channels)
    assume(all(n + sum(e) >= k for n, e, k in zip(sides, padding, kernel[:2], strict=True)))
    x = draw(count, *sides, channels, dtype=np.float32)
    convolve = stock("depthwise", stride, padding)
    y, gradient = jax.vjp(lambda k: convolve(x, k), np.zeros(kernel, np.float32))
    g = draw(*y.shape, seed=1, dtype=np.float32)
    case = Convolution(KERNEL_GRADIENT, x.shape, kernel, g.shape, stride, padding)
    assume(depthwise.in_parts(case))
    got = np.full(kernel, np.nan, np.float32)
    with lane() as mine:
        ctypes.memset(mine.scratch(2**20), 0xFF, 2**20)  # not numbers
        compiled.cache_clear()
        in_parts = mock.Mock(wraps=depthwise.kernel_gradient)
        with mock.patch.object(depthwise, "kernel_gradient", in_parts):
            compiled(case, mine).run([a.ctypes.data for a in (x, g, got)], mine)
    in_parts.assert_called_once()
    closely(got, *gradient(g), 2e-6)


@pytest.fixture
def norms_by_onednn(all_by_onednn, monkeypatch):
    monkeypatch.setattr(onednn, "LEAST_SIZE", 0)
    return all_by_onednn


def normed(activation, residual=False):
    """Batch norm by the batch's statistics of 2 x + 1, with the running ones that it leaves."""

    def f(module, x, params, *added):
        variables = {"params": params, "batch_stats": {"mean": jnp.ones(5), "var": jnp.ones(5)}}
        more = {"activation": activation, "residual": added[0] if residual else None}
        y, changed = module.apply(variables, 2 * x + 1, **more, mutable=["batch_stats"])
        return y, changed["batch_stats"]

    return f


def norm_inputs(residual):
    x = draw(3, 4, 6, 5, dtype=np.float32)
    params = {"scale": draw(5, seed=2, dtype=np.float32), "bias": draw(5, seed=3, dtype=np.float32)}
    return x, params, *([draw(*x.shape, seed=4, dtype=np.float32)] if residual else [])


@needs_onednn
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
@pytest.mark.parametrize("residual", [False, True])
def test_batch_norm_by_onednn(norms_by_onednn, activation, residual):
    def by_hand(x, params, *added):
        x = 2 * x + 1
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        y = (x - mean) / jnp.sqrt(var + 1e-5) * params["scale"] + params["bias"]
        y = y + added[0] if residual else y
        running = {"mean": 0.9 + 0.1 * mean, "var": 0.9 + 0.1 * var}
        return activation(y) if activation else y, running

    args = norm_inputs(residual)
    ours = functools.partial(normed(activation, residual), ops.BatchNorm())
    got = with_gradients(lambda *args: ours(*args)[0], *args)
    assert_same(got, with_gradients(lambda *args: by_hand(*args)[0], *args), 2e-5)
    assert len(norms_by_onednn) == 2
    assert_same(jax.jit(ours)(*args)[1], by_hand(*args)[1], 1e-5)


@needs_onednn
@pytest.mark.parametrize("activation", [None, jax.nn.relu], ids=["none", "relu"])
def test_batch_norm_traced_for_onednn_is_right_elsewhere(monkeypatch, activation):
    """Where a program that was traced with oneDNN is lowered for another platform."""
    args = norm_inputs(False)
    f = functools.partial(normed(activation), ops.BatchNorm())
    wanted = with_gradients(lambda *args: f(*args)[0], *args)
    monkeypatch.setattr(onednn, "LEAST_SIZE", 0)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    assert_same(with_gradients(lambda *args: f(*args)[0], *args), wanted, 1e-5)


@needs_onednn
def test_onednn_under_vmap(all_by_onednn):
    x, kernel = inputs("dense", 3, (6, 5), np.float32)
    kernels = np.stack([kernel, -2 * kernel])
    got = jax.vmap(lambda k: with_gradients(ours("dense", 2, "SAME"), x, k))(kernels)
    jax.block_until_ready(got)
    assert len(all_by_onednn) == 5  # the gradient by the kernel is the same for both
    for n, one in enumerate(kernels):
        wanted = with_gradients(stock("dense", 2, "SAME"), x, one)
        assert_same([part[n] for part in got], wanted, 1e-5)


@needs_onednn
def test_what_onednn_refuses_is_an_error_of_jax(monkeypatch, all_by_onednn):
    def refuse(*args):
        raise library.DnnlError("dnnl_primitive_create ended with status 3")

    monkeypatch.setattr(foreign, "compiled", refuse)
    args = inputs("dense", 3, (4, 4), np.float32)
    with pytest.raises(jax.errors.JaxRuntimeError, match="oneDNN: dnnl_primitive_create ended"):
        jax.block_until_ready(jax.jit(ours("dense", 1, 0))(*args))


@needs_onednn
def test_a_stored_program_calls_onednn_in_another_process(tmp_path):
    """Compiled once, taken from JAX's cache of compiled programs the second time."""
    program = (
        "import jax, numpy as np; from tl_jax import ops; from tl_jax.ops.cpu import onednn\n"
        "from tl_jax.ops.cpu.onednn.program import Program\n"
        "onednn.LEAST_WORK = 0; calls, run = [], Program.run\n"
        "Program.run = lambda *args: calls.append(run(*args))\n"
        "hits = []; jax.monitoring.register_event_listener(lambda e, **_: hits.append(e))\n"
        "x, w = np.ones((2, 5, 5, 3), np.float32), np.ones((3, 3, 3, 4), np.float32)\n"
        "print(float(jax.jit(ops.conv)(x, w).sum()), len(calls),\n"
        "      '/jax/compilation_cache/cache_hits' in hits)"
    )
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
    outputs = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            **{"cwd": programs.ROOT, "env": os.environ | environment, "check": True},
            **{"capture_output": True, "text": True, "timeout": 120},
        ).stdout.split()
        for _ in range(2)
    ]
    # 13 of the 15 (row, tap) pairs are in the image, along either side; 3 inputs, 4 outputs
    assert outputs == [[str(2 * 13 * 13 * 3 * 4.0), "1", hit] for hit in ("False", "True")]


def test_without_onednn_there_is_none(monkeypatch):
    monkeypatch.setattr(library, "PACKAGE", "no-such-package")
    assert library.library.__wrapped__() is None


@pytest.mark.parametrize(("kind", "kernel"), [("dense", 1), ("depthwise", 3)])
def test_convolution_under_vmap(kind, kernel):
    with jax.enable_x64(True):
        x, _ = inputs(kind, kernel, (6, 5))
        kernels = np.stack([inputs(kind, kernel, (6, 5))[1] * k for k in (1, -2)])
        got = jax.vmap(lambda k: with_gradients(ours(kind, 2, "SAME"), x, k))(kernels)
        for n, one in enumerate(kernels):
            wanted = with_gradients(stock(kind, 2, "SAME"), x, one)
            assert_same([part[n] for part in got], wanted)


@pytest.mark.parametrize(("kind", "kernel"), [("dense", 1), ("depthwise", 3)])
def test_convolution_in_bfloat16(kind, kernel):
    args = [jnp.asarray(a, jnp.bfloat16) for a in inputs(kind, kernel, (6, 5))]
    got = with_gradients(ours(kind, 1, "SAME"), *args)
    assert {part.dtype for part in got} == {jnp.dtype(jnp.bfloat16)}
    exact = with_gradients(stock(kind, 1, "SAME"), *(np.asarray(a, np.float32) for a in args))
    assert_same(got, exact, 0.05)


@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (9, 3), (1, 5, 6, 3)])
@pytest.mark.parametrize("by_batch", [True, False])
def test_batch_norm_equals_flax(shape, by_batch):
    with jax.enable_x64(True):
        x = 2 * draw(*shape) + 1
        params = {"scale": draw(3, seed=2), "bias": draw(3, seed=3)}
        stats = {"mean": draw(3, seed=4), "var": draw(3, seed=5) ** 2 + 0.1}

        def apply(module):
            def f(x, params):
                variables = {"params": params, "batch_stats": stats}
                mutable = ["batch_stats"] if by_batch else []
                return module.apply(variables, x, mutable=mutable)

            y, *grads = with_gradients(lambda *args: f(*args)[0], x, params)
            return y, grads, jax.jit(f)(x, params)[1]

        flax_norm = nn.BatchNorm(not by_batch, momentum=0.9, epsilon=1e-5, dtype=jnp.float64)
        assert_same(apply(ops.BatchNorm()), apply(flax_norm))


@pytest.mark.parametrize(
    ("depthwise", "bias", "scale"),
    [(True, False, True), (False, False, True), (False, True, False)],
)
@pytest.mark.parametrize("by_batch", [True, False])
def test_norm_folded_into_the_convolution_equals_the_two_apart(depthwise, bias, scale, by_batch):
    class Apart(nn.Module):
        @nn.compact
        def __call__(self, x):
            shape = (3, 3, 1 if depthwise else 4, 4)
            kernel = self.param("kernel", nn.initializers.normal(), shape)
            x = stock("depthwise" if depthwise else "dense", 2, "SAME")(x, kernel)
            if bias:
                x = x + self.param("bias", nn.initializers.normal(), (4,))
            options = {"momentum": 0.9, "epsilon": 1e-3, "dtype": jnp.float64, "use_scale": scale}
            return jnp.maximum(nn.BatchNorm(not by_batch, **options, name="norm")(x), 0)

    with jax.enable_x64(True):
        x = draw(3, 7, 6, 4)
        options = {"depthwise": depthwise, "bias": bias, "scale": scale}
        module = ConvNorm(4, 3, 2, epsilon=1e-3, **options)
        variables = module.init(jax.random.key(0), x)
        variables = jax.tree.map(lambda leaf: np.abs(draw(*leaf.shape)) + 0.1, variables)

        def apply(module):
            def f(x, params):
                mutable = ["batch_stats"] if by_batch else []
                return module.apply({**variables, "params": params}, x, mutable=mutable)

            params = variables["params"]
            return with_gradients(lambda *args: f(*args)[0], x, params), jax.jit(f)(x, params)[1]

        assert_same(apply(module), apply(Apart()))


@pytest.mark.parametrize("outputs", [1, 2, 4, 5])
def test_dense_layers_product(outputs):
    with jax.enable_x64(True):
        x, kernel = draw(7, 6), draw(6, outputs, seed=1)
        dimensions = (((1,), (0,)), ((), ()))
        got = with_gradients(lambda x, k: ops.dot_general(x, k, dimensions), x, kernel)
        assert_same(got, with_gradients(jnp.matmul, x, kernel))


def windows(length, size, stride, padding, ceil=False):
    """Where PyTorch's pooling has its windows along a side, clipped to the input.

    The number is (length + 2 padding - size) / stride + 1, rounded down, or up with `ceil_mode`;
    then windows that would start in the padding behind the input are left out
    (https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html).
    """
    rounded = math.ceil if ceil else math.floor
    count = rounded((length + 2 * padding - size) / stride + 1)
    starts = [i * stride - padding for i in range(count)]
    return [slice(max(start, 0), start + size) for start in starts if start < length]


def pooled(reduce, x, rows, columns):
    """`reduce` of each of the windows, (N, h, w, C) to (N, C)."""
    return np.stack([np.stack([reduce(x[:, r, c]) for c in columns], 1) for r in rows], 1)


def mean(window):
    return window.mean((1, 2))


SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9))
# size, stride, padding, which is at most half the size
POOLS = st.integers(1, 4).flatmap(
    lambda size: st.tuples(st.just(size), st.integers(1, 5), st.integers(0, size // 2))
)


@few
@given(sides=SIDES, pool=POOLS, ceil=st.booleans())
@example(sides=(8, 7), pool=(3, 2, 0), ceil=True)
@example(sides=(5, 6), pool=(3, 3, 1), ceil=True)  # a third row would start in the padding
def test_max_pool(sides, pool, ceil):
    rows, columns = (windows(side, *pool, ceil) for side in sides)
    assume(rows and columns)
    x = draw(2, *sides, 3, dtype=np.float32)
    got = jax.jit(lambda x: ops.max_pool(x, *pool, ceil=ceil))(x)
    np.testing.assert_array_equal(got, pooled(lambda part: part.max((1, 2)), x, rows, columns))


@few
@given(sides=SIDES, pool=POOLS, levels=st.integers(1, 4))
def test_max_pools_gradient(sides, pool, levels):
    """Against XLA's own, ties included: few levels make many."""
    size, stride, padding = pool
    assume(all(side + 2 * padding >= size for side in sides))
    x = np.random.default_rng(0).integers(0, levels, (2, *sides, 3)).astype(np.float64)
    edges = ((padding, padding),) * 2
    with jax.enable_x64(True):
        got = with_gradients(lambda x: ops.max_pool(x, *pool), x)
        wanted = with_gradients(lambda x: nn.max_pool(x, (size, size), (stride, stride), edges), x)
        assert_same(got, wanted)


@few
@given(sides=SIDES, pool=POOLS, count_padding=st.booleans())
@example(sides=(5, 6), pool=(3, 1, 1), count_padding=True)
@example(sides=(5, 6), pool=(3, 1, 1), count_padding=False)
def test_avg_pool(sides, pool, count_padding):
    rows, columns = (windows(side, *pool) for side in sides)
    assume(rows and columns)
    x = draw(2, *sides, 3, dtype=np.float32)

    def mean(part):
        return part.sum((1, 2)) / (pool[0] ** 2 if count_padding else part[0, :, :, 0].size)

    got = jax.jit(lambda x: ops.avg_pool(x, *pool, count_padding=count_padding))(x)
    assert_same(got, pooled(mean, x, rows, columns), 1e-6)


@needs_onednn
@few
@given(sides=SIDES, pool=POOLS, ceil=st.booleans(), kind=st.sampled_from(["max", "avg", "padded"]))
@example(sides=(8, 7), pool=(3, 2, 0), ceil=True, kind="max")
def test_pooling_by_onednn(sides, pool, ceil, kind):
    """Against the other forms, which the tests above compare with loops and with XLA's own."""
    size, _, padding = pool
    assume(all(side + 2 * padding >= size for side in sides))
    x = draw(2, *sides, 3, dtype=np.float32)
    f = {
        "max": lambda x: ops.max_pool(x, *pool, ceil=ceil),
        "avg": lambda x: ops.avg_pool(x, *pool),
        "padded": lambda x: ops.avg_pool(x, *pool, count_padding=True),
    }[kind]
    wanted = with_gradients(f, x)
    calls, run = [], Program.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onednn, "LEAST_SIZE", 0)
        patch.setattr(Program, "run", lambda *args: calls.append(args) or run(*args))
        got = jax.block_until_ready([jax.jit(f)(x), *with_gradients(f, x)])
    assert len(calls) == 3
    assert_same(got, [wanted[0], *wanted], 1e-5)


@few
@given(sides=SIDES, size=st.integers(1, 7))
@example(sides=(9, 5), size=7)  # windows overlap, or repeat
def test_adaptive_avg_pool(sides, size):
    def spans(side):
        return [slice(i * side // size, math.ceil((i + 1) * side / size)) for i in range(size)]

    x = draw(2, *sides, 3, dtype=np.float32)
    got = jax.jit(lambda x: ops.adaptive_avg_pool(x, size))(x)
    assert_same(got, pooled(lambda part: part.mean((1, 2)), x, *map(spans, sides)), 1e-6)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("onednn_for_all", [False, True])
def test_other_platforms_keep_the_stock_forms(platform, onednn_for_all, monkeypatch):
    if onednn_for_all:
        monkeypatch.setattr(onednn, "LEAST_WORK", 0)
        monkeypatch.setattr(onednn, "LEAST_SIZE", 0)

    def step(x, wide, deep):
        y = ops.conv(ops.conv(x, deep, activation=jax.nn.relu), wide, jnp.ones(5))
        y = ops.scale_and_shift(y, jnp.ones(5), jnp.ones(5))
        y, *_ = ops.batch_norm(y, jnp.ones(5), jnp.ones(5), 1e-5, jax.nn.relu)
        return (ops.avg_pool(ops.max_pool(y, 3, 1, 1), 2, 2) ** 2).sum()

    args = draw(2, 6, 6, 4), draw(1, 1, 4, 5), draw(3, 3, 1, 4)
    traced = jax.jit(jax.grad(step, (0, 1, 2))).trace(*(a.astype(np.float32) for a in args))

    def forms(platform):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        grouped = "feature_group_count = 4" in text or "batch_group_count = 4" in text
        loops = "stablehlo.while" in text
        pools = text.count("stablehlo.reduce_window"), text.count("stablehlo.select_and_scatter")
        return text.count("stablehlo.convolution"), grouped, pools, loops, "onednn" in text

    convolutions, grouped, pools, loops, calls = forms(platform)
    assert (convolutions, grouped, loops, calls) == (6, True, False, False)
    assert min(pools) > 0
    convolutions, _, pools, loops, calls = forms("cpu")
    on_cpu = onednn_for_all and onednn.available()
    assert convolutions == 0 and (loops, calls) == (not on_cpu, on_cpu)


def test_how_threads_wait_is_said_to_oneDNN_alone(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    with library._environment(library._WAITING):
        assert os.environ["GOMP_SPINCOUNT"] == "7"  # the user's
        assert os.environ["OMP_WAIT_POLICY"] == "active"
    assert os.environ["GOMP_SPINCOUNT"] == "7" and "OMP_WAIT_POLICY" not in os.environ
