import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from tl_jax.chain import variables
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.chain.programs import forward
from tl_jax.errors import UserError
from tl_jax.ops import BatchNorm

KEY = jax.random.key(0)
DENSE = Network(tuple(Layer(name, nn.Dense(4)) for name in ("fc1", "fc2", "fc3")))


class Noise(nn.Module):
    """Dropout of half, where there is something to draw it from."""

    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5)(x, deterministic=not self.has_rng("dropout"))


NOISE = Network(tuple(Layer(name, Noise()) for name in "abc"))
NORM = Network(tuple(Layer(name, BatchNorm()) for name in "abc"))
ONES = jnp.ones((4, 64))


def noise(**options):
    """Output and taps of NOISE: one is all ones if nothing was dropped on the way to it."""
    return NOISE.apply({}, ONES, taps="abc", rng=KEY, **options)


def assert_same(got, wanted):
    jax.tree.map(np.testing.assert_array_equal, got, wanted)


def test_the_output_of_one_layer_is_the_input_of_the_next():
    variables = DENSE.init(0, (1, 3))
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    applied = DENSE.apply(variables, x, taps=DENSE.names)
    wanted = x
    for name in DENSE.names:
        kernel, bias = (variables["params"][name][k] for k in ("kernel", "bias"))
        wanted = wanted @ kernel + bias
        np.testing.assert_allclose(applied.taps[name], wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(applied.output, applied.taps["fc3"])
    assert applied.batch_stats == {}


def test_stopping_and_going_on_above_is_going_through():
    x = np.random.default_rng(0).normal(size=(2, small.SIZE, small.SIZE, 3)).astype(np.float32)
    chain, variables = small.chain(), small.variables()
    whole = jax.jit(lambda v, x: chain.apply(v, x, taps=small.NAMES))(variables, x)
    for name in small.NAMES:
        below = forward(chain, variables, x, stop=name)
        np.testing.assert_allclose(below, whole.taps[name], rtol=1e-5, atol=1e-6)
        above = forward(chain, variables, below, start=name)
        np.testing.assert_allclose(above, whole.output, rtol=1e-5, atol=1e-6)
    assert whole.taps.keys() == set(small.NAMES)


def test_only_the_variables_of_the_layers_between_are_needed():
    variables = DENSE.init(0, (1, 4))
    own = {"params": {"fc2": variables["params"]["fc2"]}}
    applied = DENSE.apply(own, jnp.ones((1, 4)), start="fc1", stop="fc2", taps=["fc2"])
    np.testing.assert_array_equal(applied.output, applied.taps["fc2"])
    with pytest.raises(UserError, match="unknown layer among those applied 'fc1'.*'fc2'"):
        DENSE.apply(own, jnp.ones((1, 4)), start="fc1", stop="fc2", taps=["fc1"])


def test_cut_and_with_layers():
    chain = small.chain().cut("stage1_block2")
    assert chain.names == ("stem", "stage1_block1", "stage1_block2")
    assert chain.with_layers(*DENSE.layers).names == (*chain.names, "fc1", "fc2", "fc3")
    assert small.chain().cut("head") == small.chain()
    between = small.chain().between("stage1_block2", "pool")
    assert [layer.name for layer in between] == ["stage2_block1", "pool"]
    assert small.chain().between("pool", "pool") == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda c: c.cut("stage1_blok2"), "unknown layer 'stage1_blok2'; did you mean 'stage1_blo"),
        (lambda c: c.index("zzz"), "unknown layer 'zzz'; known: stem, stage1_block1, .*head"),
        (lambda c: c.between("pool", "stem"), "'stem' comes before 'pool'"),
        (lambda c: c.with_layers(Layer("pool", nn.Dense(2))), r"unique .*repeated: \['pool'\]"),
        (lambda c: c.apply({}, ONES, train={"stam"}), "unknown layer 'stam'; did you mean 'stem'"),
        (lambda c: c.apply({}, ONES, batch_norm=["steem"]), "unknown layer 'steem'"),
        (lambda c: c.apply({}, ONES, start="pol"), "unknown layer 'pol'; did you mean 'pool'"),
    ],
)
def test_wrong_places_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        wrong(small.chain())


def test_dropout_is_drawn_in_trained_layers_only():
    assert_same(noise().output, ONES)
    assert_same(noise(train=False).output, ONES)
    assert_same(noise(batch_norm=True).output, ONES)
    assert_same(NOISE.apply({}, ONES, train=True).output, ONES)  # nothing to draw from
    only = noise(train={"b"}).taps
    assert_same(only["a"], ONES)
    assert set(np.unique(only["b"])) == {0, 2}
    assert 0.3 < np.mean(only["b"] == 0) < 0.7
    assert_same(only["c"], only["b"])
    assert_same(noise(train="b").taps, only)  # one name is not a set of letters


def test_a_layer_draws_the_same_masks_wherever_one_starts():
    everywhere = noise(train=True).taps
    assert_same(
        NOISE.apply({}, everywhere["a"], start="a", train=True, rng=KEY).output, everywhere["c"]
    )
    own = {name: np.asarray(noise(train={name}).output) for name in "abc"}
    assert_same(everywhere["c"], own["a"] * own["b"] * own["c"])
    assert all((own[a] != own[b]).any() for a, b in ("ab", "bc", "ca"))
    other = NOISE.apply({}, ONES, train={"a"}, rng=jax.random.key(1)).output
    assert (np.asarray(other) != own["a"]).any()


def test_batch_norm_is_chosen_apart_from_training():
    variables = NORM.init(0, (1, 3))
    x = np.random.default_rng(0).normal(2.0, 3.0, size=(50, 3)).astype(np.float32)
    mean, var = x.mean(0), x.var(0)
    applied = NORM.apply(variables, x, train={"b", "c"}, batch_norm={"b"}, taps="ab", rng=KEY)
    unmoved = x / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(applied.taps["a"], unmoved, rtol=1e-5)
    normalised = (x - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(applied.taps["b"], normalised, rtol=1e-3, atol=1e-4)
    for name in "ac":  # the very arrays
        for leaf in ("mean", "var"):
            given = variables["batch_stats"][name][leaf]
            assert applied.batch_stats[name][leaf] is given
    moved = applied.batch_stats["b"]
    np.testing.assert_allclose(moved["mean"], 0.1 * mean, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(moved["var"], 0.9 + 0.1 * var, rtol=1e-3)
    usual = NORM.apply(variables, x, train={"b"}).batch_stats  # what is trained, by default
    assert_same(usual, applied.batch_stats)


def test_fresh_variables_depend_on_the_seed_and_the_name_alone():
    shape = (1, small.SIZE, small.SIZE, 3)
    chain = small.chain()
    fresh = chain.init(3, shape)
    assert_same(chain.init(3, shape), fresh)
    shorter = chain.cut("stage1_block1").with_layers(Layer("other", nn.Dense(8))).init(3, shape)
    for name in ("stem", "stage1_block1"):
        assert_same(shorter["params"][name], fresh["params"][name])
        assert_same(shorter["batch_stats"][name], fresh["batch_stats"][name])
    kernels = [fresh["params"][n]["conv"]["kernel"] for n in ("stage1_block1", "stage1_block2")]
    assert (kernels[0] != kernels[1]).all()
    other = chain.init(4, shape)["params"]["stage1_block1"]["conv"]["kernel"]
    assert (other != kernels[0]).all()
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_variables_between_two_are_on_the_way(share):
    names = ("stage2_block1", "head")
    first, last = small.variables(0), small.variables(1)
    top = variables.select(last, names)
    found = variables.between(first, top, share)
    assert jax.tree.structure(found) == jax.tree.structure(top)
    start = variables.select(first, names)
    wanted = jax.tree.map(lambda a, b: (1 - share) * a + share * b, start, top)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, wanted)


def test_redrawn_parameters_keep_the_scale_of_each_array_and_nothing_else():
    rng = np.random.default_rng(0)
    old = {"conv": {"kernel": rng.normal(0.3, 0.02, (3, 3, 64, 64)).astype(np.float32)}}
    old["head"] = {"bias": rng.normal(-1, 2, 5000).astype(np.float32)}
    new, again, other = (variables.redrawn(old, seed) for seed in (1, 1, 2))
    for layer, leaf in (("conv", "kernel"), ("head", "bias")):
        was, now = old[layer][leaf], new[layer][leaf]
        assert now.shape == was.shape and now.dtype == was.dtype
        np.testing.assert_array_equal(now, again[layer][leaf])
        np.testing.assert_allclose(now.mean(), was.mean(), atol=0.1 * was.std())
        np.testing.assert_allclose(now.std(), was.std(), rtol=0.05)
        for another in (was, other[layer][leaf]):
            assert abs(np.corrcoef(now.ravel(), another.ravel())[0, 1]) < 0.05


def test_fresh_kernels_keep_the_variance_of_what_passes_through():
    conv = Layer("conv", nn.Conv(64, (3, 3)))
    dense = Layer("dense", nn.Dense(500))
    network = Network((conv, Layer("flat", small.GlobalPool()), dense))
    fresh = network.init(0, (1, 8, 8, 32))["params"]
    # He et al. 2015 (arXiv:1502.01852), eq. 10: n = 3 * 3 * 32 inputs
    assert np.std(fresh["conv"]["kernel"]) == pytest.approx(np.sqrt(2 / 288), rel=0.02)
    assert np.std(fresh["dense"]["kernel"]) == pytest.approx(np.sqrt(1 / 64), rel=0.02)
    assert np.mean(fresh["dense"]["kernel"]) == pytest.approx(0, abs=0.005)
    assert not fresh["conv"]["bias"].any()


def test_a_parameter_without_a_rule_is_drawn_as_its_module_says():
    class Gate(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x * self.param("gate", nn.initializers.constant(0.5), (3,))

    fresh = Network((Layer("odd", Gate()),)).init(0, (1, 3))["params"]["odd"]["gate"]
    np.testing.assert_array_equal(fresh, np.float32([0.5, 0.5, 0.5]))


def test_shapes_are_known_without_computing():
    variables, outputs = small.chain().shapes((10**6, 512, 512, 3))
    assert outputs["stage1_block2"].shape == (10**6, 512, 512, 8)
    assert outputs["stage2_block1"].shape == (10**6, 256, 256, 16)
    assert outputs["head"].shape == (10**6, 3)
    shapes = jax.tree.map(np.shape, small.variables())
    assert jax.tree.map(np.shape, variables) == shapes


def test_weights_are_float32_in_a_program_of_float64():
    with jax.enable_x64(True):
        shapes, _ = small.chain().shapes((1, 9, 7, 3))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {np.dtype("float32")}
