"""Networks that are no plain chain: places, passes, views and ties."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import steps
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.chain import variables as leaves_of
from tl_jax.chain.network import Net, Network, ShapeNet, chain
from tl_jax.chain.places import Known, Layer, Tie, Unreachable
from tl_jax.errors import UserError
from tl_jax.ops import BatchNorm


class Scaled(nn.Module):
    """The product of what it reads."""

    def __call__(self, *values):
        return jnp.prod(jnp.stack(jnp.broadcast_arrays(*values)), 0)


class Temperature(nn.Module):
    """A bare parameter."""

    @nn.compact
    def __call__(self):
        return self.param("temperature", nn.initializers.constant(0.5), (1,))


# A trunk with batch norm and dropout; a tail in its middle, another on that; a second trunk; a
# layer that reads both trunks, a second input and a bare parameter.
NETWORK = Network(
    (
        *chain("x", low=nn.Dense(4), norm=BatchNorm(), noise=steps.Noise(), high=nn.Dense(3)),
        *chain("norm", domain=nn.Dense(2), domain2=nn.Dense(2)),
        *chain("y", other=nn.Dense(3), other2=nn.Dense(3)),
        Layer("temperature", Temperature(), ()),
        Layer("joint", Scaled(), ("high", "other2", "z", "temperature")),
    )
)
RNG = np.random.default_rng(0)
X, Y, Z = (RNG.normal(size=(5, n)).astype(np.float32) for n in (6, 2, 1))
SHAPES = {"x": X, "y": Y, "z": Z}
VARIABLES = NETWORK.init(0, SHAPES)


def net(**options):
    return Net(NETWORK, VARIABLES["params"], VARIABLES["batch_stats"], **options)


def dense(name, x):
    own = VARIABLES["params"][name]
    return x @ own["kernel"] + own["bias"]


def assert_close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


NORMED = dense("low", X) / np.sqrt(1 + 1e-5)


def test_any_layer_reads_any_place():
    found = net()(Known(SHAPES), ("domain2", "joint", "temperature"), train=False)
    domain = dense("domain2", dense("domain", NORMED))
    joint = dense("high", NORMED) * dense("other2", dense("other", Y)) * Z * 0.5
    for got, wanted in zip(found, (domain, joint, np.float32([0.5])), strict=True):
        assert_close(got, wanted)


def test_what_is_known_may_lie_anywhere():
    inner = RNG.normal(size=(5, 4)).astype(np.float32)
    assert_close(net()(Known(norm=inner), "high", train=False), dense("high", inner))
    # Above a known value nothing below it is asked for, nor run.
    known = Known(high=np.float32(1), other2=np.float32(2), z=Z, x=np.full_like(X, np.nan))
    assert_close(net()(known, "joint"), Z)
    assert net()(known, "z") is known["z"]
    assert_close(net()(Known(), "temperature"), [0.5])  # reads nothing, so nothing need be known


def test_the_places_of_a_network():
    assert NETWORK.inputs == ("x", "y", "z")
    assert small.chain().inputs == ("image",)
    assert NETWORK.layers[1].reads == ("low",) and small.chain().layers[0].reads == ("image",)
    assert NETWORK.below["domain"] == {"domain", "norm", "low", "x"}
    assert NETWORK.below["temperature"] == {"temperature"}
    assert NETWORK.below["other2"] == {"other2", "other", "y"}
    assert NETWORK.below["joint"] == {*NETWORK.names, *NETWORK.inputs} - {"domain", "domain2"}
    cut = NETWORK.cut("domain")
    assert cut.names == ("low", "norm", "domain") and cut.inputs == ("x",)


@given(
    known=st.sets(st.sampled_from([*NETWORK.names, *NETWORK.inputs])),
    wanted=st.lists(st.sampled_from(NETWORK.names), min_size=1, max_size=3),
)
def test_a_path_runs_what_is_missing_and_nothing_else(known, wanted):
    reads = {layer.name: layer.reads for layer in NETWORK.layers}

    def missing(place):  # the definition
        if place in known:
            return set()
        if place not in reads:
            raise KeyError(place)
        return {place}.union(*map(missing, reads[place]))

    try:
        needed = set().union(*map(missing, wanted))
    except KeyError:
        with pytest.raises(Unreachable) as error:
            NETWORK.path(known, wanted)
        assert error.value.place in {"x", "y", "z"} - known
        return
    found = [layer.name for layer in NETWORK.path(known, wanted)]
    assert found == [name for name in NETWORK.names if name in needed]


@pytest.mark.parametrize(
    ("known", "wanted", "message"),
    [
        ({"y": Y}, "high", "'x' cannot be computed: known are y"),
        ({"high": Y, "z": Z}, "joint", "'y' cannot be computed: known are high, z"),
        ({}, "low", "'x' cannot be computed: known are none"),
        ({"x": X}, "hihg", "'hihg' cannot be computed: known are x"),
    ],
)
def test_what_cannot_be_computed_is_said(known, wanted, message):
    with pytest.raises(Unreachable) as error:
        net()(Known(known), wanted)
    assert str(error.value) == message
    with pytest.raises(Unreachable, match="'image' cannot be computed"):
        Known(known)["image"]


def test_a_layer_that_reads_a_later_one_is_refused():
    with pytest.raises(UserError, match="layer 'a' reads 'b', which comes after it"):
        Network((Layer("a", nn.Dense(1), ("x", "b")), Layer("b", nn.Dense(1))))
    with pytest.raises(UserError, match="layer 'a' reads 'a', which comes after it"):
        Network((Layer("a", nn.Dense(1), ("a",)),))


def test_known_is_a_tree_of_its_values():
    known = Known(b=X, a={"c": Y})
    doubled = jax.tree.map(lambda a: 2 * a, known)
    assert isinstance(doubled, Known) and doubled.keys() == known.keys()
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(known)]
    assert paths == ["['a']['c']", "['b']"]
    assert jax.tree.structure(known) == jax.tree.structure(Known(a={"c": Y}, b=X))


# Passes.


def training(**options):
    given = {"train": NETWORK.names, "norm": ("norm",), "key": jax.random.key(0)}
    return net(**given | options)


def test_the_same_known_is_the_same_pass():
    mine, known = training(), Known(SHAPES)
    dropped = mine(known, "noise")
    moved = mine.stats["norm"]
    assert (np.asarray(dropped) == 0).any()
    high, again, normed = mine(known, ("high", "noise", "norm"))
    mine(known, "domain")
    assert again is dropped  # no layer runs twice
    assert_close(high, dense("high", dropped))
    assert mine.stats["norm"] is moved
    low = dense("low", X)
    assert_close(moved["mean"], 0.1 * low.mean(0))
    assert_close(normed, (low - low.mean(0)) / np.sqrt(low.var(0) + 1e-5))


def test_another_known_is_another_pass():
    mine = training()
    first = mine(Known(SHAPES), "noise")
    mean = 0.1 * dense("low", X).mean(0)
    second = mine(Known(SHAPES), "noise")
    assert ((np.asarray(first) == 0) != (np.asarray(second) == 0)).any()
    # Its statistics go on from those that the first has left.
    assert_close(mine.stats["norm"]["mean"], 0.9 * mean + mean)
    again = training()
    assert (np.asarray(again(Known(SHAPES), "noise")) == first).all()
    assert (np.asarray(again(Known(SHAPES), "noise")) == second).all()


def test_masks_are_a_layers_own_wherever_one_starts():
    mine, other = training(norm=()), training(norm=())
    ones = np.ones((5, 4), np.float32)
    through = mine(Known(SHAPES), ("norm", "noise"))
    from_there = other(Known(norm=through[0]), "noise")
    np.testing.assert_array_equal(through[1], from_there)
    assert (np.asarray(training(train=("low",))(Known(norm=ones), "noise")) == 1).all()


def test_inference_collects_nothing_and_is_a_pass_of_its_own():
    mine, known = training(), Known(SHAPES)
    before = mine.stats["norm"]
    assert_close(mine(known, "noise", train=False), NORMED)
    assert mine.stats["norm"] is before
    trained = mine(known, "noise")
    assert mine.stats["norm"] is not before and (np.asarray(trained) == 0).any()
    assert_close(mine(known, "norm", train=False), NORMED)


def test_a_view_has_other_weights_and_collects_nothing():
    other = jax.tree.map(lambda a: a + 1, VARIABLES)
    views = {"average": (other["params"], other["batch_stats"])}
    mine = training(views=views)
    teacher, before = mine.at("average"), mine.stats["norm"]
    wanted = NETWORK.apply(other, X, stop="high").output
    got = teacher(Known(SHAPES), "high", train=False)
    assert_close(got, wanted)
    low = NETWORK.apply(other, X, stop="low").output
    wanted = 2 * (low - low.mean(0)) / np.sqrt(low.var(0) + 1e-5) + 1
    assert_close(teacher(Known(SHAPES), "norm"), wanted)  # by the batch, as the network itself
    assert mine.stats["norm"] is before
    assert teacher.params is other["params"]
    with pytest.raises(Unreachable, match="'anchor' cannot be computed: known are average"):
        mine.at("anchor")


def test_known_values_are_prepared_once():
    seen = []

    def prepare(place, value):
        seen.append(place)
        return 2 * value

    mine, known = net(prepare=prepare), Known(SHAPES)
    assert_close(mine(known, "low"), dense("low", 2 * X))
    mine(known, ("other", "x"))
    assert seen == ["x", "y"]


# Shapes.


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("network", "inputs"),
    [(NETWORK, SHAPES), (small.chain(), {"image": np.zeros((2, 8, 8, 3), np.float32)})],
)
def test_a_shape_net_has_the_shapes_and_types_of_a_net(network, inputs, dtype):
    variables = network.init(0, inputs)
    inputs = jax.tree.map(lambda a: jnp.asarray(a, dtype), inputs)
    params = jax.tree.map(lambda a: jnp.asarray(a, dtype), variables["params"])
    given, ran = (network, params, variables["batch_stats"]), {}

    def values(made):
        return made(Known(inputs), network.names)

    found = jax.eval_shape(lambda: values(ShapeNet(*given, ran=ran)))
    wanted = jax.eval_shape(lambda: values(Net(*given)))
    assert found == wanted
    assert tuple(ran) == network.names
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(wanted))


def test_a_shape_net_runs_what_is_asked_for():
    ran = {}
    mine = ShapeNet(NETWORK, *VARIABLES.values(), ran=ran, views={"anchor": ({}, {})})
    mine(Known(x=X), "domain")
    assert tuple(ran) == ("low", "norm", "domain")
    mine.at("anchor")(Known(y=Y), "other")
    assert tuple(ran) == ("low", "norm", "domain", "other")


def test_fresh_variables_are_those_of_every_layer():
    wanted = {"low", "norm", "high", "domain", "domain2", "other", "other2", "temperature"}
    assert VARIABLES["params"].keys() == wanted
    assert VARIABLES["params"]["temperature"]["temperature"] == 0.5
    only = NETWORK.init(0, SHAPES, ["other2", "norm"])
    assert only["params"].keys() == {"other2", "norm"} and only["batch_stats"].keys() == {"norm"}
    np.testing.assert_array_equal(
        only["params"]["other2"]["kernel"], VARIABLES["params"]["other2"]["kernel"]
    )


# Ties: parameters that are functions of others.


def tied_decoder(params):
    return params["code/kernel"].T


TIED = Network(
    chain("x", code=nn.Dense(3), decoded=nn.Dense(6)),
    (Tie("decoded/kernel", ("code",), tied_decoder),),
)


def low_rank(params):
    return params["low/kernel"] + params["down/kernel"] @ params["up/kernel"]


LOW_RANK = Network(
    (
        *chain("x", low=nn.Dense(4), high=nn.Dense(3)),
        Layer("down", steps.Bare((("kernel", (6, 1)),)), ()),
        Layer("up", steps.Bare((("kernel", (1, 4)),)), ()),
    ),
    (Tie("low/kernel", ("down", "up"), low_rank, whole=False),),
)


def test_of_a_tied_parameter_nothing_is_kept():
    variables = TIED.init(0, {"x": X})
    assert variables["params"]["decoded"].keys() == {"bias"}
    code, bias = variables["params"]["code"], variables["params"]["decoded"]["bias"]
    wanted = (X @ code["kernel"] + code["bias"]) @ code["kernel"].T + bias
    assert_close(TIED.apply(variables, X).output, wanted)
    assert TIED.below["decoded"] == {"decoded", "code", "x"}


def test_a_low_rank_difference_is_added_to_a_parameter_that_is_kept():
    variables = LOW_RANK.init(0, {"x": X})
    params = variables["params"]
    assert params["low"].keys() == {"kernel", "bias"}
    params["down"], params["up"] = ({"kernel": RNG.normal(size=s)} for s in ((6, 1), (1, 4)))
    kernel = params["low"]["kernel"] + params["down"]["kernel"] @ params["up"]["kernel"]
    wanted = X @ kernel + params["low"]["bias"]
    assert_close(LOW_RANK.apply(variables, X, stop="low").output, wanted)
    assert LOW_RANK.below["low"] == {"low", "x", "down", "up"}
    assert {"down", "up"} < LOW_RANK.below["high"]


def test_gradients_reach_the_layers_that_are_needed():
    params = LOW_RANK.init(0, {"x": X})["params"]
    params["up"] = {"kernel": RNG.normal(size=(1, 4)).astype(np.float32)}

    def loss(trained):
        bound = Net(LOW_RANK, LOW_RANK.combine(params, trained), {})
        return (bound(Known(x=X), "high") ** 2).sum()

    def by_hand(down, up):
        hidden = X @ (params["low"]["kernel"] + down @ up) + params["low"]["bias"]
        return ((hidden @ params["high"]["kernel"] + params["high"]["bias"]) ** 2).sum()

    trained = {name: params[name] for name in ("down", "up")}
    found = jax.grad(loss)(trained)
    wanted = jax.grad(by_hand, (0, 1))(*(params[n]["kernel"] for n in ("down", "up")))
    for name, leaf in zip(("down", "up"), wanted, strict=True):
        np.testing.assert_allclose(found[name]["kernel"], leaf, rtol=1e-4)
    assert np.any(found["down"]["kernel"])


def test_the_gradient_of_a_tied_decoder_is_of_both_its_uses():
    variables = TIED.init(0, {"x": X})

    def loss(kernel):
        trained = {"code": {"kernel": kernel}}
        bound = Net(TIED, TIED.combine(variables["params"], trained), {})
        return (bound(Known(x=X), "decoded") ** 2).sum()

    def by_hand(kernel):
        code, decoded = variables["params"]["code"], variables["params"]["decoded"]
        return (((X @ kernel + code["bias"]) @ kernel.T + decoded["bias"]) ** 2).sum()

    kernel = variables["params"]["code"]["kernel"]
    np.testing.assert_allclose(jax.grad(loss)(kernel), jax.grad(by_hand)(kernel), rtol=1e-4)


def test_of_some_layers_only_their_own_ties_are_made():
    """Of the others, the parameters need not be there."""
    variables = LOW_RANK.init(0, {"x": X})
    hidden = np.ones((1, 4), np.float32)
    own = leaves_of.select(variables, ["high"])
    wanted = hidden @ own["params"]["high"]["kernel"] + own["params"]["high"]["bias"]
    assert_close(LOW_RANK.apply(own, hidden, start="low", stop="high").output, wanted)
    code = leaves_of.select(TIED.init(0, {"x": X}), ["code"])
    assert TIED.apply(code, X, stop="code").output.shape == (5, 3)
    missing = leaves_of.select(variables, ["low"])  # never as if there were no tie
    with pytest.raises(KeyError, match="down"):
        LOW_RANK.apply(missing, X, stop="low")


@settings(max_examples=30)
@given(
    st.recursive(
        st.integers(0, 5),
        lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        max_leaves=6,
    ).filter(lambda tree: isinstance(tree, dict)),
    st.data(),
)
def test_trained_leaves_lie_over_the_others(tree, data):
    flat = leaves_of.flat(tree)
    taken = data.draw(st.sets(st.sampled_from(sorted(flat)) if flat else st.nothing()))
    over = leaves_of.nested({path: f"trained {path}" for path in taken})
    combined = leaves_of.flat(NETWORK.combine(tree, over))
    assert combined == {p: f"trained {p}" if p in taken else a for p, a in flat.items()}
