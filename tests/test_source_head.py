"""The base's old classifier beside the new head, and the methods that ask for it."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import small
import steps

import tl_jax
from tl_jax.chain import source_head
from tl_jax.chain.network import Net, Network, chain
from tl_jax.errors import UserError
from tl_jax.plans.plan import Phase, Plan
from tl_jax.runs import settings, transfer
from tl_jax.runs.pose import check, posed
from tl_jax.train import fold, objectives
from tl_jax.train.inputs import asked
from tl_jax.train.objective import mean
from tl_jax.train.objectives.co_tuning import CoTuning
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.objectives.lwf import LearningWithoutForgetting
from tl_jax.train.saving import Saver

OBJECTIVES = ("co_tuning", "cross_entropy+lwf")
OPTIONS = {"from_layer": "stage1_block1", "batch_size": 25}
# Of a gradient that is 0 but for rounding, as that of lwf at first, Adam makes steps.
TUNE = {"epochs": 2, "learning_rate": 1e-3, "optimizer": "sgd"}
GIVEN = {**OPTIONS, "plan": "fine_tune_top", "tune": TUNE}


@pytest.fixture(autouse=True)
def _without_pages(monkeypatch):
    monkeypatch.setattr(transfer.page, "can_be_drawn", lambda: False)


@functools.cache
def base():
    """A stem and a block, with a classifier of 4 classes and three layers."""
    cut = tl_jax.load_base("efficientnet_lite0", "random:0").resized(16).cut("stage1_block1")
    return cut.with_head(4, head="vgg_head(hidden=6)", seed=1)


@functools.cache
def task():
    """Six digits a class."""
    return tl_jax.load_task("digits", per_class=6)


def pose(objective, **given):
    own, options = settings.divided({**OPTIONS, "objective": objective, **given})
    return posed(base(), task(), own, options)


def opened(split):
    return [task().open(int(row)) for row in task().splits[split]]


# The tail.


@pytest.mark.parametrize("cut", ["", "stem"])
def test_the_old_classifier_says_what_the_base_says(cut):
    """With the head's layers, and with blocks and their batch norms below these."""
    problem, _, variables = pose("co_tuning", cut=cut, plan="full")
    assert problem.chain.names[-1] == source_head.SOURCE_HEAD
    images = base().preprocessing(opened("val"))
    net = Net(problem.chain, variables["params"], variables["batch_stats"])
    logits = net({"image": images}, source_head.SOURCE_HEAD, train=False)
    np.testing.assert_allclose(logits, base()(images), rtol=1e-5, atol=1e-6)


def test_a_phase_that_trains_the_head_alone_reads_what_is_below_it():
    """And nobody is told why it does not read the frozen old classifier's output."""
    problem, _, variables = pose("co_tuning", plan="head_only")
    places = asked(problem, problem.plan.phases[0], variables).places
    assert (places.found[0], places.why) == ("stage1_block1", "")


@pytest.mark.parametrize("objective", ["cross_entropy", "delta+l2_sp"])
def test_an_objective_that_does_not_ask_for_it_gets_a_chain_without(objective):
    problem, ready, _ = pose(objective)
    assert problem.chain.names == ready.layers


TAIL = dict.fromkeys(("source_head_fc", "source_head"), ("conv",))


def rates_of(plan, layer="source_head"):
    return [phase.multipliers[layer] for phase in plan.phases]


@pytest.mark.parametrize(
    ("plan", "wanted"),
    [
        ("head_only", [0.0]),  # nothing that it learns would reach the head
        ("full", [1.0]),
        ("discriminative", [0.0, 1.0]),
        ("norms_only", [0.0, 1.0]),
    ],
)
def test_it_learns_as_the_head_does_where_more_than_the_head_learns(plan, wanted):
    problem, _, variables = pose("co_tuning", plan=plan)
    assert rates_of(problem.plan) == rates_of(problem.plan, "source_head_fc1") == wanted
    trained = asked(problem, problem.plan.phases[-1], variables).recipe.of_trained(variables)
    assert trained["params"].keys() >= {"head", "source_head"} or plan == "head_only"
    plain = pose("cross_entropy", plan=plan).problem.plan
    assert all(tuple(one.multipliers) == problem.chain.names for one in problem.plan.phases)
    for one, other in zip(problem.plan.phases, plain.phases, strict=True):
        assert other.multipliers.items() <= one.multipliers.items()


def test_a_plan_may_say_what_it_learns():
    phase = Phase("own", {"conv": 0.5, "head": 1.0, "source_head": 0.0}, small.settings())
    plan = Plan("own", (phase,)).with_tail(TAIL, ("head",))
    assert (rates_of(plan), rates_of(plan, "source_head_fc")) == ([0.0], [1.0])


def test_a_part_of_the_head_is_the_same_part_of_it():
    """Where only biases of the head learn, they do so in the tail."""
    phase = Phase("own", {"conv": 0.5, "head": 1.0}, small.settings(leaves="bias$"))
    (found,) = Plan("own", (phase,)).with_tail(TAIL, ("head",)).phases
    assert found.settings.leaves == "bias$"


# The methods, against numbers worked out elsewhere.

LOGITS = chain("x", feature=steps.Noise(), source_head=steps.Noise())
TINY = Network((*LOGITS, *chain("feature", head=steps.Noise())))


def tiny_net(params=None, stats=None):
    return Net(TINY, params or {}, stats or {}, views={"anchor": ({}, {})})


def log_batch(probabilities, labels, weights, classes=2):
    """A batch of logits that are the logarithms of these probabilities."""
    x = jnp.log(jnp.asarray(probabilities, jnp.float32))
    targets = np.eye(classes, dtype=np.float32)[np.asarray(labels)]
    return steps.batch_of(x, targets=targets, weights=np.asarray(weights, np.float32))


def test_a_relationship_is_the_mean_of_probabilities_by_class():
    batches = [
        log_batch([[0.8, 0.1, 0.1], [0.5, 0.5, 1e-9]], [0, 1], [1, 1], 3),
        log_batch([[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]], [0, 1], [1, 3], 3),
    ]

    def folded(each, total):
        for batch in batches:
            total = each(tiny_net(), batch, total)
        return total

    found = CoTuning().refresh(folded, jnp.zeros((3, 3)), 0)
    wanted = [[0.7, 0.2, 0.1], [0.2, 0.2, 0.6], [0, 0, 0]]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert CoTuning().refresh(None, found, 1) is found


def test_co_tuning_is_the_cross_entropy_to_the_relationship():
    batch = log_batch([[0.8, 0.1, 0.1], [0.5, 0.25, 0.25]], [0, 1], [1, 3], 3)
    memory = jnp.asarray([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    terms = CoTuning(weight=2.0).loss(tiny_net(), batch, memory, None).terms
    first = -(0.7 * np.log(0.8) + 0.3 * np.log(0.1))
    second = -(0.5 * np.log(0.5) + 0.5 * np.log(0.25))
    assert mean(terms["co_tuning"]) == pytest.approx((first + 3 * second) / 4, rel=1e-5)
    assert terms["co_tuning"].scale == 2.0
    plain = CrossEntropy().loss(tiny_net(), batch, (), None).terms
    assert terms["loss"] == plain["loss"]


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_learning_without_forgetting_is_the_divergence_from_the_first_answers(temperature):
    problem, _, start = pose("cross_entropy+lwf")
    now = jax.tree.map(lambda a: a + 0.3 * np.sin(np.arange(a.size)).reshape(a.shape), start)
    views = {"anchor": (start["params"], start["batch_stats"])}
    net = Net(problem.chain, now["params"], now["batch_stats"], views=views)
    weights = np.linspace(1, 2, len(opened("val")), dtype=np.float32)
    batch = steps.batch_of(base().preprocessing(opened("val")), "image", weights=weights)
    term = LearningWithoutForgetting(2.0, temperature)(net, batch)["lwf"]
    p, p0 = (
        scipy.special.softmax(np.asarray(one(batch["inputs"], "source_head")) / temperature, -1)
        for one in (net, net.at("anchor"))
    )
    gaps = scipy.special.rel_entr(p0, p).sum(-1)
    assert gaps.min() > 1e-4
    assert mean(term) == pytest.approx((gaps * weights).sum() / weights.sum(), rel=1e-3)
    assert term.scale == 2.0


# Whole runs.


def relationship():
    """The mean of the base's probabilities over the training digits of each class."""
    found, labels = base().predict(opened("train")), task().labels[task().splits["train"]]
    return np.stack([found[labels == c].mean(0) for c in range(10)])


def size(variables, layers):
    return sum(leaf.size for n in layers for leaf in jax.tree.leaves(variables["params"].get(n)))


@functools.cache
def whole(objective):
    """A run from pixels."""
    return base().transfer(task(), objective=objective, cache=None, **GIVEN)


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_stored_outputs_give_what_pixels_give_and_the_new_head_alone_is_kept(tmp_path, objective):
    stored = {"workdir": tmp_path, "objective": objective, "cache": tmp_path / "cache"}
    own, stored = whole(objective), base().transfer(task(), **stored, **GIVEN)
    assert [phase["prefix"] for phase in stored.result["plan"]["phases"]] == ["stem"]
    for one, other in zip(own.history, stored.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5),
        *(one.base.variables for one in (own, stored)),
    )
    assert own.base.layers == (*base().layers[:-3], "head")
    loaded = tl_jax.load_base(own.workdir / "model.safetensors")
    probabilities = loaded.predict(opened("val"))
    rows = np.arange(len(probabilities)), task().labels[task().splits["val"]]
    assert -np.log(probabilities[rows]).mean() == pytest.approx(own.val["loss"], rel=1e-4)
    # The old classifier's three layers, and all of the new base above its stem.
    wanted = size(base().variables, base().layers[-3:]) + size(loaded.variables, loaded.layers[1:])
    assert own.result["plan"]["phases"][0]["trained_parameters"] == wanted


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.slow
def test_the_relationship_is_learned_once_from_every_example_and_survives_a_kill(
    monkeypatch, tmp_path
):
    memories, originals = [], (fold.refreshed, Saver.offer)
    left = itertools.count(2, -1)

    def refreshed(*args):
        new = originals[0](*args)
        memories.append(np.array(new.memory))
        return new

    def offer(self, *args, **options):
        originals[1](self, *args, **options)
        if next(left) == 0:  # in the second epoch
            raise Killed

    def run():
        given = {"workdir": tmp_path, "objective": "co_tuning", "cache": None}
        return base().transfer(task(), **given, checkpoint_seconds=0.0, **GIVEN)

    assert len(task().splits["train"]) % GIVEN["batch_size"]  # the last batch is smaller
    monkeypatch.setattr(fold, "refreshed", refreshed)
    with monkeypatch.context() as patch:
        patch.setattr(Saver, "offer", offer)
        with pytest.raises(Killed):
            run()
    assert len(memories) == 2
    resumed = run()
    assert len(memories) == 2 and len(resumed.history) == 2
    assert resumed.history[-1]["train_loss"] == whole("co_tuning").history[-1]["train_loss"]
    for memory in memories:
        np.testing.assert_allclose(memory, relationship(), rtol=1e-4, atol=1e-6)


# What is refused.


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    ("change", "given", "said"),
    [
        (
            lambda b: b.cut("stem"),
            {"plan": "full"},
            "ends at 'stem': .* and cut='stem'",
        ),
        (lambda b: b, {"plan": "from_scratch"}, "'from_scratch' starts from other weights"),
        (lambda b: b, {"plan": "redrawn"}, "'redrawn' starts from other weights"),
    ],
)
def test_a_transfer_without_an_old_classifier_is_refused(objective, change, given, said):
    own, options = settings.divided({**OPTIONS, "objective": objective, **given})
    for refuse in (
        lambda: check(change(base()), own, options),
        lambda: posed(change(base()), task(), own, options),
    ):
        with pytest.raises(UserError, match=said) as error:
            refuse()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("cross_entropy+lwf(temperature=0)", "lwf: temperature takes a number above 0; got 0"),
        ("cross_entropy+lwf(weight=-1)", "lwf: weight takes a number from 0 on; got -1"),
        ("co_tuning(weight=-1)", "co_tuning: weight takes a number from 0 on; got -1"),
        ("co_tuning(weight='a')", "'co_tuning': weight= takes a number; got 'a'"),
    ],
)
def test_options_that_are_none_are_refused(spec, said):
    with pytest.raises(UserError, match=said):
        objectives.make(spec)
