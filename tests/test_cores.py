"""A batch divided among cores gives what it gives whole, and frozen weights are prepared once."""

import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tl_jax import ops
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.models.layers import Conv, InvertedResidual, MaxPool, NormRelu, Stem
from tl_jax.ops.cpu import constants, onednn
from tl_jax.ops.cpu.onednn import foreign, library

pytestmark = pytest.mark.skipif(library.library() is None, reason="oneDNN is not to be had here")


@pytest.fixture(autouse=True)
def all_by_onednn(monkeypatch):
    """Two cores, and oneDNN for everything; the cases that are run, in order."""
    for name in ("LEAST_WORK", "LEAST_SIZE", "MANY"):
        monkeypatch.setattr(onednn, name, 0)
    monkeypatch.setattr(onednn, "WIDE", 8)
    monkeypatch.setattr(onednn, "cores", lambda: 2)
    cases, compiled = [], foreign.compiled
    monkeypatch.setattr(
        foreign, "compiled", lambda case, lane: cases.append(case) or compiled(case, lane)
    )
    return cases


def images(count: int, size: int = 12, channels: int = 8, seed: int = 0) -> np.ndarray:
    shape = (count, size, size, channels)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def variables(chain: Network, x: np.ndarray):
    """With statistics and biases that are not those of a fresh net."""
    rng = np.random.default_rng(1)
    fresh = chain.init(0, x.shape)
    return jax.tree.map(lambda a: (a + 0.1 * rng.random(a.shape)).astype(np.float32), fresh)


def program_of(chain: Network, **options) -> ops.Inference:
    return ops.inference(lambda v, x: chain.apply(v, x, **options).output)


EVERYTHING = Network(
    (
        Layer("stem", Stem(16)),
        Layer("narrow", InvertedResidual(48, 16)),
        Layer("strided", InvertedResidual(48, 24, stride=2)),
        Layer("wide", InvertedResidual(72, 24, kernel=5, same=True, squeeze=True)),
        Layer("conv", Conv(16, 3, bias=False, padding=1)),
        Layer("norm", NormRelu()),
        Layer("pool", MaxPool(2, 2)),
    )
)


def test_parts_give_what_the_whole_gives(all_by_onednn):
    x = images(6, 40, 3)
    v = variables(EVERYTHING, x)
    program = program_of(EVERYTHING)
    run = program.of(v)
    for seed in (0, 1):  # the second batch with what the first has left
        x = images(6, 40, 3, seed)
        np.testing.assert_allclose(run(x), program.whole(v, x), rtol=2e-5, atol=2e-5)
    kinds = {(type(case).__name__, case.kind) for case in all_by_onednn}
    for name in ("Convolution", "Winograd", "Pair"):
        assert {(name, "forward"), (name, "packing")} <= kinds


def test_what_is_made_of_the_weights_is_made_once(all_by_onednn):
    x = images(4, 40, 3)
    run = program_of(EVERYTHING).of(variables(EVERYTHING, x))
    jax.block_until_ready(run(x))
    assert any("packing" in case.kind for case in all_by_onednn)
    all_by_onednn.clear()
    jax.block_until_ready(run(x))
    assert all_by_onednn and not any("packing" in case.kind for case in all_by_onednn)


def test_other_weights_are_not_mistaken_for_those_before():
    x = images(4, 40, 3)
    program, v = program_of(EVERYTHING), variables(EVERYTHING, images(4, 40, 3))
    for factor in (1, 2):
        now = jax.tree.map(lambda a, factor=factor: factor * a, v)
        np.testing.assert_allclose(program(now, x), program.whole(now, x), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_that_cores_cannot_share_stays_whole(count, all_by_onednn):
    x = images(count, 40, 3)
    program, v = program_of(EVERYTHING), variables(EVERYTHING, x)
    np.testing.assert_array_equal(program(v, x), program.whole(v, x))
    assert not any("packing" in case.kind for case in all_by_onednn)


class Values(dict):
    """A mapping of places to values, as a tree of its own."""


jax.tree_util.register_pytree_node(
    Values,
    lambda values: ([values[key] for key in sorted(values)], tuple(sorted(values))),
    lambda keys, leaves: Values(zip(keys, leaves, strict=True)),
)


def test_batch_and_result_may_be_trees(all_by_onednn):
    x = images(4, 40, 3)
    v = variables(EVERYTHING, x)

    def fn(v, batch):
        y = EVERYTHING.apply(v, batch["image"]).output
        return Values(sums=y.sum((1, 2, 3)) + batch["more"][0], outputs=[y, batch["more"][1]])

    program = ops.inference(fn)
    batch = Values(image=x, more=(np.arange(4, dtype=np.float32), np.arange(8).reshape(4, 2)))
    found, whole = program(v, batch), program.whole(v, batch)
    assert isinstance(found, Values) and any("packing" in case.kind for case in all_by_onednn)
    assert jax.tree.structure(found) == jax.tree.structure(whole)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_trees_of_other_shapes_have_programs_of_their_own():
    program = ops.inference(lambda v, batch: jax.tree.map(lambda x: v * x, batch)).of(2.0)
    for batch in ({"a": images(4)}, {"b": images(4)}, {"a": images(2)}, [images(4), images(4, 3)]):
        found = program(batch)
        jax.tree.map(np.testing.assert_array_equal, found, jax.tree.map(lambda x: 2 * x, batch))


def test_arrays_of_two_lengths_stay_whole():
    program = ops.inference(lambda v, batch: v * batch["a"] + batch["b"].sum())
    batch = {"a": np.ones(4, np.float32), "b": np.ones(2, np.float32)}
    np.testing.assert_array_equal(program(1.0, batch), 3)


def test_a_batch_that_is_being_traced_stays_whole():
    x = images(4, 40, 3)
    program, v = program_of(EVERYTHING), variables(EVERYTHING, x)
    traced = jax.jit(lambda x: program(v, x))(x)
    np.testing.assert_allclose(traced, program.whole(v, x), rtol=2e-5, atol=2e-5)


@given(
    st.integers(3, 14), st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 2]), st.integers(1, 20),
    st.integers(2, 40), st.booleans(), st.sampled_from([None, jax.nn.relu, jax.nn.relu6]),
)  # fmt: skip
@settings(max_examples=20)
@example(8, 3, 2, 16, 96, True, jax.nn.relu6)
@example(7, 5, 1, 16, 48, False, jax.nn.relu)
def test_a_depthwise_convolution_with_the_one_before(
    size, kernel, stride, inputs, width, same, activation
):
    padding = "SAME" if same else kernel // 2
    rng = np.random.default_rng(0)
    shapes = [(1, 1, inputs, width), (width,), (kernel, kernel, 1, width), (width,)]
    v = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]

    def both(v, x):
        y = ops.conv(x, v[0], v[1], activation=activation)
        return ops.conv(y, *v[2:], stride=stride, padding=padding, activation=activation)

    x = images(2, size, inputs)
    program = ops.inference(both)
    np.testing.assert_allclose(program(v, x), program.whole(v, x), rtol=1e-4, atol=1e-4)


@given(
    st.integers(3, 14), st.integers(2, 40), st.integers(1, 70), st.booleans(), st.booleans(),
    st.sampled_from([None, jax.nn.relu, jax.nn.relu6]),
)  # fmt: skip
@settings(max_examples=20)
@example(14, 64, 256, True, True, jax.nn.relu)
def test_a_pointwise_convolution(size, inputs, outputs, biased, added, activation):
    rng = np.random.default_rng(0)
    v = [rng.standard_normal(n).astype(np.float32) for n in ((1, 1, inputs, outputs), outputs)]
    v = v if biased else [v[0], None]

    def pointwise(v, x):
        residual = jnp.tile(x[..., :1], outputs) if added else None
        return ops.conv(x, *v, residual, activation=activation)

    x = images(2, size, inputs)
    program = ops.inference(pointwise)
    np.testing.assert_allclose(program(v, x), program.whole(v, x), rtol=1e-4, atol=1e-4)


def between(cases) -> list[str]:
    return [type(case).__name__ for case in cases if case.kind == "forward"]


class Two(nn.Module):
    """A 1 x 1 convolution, a depthwise one of it, and perhaps the first's output once more."""

    again: bool

    @nn.compact
    def __call__(self, x):
        y = Conv(16, activation=jax.nn.relu)(x)
        z = Conv(16, 3, depthwise=True)(y)
        return z + y if self.again else z


@pytest.mark.parametrize(
    ("again", "calls"), [(False, ["Pair"] * 2), (True, ["Convolution", "Pair"] * 2)]
)
def test_what_is_between_is_made_only_where_it_is_wanted(again, calls, all_by_onednn):
    x, chain = images(4), Network((Layer("two", Two(again)),))
    program, v = program_of(chain), variables(chain, x)
    found = np.asarray(program(v, x))
    assert sorted(between(all_by_onednn)) == sorted(calls)
    np.testing.assert_allclose(found, program.whole(v, x), rtol=1e-5, atol=1e-5)


def test_a_layer_whose_output_is_asked_for_is_computed_once(all_by_onednn):
    x = images(4)
    chain = Network((Layer("first", Conv(16)), Layer("second", Conv(16, 3, depthwise=True))))

    def means(v, x):
        taps = chain.apply(v, x, taps=chain.names).taps
        return sum(taps[name].mean((1, 2)) for name in chain.names)

    jax.block_until_ready(ops.inference(means)(variables(chain, x), x))
    assert between(all_by_onednn) == ["Convolution"] * 4  # two layers, two parts


@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_only_where_jax_runs_on_the_cpu(backend, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert onednn.cores() == 1


def test_what_depends_on_the_batch_cannot_be_kept():
    program = ops.inference(lambda v, x: x * constants.precomputed(x.mean() + v))
    with pytest.raises(ValueError, match="depends on the batch"):
        program(np.float32(1), images(2))


@pytest.mark.parametrize("statement", ["y = forward(v, x)", "forward(v, x)"])
def test_a_program_may_end_before_its_computation(statement):
    code = (
        "import jax, numpy as np\n"
        "from tl_jax.base.load import load_base\n"
        "from tl_jax.chain.programs import forward_program\n"
        "base = load_base('mobilenet_v2', 'random:0').cut('stage2_block1')\n"
        "v, x = base.variables, np.zeros((16, 224, 224, 3), np.float32)\n"
        "forward = forward_program(base.chain, None, None)\n"
        f"{statement}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_prefix_of_the_small_net_is_that_of_its_examples_one_by_one():
    x = small.PREPROCESSING.normalise(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)))
    program = program_of(small.chain(), stop="stage1_block2")
    one_by_one = [program(small.variables(), x[i : i + 1]) for i in range(4)]
    found = program(small.variables(), x)
    np.testing.assert_allclose(found, np.concatenate(one_by_one), rtol=1e-5, atol=1e-5)
