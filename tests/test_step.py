"""One step of an objective: terms, turns, averages, memories, and which leaves move."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import steps
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.chain.network import Network, chain
from tl_jax.chain.places import Known, Layer, Tie
from tl_jax.chain.variables import flat
from tl_jax.ops import BatchNorm
from tl_jax.train.objective import Loss, Objective, Term, Turn, mean
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.optim import begin as first_optimizer

NETWORK = Network(
    (
        *chain("x", low=nn.Dense(5), mid=nn.Dense(4), head=nn.Dense(3)),
        *chain("mid", other=nn.Dense(2)),
    )
)
B = 8
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, 6)).astype(np.float32)
Y = RNG.normal(size=(B, 3)).astype(np.float32)
VARIABLES = NETWORK.init(0, {"x": X})


def batch(**changes):
    weights = RNG.uniform(0.5, 2, B).astype(np.float32)
    given = {"y": Y, "weights": weights, "mask": np.ones(B, np.float32)}
    return steps.batch_of(X, **given | changes)


def assert_same(got, wanted):
    jax.tree.map(np.testing.assert_array_equal, got, wanted)


def assert_close(got, wanted, tolerance=1e-6):
    close = functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance)
    jax.tree.map(close, got, wanted)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Two(steps.Quiet):
    """Squared errors of the head by `weights`, squares of the other tail by `mask`."""

    scale: float = 0.5

    def loss(self, net, batch, memory, now):
        head, other = net(batch["inputs"], ("head", "other"))
        error, size = ((head - batch["y"]) ** 2).sum(-1), (other**2).sum(-1)
        weights, mask = batch["weights"], batch["mask"]
        terms = {
            "error": Term((error * weights).sum(), weights.sum()),
            "size": Term((size * mask).sum(), mask.sum(), self.scale),
        }
        return Loss(terms, memory, {"largest": Term(jnp.abs(head).max())})


def by_hand(params, given, scale=0.5, first=1.0, second=1.0):
    """Both terms, scaled and added up."""

    def dense(name, x):
        return x @ params[name]["kernel"] + params[name]["bias"]

    mid = dense("mid", dense("low", given["inputs"]["x"]))
    error = ((dense("head", mid) - given["y"]) ** 2).sum(-1)
    size = (dense("other", mid) ** 2).sum(-1)
    error = (error * given["weights"]).sum() / given["weights"].sum()
    size = (size * given["mask"]).sum() / given["mask"].sum()
    return first * error + second * scale * size


def gradient(now, nesterov=1.9, rate=0.1):
    """The gradient of a first step of SGD."""
    return jax.tree.map(lambda p, q: (p - q) / (rate * nesterov), VARIABLES["params"], now.params)


def test_every_term_is_divided_by_its_own_weight():
    given = batch(mask=np.float32([1, 0, 0, 0.5, 0, 0, 0, 0]))
    now = steps.after(steps.recipe(NETWORK, Two()), VARIABLES, [given])
    assert_close(gradient(now), jax.grad(by_hand)(VARIABLES["params"], given), 1e-5)
    sums = jax.device_get(now.sums)
    assert sums.keys() == {"error", "size", "largest"}
    assert sums["error"][1] == pytest.approx(given["weights"].sum())
    assert sums["size"][1] == 1.5 and sums["size"][2] == pytest.approx(0.5 * sums["size"][0])
    assert sums["largest"][2] == 0
    params = VARIABLES["params"]
    total = sums["error"][2] / sums["error"][1] + sums["size"][2] / sums["size"][1]
    assert total == pytest.approx(by_hand(params, given), rel=1e-5)


def test_a_term_without_weight_gives_no_loss_and_no_gradient():
    given = batch(mask=np.zeros(B, np.float32))
    now = steps.after(steps.recipe(NETWORK, Two()), VARIABLES, [given])
    assert_same(now.params["other"], VARIABLES["params"]["other"])  # not even in the last bit
    assert jax.device_get(now.sums["size"]) == (0, 0, 0)
    assert int(now.bad) == -1
    wanted = jax.grad(by_hand)(VARIABLES["params"], batch(weights=given["weights"]), second=0.0)
    assert_close(gradient(now), wanted, 1e-5)


@settings(max_examples=50)
@given(st.floats(-1e6, 1e6, width=32), st.sampled_from([0.0, 0.5, 3.0]))
def test_a_mean_without_weight_is_zero(total, weight):
    value, slope = jax.value_and_grad(lambda s: mean(Term(s, jnp.float32(weight))))(total)
    assert value == pytest.approx(total / weight if weight else 0.0, rel=1e-6)
    assert slope == pytest.approx(1 / weight if weight else 0.0)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_a_batch_in_parts_is_the_batch(parts):
    given = batch(mask=np.float32([0, 1, 0, 0, 0, 0.2, 0, 0]))  # none in most parts
    whole = steps.after(steps.recipe(NETWORK, Two(), clip=0.1), VARIABLES, [given] * 2)
    of = steps.recipe(NETWORK, Two(), clip=0.1, accumulate=parts)
    in_parts = steps.after(of, VARIABLES, [given] * 2)
    assert_close(in_parts.params, whole.params)
    assert_close(in_parts.optimizer, whole.optimizer)
    for name in ("error", "size"):
        assert_close(in_parts.sums[name], whole.sums[name], 1e-5)


NORMED = Network(chain("x", norm=BatchNorm(), noise=steps.Noise()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passed(steps.Quiet):
    """What passes through, kept: the last part's, and how many parts there have been."""

    def begin(self, net, batch):
        return {"last": jnp.zeros(1), "parts": jnp.int32(0)}

    def loss(self, net, batch, memory, now):
        out = net(batch["inputs"], "noise")
        memory = {"last": memory["last"] * 0 + (out == 0).sum(), "parts": memory["parts"] + 1}
        return Loss({"loss": Term((out * batch["y"]).sum(), 4.0)}, memory)


def test_parts_go_on_from_the_memory_and_the_statistics_of_the_part_before():
    x = RNG.normal(3.0, 2.0, (B, 5)).astype(np.float32)
    variables = NORMED.init(0, {"x": x})
    of = steps.recipe(NORMED, Passed(), batch_norm="batch", accumulate=2)
    given = steps.batch_of(x, y=np.ones((B, 5), np.float32))
    memory = {"last": np.zeros(1, np.float32), "parts": np.int32(0)}
    now = steps.after(of, variables, [given], memory=memory)
    assert int(now.memory["parts"]) == 2 and now.memory["last"] > 0
    wanted = 0.0
    for part in (x[::2], x[1::2]):  # strided, so that each part lies on every device
        wanted = 0.9 * wanted + 0.1 * part.mean(0)
    assert_close(now.batch_stats["norm"]["mean"], wanted, 1e-5)
    assert jax.device_get(now.sums["loss"][1]) == 8.0


class Wide(nn.Module):
    """Much inside, little outside."""

    width: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(6)(jnp.tanh(nn.Dense(self.width)(x)))


DEEP = Network(
    chain(
        "x",
        wide=Wide(64),
        norm=BatchNorm(),
        noise=steps.Noise(),
        head=nn.Dense(3),
        other=nn.Dense(2),
    )
)


@pytest.mark.parametrize("running", [0.0, 0.5])
def test_layers_that_the_backward_pass_runs_again_train_alike(running):
    """Dropout and batch norm draw what they drew, and statistics move once."""
    variables, given = DEEP.init(0, {"x": X}), batch()
    how = {"batch_norm": "batch", "running": running}
    wanted, again = (
        steps.after(steps.recipe(DEEP, Two(), **how, remat=remat), variables, [given] * 2)
        for remat in ("", "wide|norm|noise")
    )
    assert_close(again.params, wanted.params)
    assert_close(again.batch_stats, wanted.batch_stats)
    assert float(abs(wanted.batch_stats["norm"]["mean"]).max()) > 0


def test_what_a_layer_computes_is_not_kept_if_it_is_run_again():
    """The memory of a compiled step, of which the inside of twelve wide layers is the most."""
    wide = {f"wide{n}": Wide(512) for n in range(12)}
    network = Network(chain("x", **wide, head=nn.Dense(3), other=nn.Dense(2)))
    x = np.zeros((256, 6), np.float32)
    given = steps.batch_of(x, y=x[:, :3], weights=x[:, 0] + 1, mask=x[:, 0] + 1)
    variables = network.init(0, {"x": x})
    taken = {}
    for remat in ("", "wide"):
        of = steps.recipe(network, Two(), remat=remat)
        now, fixed = steps.begin(of, variables, given), steps.fixed(of, variables)
        compiled = steps.program(of).lower(now, fixed, given).compile()
        taken[remat] = compiled.memory_analysis().temp_size_in_bytes
    inside = 256 * 512 * 4
    assert taken[""] > 12 * inside
    assert taken["wide"] < 5 * inside


# Turns.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turned(Two):
    """Heads first, and then what is below them; a turn more that moves nothing of ours."""

    turns = (
        Turn("heads", only=("head", "other")),
        Turn("trunk", never=("head", "other")),
        Turn("trunk2", never=("head", "other")),
    )

    def loss(self, net, batch, memory, now):
        made = super().loss(net, batch, memory, now)
        return Loss({"loss": made.terms["error" if now.turn == "heads" else "size"]}, made.memory)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstTurn(Turned):
    turns = Turned.turns[:1]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_turn_moves_its_own_layers_alone(optimizer):
    options = {"rates": 0.1, "decay": 0.3}
    first = steps.recipe(NETWORK, FirstTurn(), optimizer=optimizer)
    given = [batch(), batch()]
    now = steps.after(first, VARIABLES, given, **options)
    begun = first_optimizer(optimizer, first.factors(VARIABLES["params"]), VARIABLES["params"])
    for name in ("low", "mid"):
        assert_same(now.params[name], VARIABLES["params"][name])  # no decay either
        assert_same(now.optimizer[name], begun[name])
    for name in ("head", "other"):
        assert np.all(now.params[name]["kernel"] != VARIABLES["params"][name]["kernel"])


def test_each_turn_goes_on_from_the_one_before():
    given, rate = batch(), 0.1
    now = steps.after(steps.recipe(NETWORK, Turned()), VARIABLES, [given], rates=rate)
    params, momentum = VARIABLES["params"], {}
    for turn, of in zip(
        Turned.turns, ({"second": 0.0}, {"first": 0.0}, {"first": 0.0}), strict=True
    ):
        slope = jax.grad(by_hand)(params, given, **of)
        for name in NETWORK.names:
            if not turn.trains(name):
                continue
            kept = momentum.get(name, jax.tree.map(np.zeros_like, slope[name]))
            momentum[name] = jax.tree.map(lambda g, m: g + 0.9 * m, slope[name], kept)
            step = jax.tree.map(lambda g, m: g + 0.9 * m, slope[name], momentum[name])
            moved = jax.tree.map(lambda p, s: p - rate * s, params[name], step)
            params = {**params, name: moved}
    assert_close(now.params, params, 1e-5)
    assert now.sums.keys() == {"heads_loss", "trunk_loss", "trunk2_loss"}
    assert int(now.step) == 1


def test_a_turn_of_layers_that_are_frozen_moves_nothing():
    of = steps.recipe(NETWORK, Turned(), ["low"])
    now = steps.after(of, VARIABLES, [batch()])
    assert now.params.keys() == now.optimizer.keys() == {"low"}
    assert np.any(now.params["low"]["kernel"] != VARIABLES["params"]["low"]["kernel"])


@given(only=st.sets(st.sampled_from("abc")), never=st.sets(st.sampled_from("abc")))
def test_a_turn_trains_only_some_or_all_but_some(only, never):
    turn = Turn("t", tuple(only), tuple(never))
    trains = {name for name in "abc" if turn.trains(name)}
    assert trains == (only or set("abc")) - never


# What becomes of several gradients.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summed(Two):
    """As by default, but term by term; remembers the terms."""

    def begin(self, net, batch):
        return {"error": jnp.float32(0), "size": jnp.float32(0)}

    def resolve(self, gradients, values, memory, now):
        assert gradients.keys() == values.keys() == memory.keys()
        return jax.tree.map(lambda *g: sum(g), *gradients.values()), values


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlySize(Summed):
    def resolve(self, gradients, values, memory, now):
        return gradients["size"], memory


def test_a_sum_of_gradients_by_term_is_the_gradient():
    given, memory = batch(mask=np.float32([1, 0, 0, 2, 0, 0, 0, 0])), {"error": 0.0, "size": 0.0}
    memory = jax.tree.map(np.float32, memory)
    whole = steps.after(steps.recipe(NETWORK, Two()), VARIABLES, [given] * 2)
    summed = steps.after(steps.recipe(NETWORK, Summed()), VARIABLES, [given] * 2, memory=memory)
    assert_close(summed.params, whole.params)
    one = steps.after(steps.recipe(NETWORK, OnlySize()), VARIABLES, [given], memory=memory)
    wanted = jax.grad(by_hand)(VARIABLES["params"], given, first=0.0)
    assert_close(gradient(one), wanted, 1e-5)
    first = steps.after(steps.recipe(NETWORK, Summed()), VARIABLES, [given], memory=memory)
    assert first.memory["size"] == pytest.approx(
        by_hand(VARIABLES["params"], given, first=0.0), rel=1e-5
    )


# Averages.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Averaged(Two):
    evaluates = "average"

    def average(self, now):
        return jnp.where(now.progress == 0, 0.5, 0.25 * now.progress)


def test_an_average_follows_the_weights_after_each_update():
    of, given = steps.recipe(NETWORK, Averaged(), ["head", "mid"]), [batch() for _ in range(4)]
    options = {"rates": 0.05, "steps": 4}
    states = [steps.after(of, VARIABLES, given[: n + 1], **options) for n in range(4)]
    average = {name: VARIABLES["params"][name] for name in ("head", "mid")}
    for n, rate in enumerate((0.5, 0.25 * 1 / 4, 0.25 * 2 / 4, 0.25 * 3 / 4)):
        average = jax.tree.map(lambda a, p, r=rate: a + r * (p - a), average, states[n].params)
        assert_close(states[n].average["params"], average)
    assert_same(steps.handed_on(of, VARIABLES, states[-1])["params"]["head"],
                jax.device_get(states[-1].average["params"]["head"]))  # fmt: skip
    plain = steps.after(steps.recipe(NETWORK, Two(), ["head", "mid"]), VARIABLES, given, **options)
    assert_same(states[-1].params, plain.params)  # which it does not change
    assert plain.average == ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Views(steps.Quiet):
    """Logs the first output by weights of each kind."""

    def average(self, now):
        return 0.5

    def loss(self, net, batch, memory, now):
        known = batch["inputs"]
        seen = {
            "trained": net(known, "head"),
            "average": net.at("average")(known, "head", train=False),
            "anchor": net.at("anchor")(known, "head", train=False),
        }
        logs = {name: Term(out[0, 0]) for name, out in seen.items()}
        return Loss({"loss": Term((seen["trained"] ** 2).sum(), 100.0)}, memory, logs)


def test_the_average_and_the_anchor_are_other_weights_of_the_network():
    of, given = steps.recipe(NETWORK, Views(), ["low", "mid"]), batch()
    before = steps.after(of, VARIABLES, [given], rates=0.01)
    two = steps.after(of, VARIABLES, [given] * 2, rates=0.01)

    def first(params):
        combined = {"params": {**VARIABLES["params"], **params}}
        return float(NETWORK.apply(combined, X, stop="head").output[0, 0])

    logged = {
        n: float(two.sums[n][0] - before.sums[n][0]) for n in ("trained", "average", "anchor")
    }
    assert logged["trained"] == pytest.approx(first(before.params), rel=1e-4)
    assert logged["average"] == pytest.approx(first(before.average["params"]), rel=1e-4)
    assert logged["anchor"] == pytest.approx(first({}), rel=1e-4)
    assert len({round(value, 5) for value in logged.values()}) == 3


# Which leaves learn.


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_pattern_says_which_leaves_learn(optimizer):
    of = steps.recipe(NETWORK, Two(), optimizer=optimizer, leaves="(bias|other/kernel)$")
    now = steps.after(of, VARIABLES, [batch()] * 3, decay=0.5)
    found = steps.handed_on(of, VARIABLES, now)
    before, after = flat(VARIABLES["params"]), flat(found["params"])
    moved = {path for path in before if np.any(before[path] != after[path])}
    assert moved == {"low/bias", "mid/bias", "head/bias", "other/bias", "other/kernel"}
    assert flat(now.params).keys() == moved
    state = {n: sum(map(np.size, jax.tree.leaves(s))) for n, s in now.optimizer.items()}
    assert state["mid"] == {"sgd": 4, "adamw": 2 * 4 + 1}[optimizer]


LOW_RANK = Network(
    (
        *chain("x", low=nn.Dense(4), head=nn.Dense(3), other=nn.Dense(2)),
        Layer("down", steps.Bare((("kernel", (6, 1)),)), ()),
        Layer("up", steps.Bare((("kernel", (1, 4)),)), ()),
    ),
    (
        Tie(
            "low/kernel",
            ("down", "up"),
            lambda p: p["low/kernel"] + p["down/kernel"] @ p["up/kernel"],
            whole=False,
        ),
    ),
)


def test_low_rank_adapters_learn_and_what_they_adapt_stays():
    variables = LOW_RANK.init(0, {"x": X})
    variables["params"]["down"] = {"kernel": np.ones((6, 1), np.float32)}
    of = steps.recipe(LOW_RANK, Two(scale=0.0), ["down", "up"])
    now = steps.after(of, variables, [batch()] * 2)
    assert now.params.keys() == {"down", "up"}
    for name in ("down", "up"):  # the second step moves what a product with 0 hid in the first
        assert np.any(now.params[name]["kernel"] != variables["params"][name]["kernel"])
    found = steps.handed_on(of, variables, now)
    assert_same(found["params"]["low"], variables["params"]["low"])


def test_a_phase_that_freezes_adapters_still_runs_with_them():
    variables = LOW_RANK.init(0, {"x": X})
    variables["params"]["down"] = {"kernel": np.ones((6, 1), np.float32)}
    variables["params"]["up"] = {"kernel": np.ones((1, 4), np.float32)}
    of, given = steps.recipe(LOW_RANK, Two(scale=0.0), ["head"]), batch()
    now = steps.after(of, variables, [given])
    low = variables["params"]["low"]
    put_in = {**low, "kernel": low["kernel"] + 1}, {"kernel": np.zeros((6, 1), np.float32)}
    params = {**variables["params"]} | dict(zip(("low", "down"), put_in, strict=True))
    wanted = steps.after(of, {**variables, "params": params}, [given])
    assert_close(now.params, wanted.params, 1e-5)
    assert np.any(now.params["head"]["kernel"] != variables["params"]["head"]["kernel"])


# Draws.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn(Two):
    """Logs what its key draws in each turn."""

    turns = (Turn("a"), Turn("b"))

    def loss(self, net, batch, memory, now):
        made = super().loss(net, batch, memory, now)
        logs = {"draw": Term(jax.random.uniform(now.key)), "progress": Term(now.progress)}
        return Loss(made.terms, memory, logs)


def test_each_step_and_turn_draws_its_own_and_knows_how_far_the_phase_is():
    of, given = steps.recipe(NETWORK, Drawn()), batch()
    draws, sums = [], {}
    for n in range(1, 4):
        now = steps.after(of, VARIABLES, [given] * n, rates=0.01, steps=4)
        for turn in ("a", "b"):
            total = float(now.sums[f"{turn}_draw"][0])
            draws.append(total - sums.get(turn, 0.0))
            sums[turn] = total
    assert len({round(draw, 4) for draw in draws}) == 6
    assert float(now.sums["a_progress"][0]) == pytest.approx(0 + 1 / 4 + 2 / 4)
    other = steps.after(of, VARIABLES, [given], rates=0.01, seed=1)
    assert float(other.sums["a_draw"][0]) != pytest.approx(draws[0])


def test_augmentation_is_of_the_step_and_before_all_turns():
    seen = []

    def augment(key, batch):
        noise = jax.random.normal(key, batch["inputs"]["x"].shape)
        seen.append(noise.shape)
        return {**batch, "inputs": Known(x=0 * batch["inputs"]["x"]), "noise": noise}

    of = steps.recipe(NETWORK, Turned(), augment=augment)
    now = steps.after(of, VARIABLES, [batch()])
    assert (B, 6) in seen
    assert_same(now.params["low"]["kernel"], VARIABLES["params"]["low"]["kernel"])  # of zeros
    assert np.any(now.params["head"]["bias"] != VARIABLES["params"]["head"]["bias"])


def test_the_first_step_that_is_not_finite_is_kept():
    of, bad = steps.recipe(NETWORK, Two()), batch(y=np.full_like(Y, np.nan))
    now = steps.after(of, VARIABLES, [batch(), bad, bad])
    assert int(now.bad) == 1


# The default objective.


def test_cross_entropy_takes_terms_beside_it_and_smooths():
    targets = np.eye(3, dtype=np.float32)[np.arange(B) % 3]

    def far(net, batch):
        """Squared distance to the first weights (Li et al. 2018, L2-SP)."""
        pairs = zip(
            *map(jax.tree.leaves, (net.params["mid"], net.at("anchor").params["mid"])), strict=True
        )
        return {"far": Term(sum(((a - b) ** 2).sum() for a, b in pairs), 1.0, 0.1)}

    objective = CrossEntropy(also=(far,), smoothing=0.3)
    truth = {"targets": targets, "weights": np.ones(B, np.float32)}
    single = {"labels": np.zeros(B, np.int32), "graded_labels": np.zeros(B, np.int32)}
    given = batch(**truth, **single, graded_weights=truth["weights"])
    now = steps.after(steps.recipe(NETWORK, objective), VARIABLES, [given])
    assert now.sums.keys() == {"loss", "far"}
    logits = NETWORK.apply(VARIABLES, X, stop="head").output
    smooth = 0.7 * targets + 0.1
    wanted = -(smooth * jax.nn.log_softmax(logits)).sum(-1).mean()
    assert float(now.sums["loss"][0] / now.sums["loss"][1]) == pytest.approx(
        float(wanted), rel=1e-5
    )
    assert float(now.sums["far"][0]) == 0.0
    more = steps.after(steps.recipe(NETWORK, objective), VARIABLES, [given] * 2)
    assert float(more.sums["far"][0]) > 0


def test_an_objective_is_compared_by_value():
    assert CrossEntropy() == CrossEntropy() and hash(Two()) == hash(Two())
    assert Two(scale=0.1) != Two() and Two() != Summed()
    first, second = (steps.program(steps.recipe(NETWORK, Two())) for _ in range(2))
    assert first is second
    assert Objective.average is None and Averaged.average is not None
