"""What training leaves to chance beside dropout: StochNorm's statistics, and residual branches."""

import contextlib
import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
import small

import tl_jax
from tl_jax import ops
from tl_jax.base import file
from tl_jax.base.load import load_base
from tl_jax.chain.depth import require_shortcut, with_stochastic_depth
from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known, Layer
from tl_jax.engine import prefix
from tl_jax.errors import UserError
from tl_jax.models.inception_resnet_v2 import Residual
from tl_jax.models.layers import ConvNorm, InvertedResidual
from tl_jax.models.resnet import Block, BlockV2
from tl_jax.plans.plan import Phase, Plan
from tl_jax.train import loop
from tl_jax.train.inputs import for_plan
from tl_jax.train.step import recipe

EXAMPLE = jax.ShapeDtypeStruct((1, 8, 8, 3), "float32")

# StochNorm, of three examples with two channels.

X = np.float32([[1, 10], [3, 10], [5, 40]])
NORM = {
    "params": {"scale": np.float32([2, 1]), "bias": np.float32([0, 0.5])},
    "batch_stats": {"mean": np.float32([1, 20]), "var": np.float32([4, 100])},
}
# The batch's means are 3 and 20, its variances 8/3 and 200.
BY_BATCH = np.float32([[-(6**0.5), 0.5 - 0.5**0.5], [0, 0.5 - 0.5**0.5], [6**0.5, 0.5 + 2**0.5]])
BY_RUNNING = np.float32([[0, -0.5], [2, -0.5], [4, 2.5]])
AFTER = {"mean": np.float32([1.2, 20]), "var": np.float32([0.9 * 4 + 0.8 / 3, 110])}


def normed(key, p, x=X):
    """The output and the statistics afterwards."""
    with ops.stochastic(p):
        y, updated = ops.BatchNorm(epsilon=0.0).apply(
            NORM, x, mutable=["batch_stats"], rngs={"batch_norm": key}
        )
    return y, updated["batch_stats"]


def test_each_channel_takes_running_statistics_with_the_probability_and_moves_them():
    keys = jax.random.split(jax.random.key(0), 4000)
    found, stats = jax.vmap(lambda key: normed(key, 0.25))(keys)
    running = np.isclose(found, BY_RUNNING, atol=1e-4).all(1)  # (4000, 2)
    wanted = np.where(running[:, None], BY_RUNNING, BY_BATCH)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    patterns = np.bincount(running @ [1, 2]) / len(keys)  # channels are drawn independently
    np.testing.assert_allclose(patterns, [9 / 16, 3 / 16, 3 / 16, 1 / 16], atol=0.03)
    for name, value in AFTER.items():
        np.testing.assert_allclose(stats[name], np.broadcast_to(value, (4000, 2)), rtol=1e-5)


def test_the_gradient_of_a_channel_is_that_of_the_statistics_it_takes():
    def value(x, p):
        return (normed(jax.random.key(0), p, x)[0] * X).sum()

    # Constant running statistics: scale / deviation. The batch's pass no gradient along x.
    np.testing.assert_allclose(jax.grad(value)(X, 1.0), X * [[1, 0.1]], rtol=1e-5)
    np.testing.assert_allclose(jax.grad(value)(X, 0.0), np.zeros((3, 2)), atol=1e-5)


def test_without_chance_it_is_batch_and_with_certainty_frozen_with_moving_statistics():
    phase = {
        p: Phase("p", {"head": 1.0}, small.settings(batch_norm=p))
        for p in ("batch", "stochastic(0)")
    }
    setup = small.problem("full").setup
    assert recipe(setup, phase["batch"]) == recipe(setup, phase["stochastic(0)"])
    variables = small.variables()
    known = Known({"image": np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)})
    of = functools.partial(
        Net, small.chain(), variables["params"], variables["batch_stats"], train=small.NAMES
    )
    frozen, batch = of(), of(norm=small.NAMES)
    running = of(norm=small.NAMES, running=(1.0, jax.random.key(0)))
    half = [of(norm=small.NAMES, running=(0.5, jax.random.key(k))) for k in (0, 0, 1)]
    outputs = [net(known, "head") for net in (frozen, running, batch, *half)]
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(outputs[3], outputs[4])  # the key decides
    for a, b in ((1, 2), (1, 3), (2, 3), (3, 5)):
        assert not np.allclose(outputs[a], outputs[b], atol=1e-3)
    stem = running.stats["stem"]["norm"]
    np.testing.assert_array_equal(stem["mean"], batch.stats["stem"]["norm"]["mean"])
    assert all(
        (stem[name] != variables["batch_stats"]["stem"]["norm"][name]).any() for name in stem
    )
    inference = half[0](known, "head", train=False)
    plain = Net(small.chain(), variables["params"], half[0].stats)(known, "head")
    np.testing.assert_array_equal(inference, plain)


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return ops.BatchNorm(name="norm")(x)


def on_vectors(**changes):
    """The small network with a batch norm above its pool: norm and head learn."""
    chain = Network(
        (*small.chain().layers[:-1], Layer("norm", Norm()), Layer("head", Classifier(3)))
    )
    rates = {name: float(name in ("norm", "head")) for name in chain.names}
    phase = Phase("p", rates, small.settings(**changes))
    mine = small.problem("full")
    return type(mine)(chain, small.PREPROCESSING, mine.task, Plan("p", (phase,)), batch_size=16)


def test_from_the_device_or_batch_by_batch_the_same_is_drawn(tmp_path, monkeypatch):
    mine = on_vectors(batch_norm="stochastic", best_by="last", sampling="balanced")
    fresh = mine.chain.init(0, (1, small.SIZE, small.SIZE, 3))
    found = []
    for name, limit in (("resident", prefix.RESIDENT), ("streamed", 0)):
        monkeypatch.setattr(prefix, "RESIDENT", limit)
        inputs_for = for_plan(mine, test_views="none", cache=tmp_path, dtype="float32")
        variables, progress, inputs = loop.run(mine, fresh, inputs_for, workdir=tmp_path / name)
        assert (inputs.resident is None) == (name == "streamed")
        found.append((variables, [row["train_loss"] for row in progress.history]))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, *found)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("stochastic(p=1.5)", "batch_norm: p= takes a probability, from 0 to 1; got 1.5"),
        ("stochastic(p='a')", "'stochastic': p= takes a number; got 'a'"),
        ("stochastic(q=0.5)", "unknown option of batch_norm 'stochastic' 'q'; .*p"),
        ("stochastik", "unknown batch_norm 'stochastik'; did you mean 'stochastic'"),
        ("frozen(1)", "batch_norm 'frozen' takes 0 options; got 1"),
    ],
)
def test_modes_of_batch_norm_that_cannot_be_are_refused(spec, said):
    with pytest.raises(UserError, match=said):
        small.settings(batch_norm=spec)


# Stochastic depth.

BLOCKS = {
    "resnet": Block(8, 8, 1, "torchvision", basic=True),
    "resnet, keras": Block(2, 8, 1, "keras", basic=False),
    "resnet_v2": BlockV2(2, 1, project=False),
    "mobilenet": InvertedResidual(16, 8),
    "inception_resnet": Residual(((ConvNorm(4),),), 0.17),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_branch_is_left_out_by_example_and_scaled_where_it_is_not(name):
    layers = tuple(Layer(f"block{n}", BLOCKS[name]) for n in (1, 2, 3))
    plain, deep = Network(layers), with_stochastic_depth(Network(layers), 0.6)
    assert [one.module.drop_branch for one in deep.layers] == pytest.approx([0.2, 0.4, 0.6])
    x = np.random.default_rng(0).uniform(9, 10, (1, 4, 4, 8)).astype(np.float32)
    # Weak branches: no ReLU behind the sum cuts anything.
    variables = jax.tree.map(lambda a: a * 0.2 if a.ndim == 4 else a, plain.init(0, x.shape))
    many = np.repeat(x, 500, 0)
    for block, drop in (("block1", 0.2), ("block2", 0.4)):
        whole = deep.apply(variables, x, stop=block).output
        np.testing.assert_array_equal(whole, plain.apply(variables, x, stop=block).output)
        one, taps = deep.cut(block), {"train": block, "batch_norm": False, "rng": jax.random.key(1)}
        before = x if block == "block1" else deep.apply(variables, x, stop="block1").output
        found = np.asarray(one.apply(variables, many, **taps).output)
        dropped = np.isclose(found, before, atol=1e-4).all((1, 2, 3))
        assert dropped.mean() == pytest.approx(drop, abs=0.07)
        wanted = before + (whole - before) / (1 - drop)
        np.testing.assert_allclose(found[~dropped], wanted.repeat((~dropped).sum(), 0), atol=1e-3)
        assert not np.isclose(wanted, before, atol=1e-3).all()


def test_layers_that_do_not_learn_keep_their_branches():
    base = load_base("resnet18", "random:1").resized(32).cut("stage1_block2")
    deep = with_stochastic_depth(base.chain, 0.9)
    x = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype(np.float32)
    run = functools.partial(deep.apply, base.variables, x, batch_norm=False, rng=jax.random.key(0))
    plain = base.chain.apply(base.variables, x, taps=["stage1_block1"])
    found = run(train=["stage1_block2"], taps=["stage1_block1"])
    np.testing.assert_array_equal(found.taps["stage1_block1"], plain.taps["stage1_block1"])
    assert not np.allclose(found.output, plain.output)
    np.testing.assert_array_equal(run(train=False).output, plain.output)


def test_without_a_probability_the_network_is_the_same_and_without_branches_it_is_refused():
    chain = load_base("efficientnet_lite0", "random:1").chain
    assert with_stochastic_depth(chain, 0.0) is chain
    last = with_stochastic_depth(chain, 0.2).layers[chain.index("stage7_block1")].module
    assert last.drop_branch == pytest.approx(0.2)
    with pytest.raises(
        UserError, match="stochastic_depth=0.2 leaves out residual branches, and this"
    ):
        with_stochastic_depth(small.chain(), 0.2)
    for wrong, said in (
        (1.0, "a probability from 0 to below 1; got 1.0"),
        ("a", "a number; got 'a'"),
    ):
        with pytest.raises(UserError, match=f"stochastic_depth= takes {said}"):
            with_stochastic_depth(chain, wrong)


SHORTCUTS = {
    "stem": ConvNorm(8, 3),
    "adds": InvertedResidual(16, 8),
    "halves": InvertedResidual(16, 8, stride=2),
    "widens": InvertedResidual(16, 12),
    "projects": Block(16, 16, 2, "torchvision", basic=True),  # its shortcut is a convolution
}


@pytest.mark.parametrize(
    ("trained", "has"),
    [
        (("stem",), False),
        (("stem", "halves", "widens"), False),
        (("halves", "projects"), True),
        (("adds", "widens"), True),
    ],
)
def test_where_no_trained_block_has_a_shortcut_it_is_refused(trained, has):
    network = Network(tuple(Layer(name, module) for name, module in SHORTCUTS.items()))
    said = "none of the trained layers is a block with a shortcut: train lower layers, or take 0"
    with contextlib.nullcontext() if has else pytest.raises(UserError, match=said):
        require_shortcut(network, 0.2, trained, EXAMPLE)
    require_shortcut(network, 0.0, trained, EXAMPLE)


def test_a_head_alone_has_no_depth_to_leave_out(tmp_path):
    base = load_base("resnet18", "random:1").resized(32).cut("stage1_block1")
    given = {"plan": "head_only", "stochastic_depth": 0.2, "cache": None, "workdir": tmp_path}
    with pytest.raises(UserError, match="none of the trained layers is a block with a shortcut"):
        tl_jax.transfer(base, small.task(), **given)


@pytest.mark.slow
def test_a_run_gives_a_base_without_it_and_reads_what_another_probability_stored(tmp_path):
    base = load_base("resnet18", "random:1").resized(32)
    given = {"cut": "stage1_block2", "from_layer": "stage1_block1", "plan": "fine_tune_top"}
    given |= {"tune": {"epochs": 2}, "cache": tmp_path / "cache", "dropout": 0.0}
    task, runs, stored = small.task(), [], []
    for rate in (0.0, 0.6):
        options = {"stochastic_depth": rate, "workdir": tmp_path / str(rate)}
        runs.append(tl_jax.transfer(base, task, **given, **options))
        stored.append({path.name for path in (tmp_path / "cache").glob("*") if path.is_dir()})
    plain, deep = runs
    assert stored[0] == stored[1]
    assert [row["train_loss"] for row in plain.history] != [
        row["train_loss"] for row in deep.history
    ]
    model = file.load(deep.workdir / file.NAME)
    assert model.chain == plain.base.chain
    rows = task.splits["test"]
    predicted = deep.base.predict([task.open(int(row)) for row in rows])
    assert (predicted.argmax(1) == task.labels[rows]).mean() == pytest.approx(deep.test["accuracy"])
    assert deep.test["loss"] == pytest.approx(
        -np.log(predicted[np.arange(len(rows)), task.labels[rows]]).mean(), rel=1e-3
    )
