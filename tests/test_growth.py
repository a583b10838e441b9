"""Networks that grow and go on computing what they did: Net2Net."""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
import small  # noqa: F401 (keeps what is compiled)

from tl_jax import models
from tl_jax.base.architecture import Architecture
from tl_jax.base.base import Base
from tl_jax.base.growth import widened
from tl_jax.base.load import load_base
from tl_jax.chain.dropout import with_dropout
from tl_jax.chain.growth import widening
from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer, Tie
from tl_jax.chain.sizes import with_sizes
from tl_jax.chain.variables import flat
from tl_jax.errors import UserError
from tl_jax.models import alexnet_small, inception_v1, mobilenet_v1, resnet
from tl_jax.models.densenet import DenseLayer, Transition
from tl_jax.models.layers import (
    Conv,
    ConvNorm,
    FullyConnected,
    InvertedResidual,
    NormRelu,
    Stem,
    pool_and_head,
)
from tl_jax.train import optim


def chained(**modules):
    return Network((*(Layer(n, m) for n, m in modules.items()), *pool_and_head(3)))


NETWORKS = {
    "alexnet_small": (alexnet_small.build(5), (2, 28, 28, 1)),
    "norms": (chained(conv1=ConvNorm(6, 3), conv2=ConvNorm(4, 3, bias=True)), (2, 8, 8, 3)),
    "resnet": (
        chained(
            stem=Stem(8),
            block1=resnet.Block(8, 8, 1, "torchvision", basic=True),
            block2=resnet.Block(16, 16, 2, "torchvision", basic=True),
        ),
        (2, 16, 16, 3),
    ),
    "densenet": (
        chained(
            stem=Stem(6),
            layer1=DenseLayer(4, 1e-5),
            layer2=DenseLayer(4, 1e-5),
            transition=Transition(1e-5),
            top=NormRelu(),
        ),
        (2, 16, 16, 3),
    ),
    "inception": (
        chained(conv1=ConvNorm(6, 3), mixed=inception_v1.Mixed((4, 3, 4, 2, 3, 2)), top=Conv(5)),
        (2, 8, 8, 3),
    ),
    "mobilenets": (
        chained(
            conv1=ConvNorm(8, 3),
            block1=InvertedResidual(16, 8, squeeze=True),
            block2=InvertedResidual(16, 12, stride=2),
            separable=mobilenet_v1.SeparableConv(10, 1, "timm"),
        ),
        (2, 8, 8, 3),
    ),
}
# A place, and which other modules must have the same new width
PLACES = [
    ("alexnet_small", "conv4", ()),  # read by a dense layer, position by position
    pytest.param("alexnet_small", "fc5", (), marks=pytest.mark.slow),
    ("norms", "conv1", ()),
    pytest.param("resnet", "stem", ("stem/conv", "block1/conv2"), marks=pytest.mark.slow),
    pytest.param("resnet", "block1/conv1", (), marks=pytest.mark.slow),
    pytest.param("resnet", "block2", ("block2/shortcut", "block2/conv2"), marks=pytest.mark.slow),
    pytest.param("densenet", "stem", ("stem/conv",), marks=pytest.mark.slow),
    pytest.param("densenet", "layer1/conv2", (), marks=pytest.mark.slow),
    pytest.param("inception", "conv1", (), marks=pytest.mark.slow),
    pytest.param("inception", "mixed/3x3", (), marks=pytest.mark.slow),
    pytest.param("mobilenets", "block1", ("conv1", "block1/project"), marks=pytest.mark.slow),
    pytest.param(
        *("mobilenets", "block1/expand", ("block1/depthwise", "block1/squeeze/expand")),
        marks=pytest.mark.slow,
    ),
    pytest.param("mobilenets", "block2", ("separable/depthwise",), marks=pytest.mark.slow),
]


@functools.cache
def drawn(name):
    """Random weights in float64, with statistics, scales and biases that are not 0 and 1 either."""
    network, shape = NETWORKS[name]
    rng = np.random.default_rng(0)

    def moved(path, leaf):
        return leaf + (path[-1].key != "kernel") * rng.uniform(0, 0.5, leaf.shape)

    return jax.tree_util.tree_map_with_path(moved, network.init(0, shape)), rng.normal(size=shape)


def apart(one, other):
    a, b = ({k: v for k, v in flat(t).items() if hasattr(v, "shape")} for t in (one, other))
    assert a.keys() == b.keys() and all(np.shape(a[k]) == np.shape(b[k]) for k in a)
    return max((float(np.abs(a[k] - b[k]).max()) for k in a), default=0.0)


@pytest.mark.parametrize(("name", "place", "others"), PLACES)
def test_a_wider_network_computes_what_the_narrow_one_did(name, place, others):
    network, shape = NETWORKS[name]
    variables, x = drawn(name)
    growth = widening(network, shape, place, 1.6)
    wide = with_sizes(network, growth.sizes)
    grown = growth.carried(variables)
    assert apart(grown, wide.init(0, shape)) > 0  # the same leaves, of the same shapes
    widths = {growth.sizes[path] for path in others}
    assert len(widths) <= 1
    with jax.enable_x64(True):
        for train in (False, True):
            before, after = (
                net.apply(own, x, train=train) for net, own in ((network, variables), (wide, grown))
            )
            assert np.abs(before.output - after.output).max() < 1e-12
            assert np.abs(before.output).max() > 0.01
            moved = growth.carried({"batch_stats": jax.device_get(before.batch_stats)})
            assert apart(moved["batch_stats"], after.batch_stats) < 1e-12


def test_weights_are_copied_and_divided_as_in_the_paper():
    network = Network((Layer("a", Conv(2, bias=False)), Layer("b", Conv(1, bias=False))))
    growth = widening(network, (1, 1, 1, 1), "a", 2.0, seed=3)
    copies = growth.leaves["a/kernel"][0].of.tolist()
    assert copies[:2] == [0, 1] and set(copies[2:]) <= {0, 1}
    tree = {"params": {"a": {"kernel": np.array([[[[3.0, 5.0]]]])}, "b": {"kernel": np.array(
        [[[[7.0], [9.0]]]])}}}  # fmt: skip
    grown = growth.carried(tree)["params"]
    assert grown["a"]["kernel"].ravel().tolist() == [[3.0, 5.0][k] for k in copies]
    expected = [[7.0, 9.0][k] / copies.count(k) for k in copies]
    np.testing.assert_allclose(grown["b"]["kernel"].ravel(), expected)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_an_optimizers_next_step_is_the_narrow_networks(optimizer):
    network, shape = NETWORKS["norms"]
    params = jax.tree.map(np.float32, drawn("norms")[0])["params"]
    growth = widening(network, shape, "conv1", 1.6)
    rates = dict.fromkeys(params, 1.0)
    transformation = optim.transformation(optimizer, rates, 0.01)
    state = optim.begin(optimizer, rates, params)
    rng = np.random.default_rng(1)
    for _ in range(3):
        gradient = jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), params)
        _, state = optim.update(transformation, gradient, state, params)

    def step(state, params):
        """What momentum alone does next."""
        nothing = jax.tree.map(np.zeros_like, params)
        moved, _ = optim.update(transformation, nothing, state, params)
        return optax.apply_updates(params, jax.tree.map(lambda m: -0.1 * m, moved))

    carried = growth.carried(jax.device_get(state))
    assert jax.tree.structure(carried) == jax.tree.structure(state)
    wide = step(carried, growth.carried(params))
    assert apart(growth.carried(step(state, params)), wide) < 1e-5


class Tanh(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        return jax.nn.tanh(Conv(self.features, 3, name="conv")(x))


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.LayerNorm()(x)


@pytest.mark.parametrize(
    ("name", "place", "said"),
    [
        ("norms", "head", "'head' cannot be widened: its channels are what the network gives: no"),
        ("norms", "conv3", "unknown layer 'conv3'; did you mean 'conv1' or 'conv2'"),
        ("resnet", "block1/conv3", "unknown part 'block1/conv3'; did you mean 'block1/conv2'"),
        ("inception", "mixed", "'mixed' cannot be widened: another layer has a part of its channe"),
    ],
)
def test_what_cannot_be_widened_is_refused(name, place, said):
    network, shape = NETWORKS[name]
    with pytest.raises(UserError, match=said):
        widening(network, shape, place, 1.5)


def test_statistics_over_channels_are_refused():
    network = chained(conv1=Conv(4), norm=Normed(), conv2=Conv(4))
    with pytest.raises(UserError, match="'conv1' cannot .*channels go through a sum over channels"):
        widening(network, (1, 4, 4, 3), "conv1", 1.5)


def test_tied_parameters_are_refused():
    layers = (Layer("a", Conv(3, bias=False)), Layer("b", Conv(3, bias=False)))
    network = Network(layers, (Tie("b/kernel", ("a",), lambda leaves: leaves["a/kernel"]),))
    with pytest.raises(UserError, match="other parameters decide those of b/kernel"):
        widening(network, (1, 4, 4, 3), "a", 1.5)


def test_blocks_that_would_decide_otherwise_by_their_new_sizes_are_refused():
    # 8 channels widened to 12 are as many as the block gives: it would add its input.
    network = chained(conv1=ConvNorm(8, 3), block=InvertedResidual(16, 12), top=Conv(4))
    with pytest.raises(UserError, match="layer 'block' would compute something else"):
        widening(network, (1, 8, 8, 3), "conv1", 1.5)
    assert widening(network, (1, 8, 8, 3), "conv1", 1.7).sizes["conv1"] == 14


# Bases.


@functools.cache
def alexnet():
    architecture = Architecture("alexnet_small", "own", 10)
    expects = models.family("alexnet_small").preprocessing("alexnet_small", "own")
    return Base(architecture, "test", architecture.chain().init(0, expects.example), expects)


@functools.cache
def images(size=28, channels=1):
    return np.random.default_rng(1).normal(size=(4, size, size, channels)).astype(np.float32)


@pytest.mark.slow
def test_a_grown_base_is_saved_loaded_cut_and_headed(tmp_path):
    base = alexnet()
    grown = base.widened("conv2", noise=0.0).deepened("conv2").deepened("fc5")
    grown = grown.widened("conv2_2", 1.25, noise=0.0)
    assert grown.layers[1:4] == ("conv2", "conv2_2", "pool2") and "fc5_2" in grown.layers
    np.testing.assert_allclose(grown(images()), base(images()), atol=1e-5)
    assert grown(images(), layer="conv2").shape[-1] == 24
    assert grown(images(), layer="conv2_2").shape[-1] == 30
    grown.save(tmp_path / "grown.safetensors")
    loaded = load_base(tmp_path / "grown.safetensors")
    np.testing.assert_array_equal(loaded(images()), grown(images()))
    headed = loaded.with_head(3, cut="conv3")
    assert headed.layers == ("conv1", "conv2", "conv2_2", "pool2", "conv3", "head")
    features = loaded(images(), layer="conv3")
    np.testing.assert_allclose(headed(images(), layer="conv3"), features, atol=1e-6)
    assert dict(headed.architecture.added) == {"conv2_2": "conv2"}
    assert "fc5_2" not in dict(headed.architecture.sizes)
    fresh = loaded.started("fresh", 1)  # a student of the same size from scratch
    assert apart(fresh.variables, loaded.variables) > 0


def test_noise_breaks_ties_and_only_among_copies():
    plain, noisy = (widened(alexnet(), "conv2", noise=noise) for noise in (0.0, 0.01))
    kernels = [one.base.variables["params"]["conv2"]["kernel"] for one in (plain, noisy)]
    np.testing.assert_array_equal(kernels[0][..., :16], kernels[1][..., :16])
    copies = plain.growth.leaves["conv2/kernel"][-1].of
    np.testing.assert_array_equal(kernels[0][..., 16:], kernels[0][..., copies[16:]])
    moved = (kernels[1] - kernels[0])[..., 16:]
    assert 0.005 < moved.std() / kernels[0].std() < 0.02
    others = [one.base.variables["params"]["conv3"]["kernel"] for one in (plain, noisy)]
    np.testing.assert_array_equal(*others)


@pytest.mark.slow
def test_deeper_residual_nets_and_norms():
    for name, cut, layers in (
        ("resnet18", "stage2_block1", ("stage2_block1",)),
        ("mobilenet_v1", "block2", ("conv1", "block2")),
    ):
        base = load_base(name, "random:0").resized(32).cut(cut).with_head(3)
        x = images(32, 3)
        for layer in layers:
            deep = base.deepened(layer, x)
            assert f"{layer}_2" in deep.layers
            np.testing.assert_allclose(deep(x), base(x), atol=1e-4)
            # In training too, on the batch that set the norms.
            below = base(x, layer=layer)
            copy = deep.chain.apply(
                deep.variables, below, start=layer, stop=f"{layer}_2", train=True
            )
            scale = float(np.abs(below).max())
            np.testing.assert_allclose(copy.output, below, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (chained(conv=Conv(4, 3, activation=jax.nn.tanh)), "conv"),
        (chained(conv=Conv(4, 3, activation=jax.nn.gelu)), "conv"),
        (chained(conv=ConvNorm(4, 3, activation=jax.nn.hard_swish)), "conv"),
        (chained(stem=Stem(4)), "stem"),
    ],
)
def test_what_cannot_be_the_identity_is_refused(network, layer, monkeypatch):
    expects = alexnet().preprocessing  # before another net has its name
    monkeypatch.setattr(models.alexnet_small, "build", lambda classes: network)
    models._small.cache_clear()
    base = Base(
        Architecture("alexnet_small", "own", 3),
        "test",
        network.init(0, (1, 28, 28, 1)),
        expects,
    )
    try:
        small = jax.tree.map(lambda a: 0.003 * a, base.variables["params"])
        for params in (base.variables["params"], small):  # near 0, tanh is a straight line
            mine = dataclasses.replace(base, variables={**base.variables, "params": params})
            said = f"a layer like '{layer}' on top of it cannot return"
            with pytest.raises(UserError, match=said):
                mine.deepened(layer)
    finally:
        models._small.cache_clear()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda: alexnet().widened("conv2", 1.0), "factor= takes above 1"),
        (lambda: alexnet().widened("conv2", noise=-1.0), "noise= takes a share"),
        (lambda: alexnet().deepened("conv7"), "unknown layer 'conv7'; did you mean 'conv1'"),
        (lambda: alexnet().deepened("head"), "'head' is the last layer"),
        (lambda: alexnet().deepened("conv2", np.zeros((0, 28, 28, 1))), "channels last; got none"),
        (lambda: alexnet().deepened("conv2", np.full((2, 28, 28, 1), 255.0)), "takes preprocessed"),
        (lambda: alexnet().deepened("pool2"), "'pool2' has no parameters"),
        (lambda: alexnet().cut("conv2").widened("conv2"), "no layer above could take more"),
    ],
)
def test_mistakes_are_told_in_a_line(how, said):
    with pytest.raises(UserError, match=said):
        how()


def test_the_fields_of_a_module_in_other_sizes_are_found():
    network = Network((Layer("fc", FullyConnected(4, dropout=0.4)), Layer("head", Classifier(3))))
    wide = with_sizes(network, {"fc": 6, "fc/Dense_0": 6})
    stronger = with_dropout(wide, 1.5).layers[0].module
    assert abs(stronger.module.dropout - 0.6) < 1e-9 and dict(stronger.sizes)[""] == 6
