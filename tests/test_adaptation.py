"""Adaptation between domains: values of objectives, what they may not see, what they refuse."""

import dataclasses
import functools
import pathlib
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import small
import steps
from devices import on_eight
from hypothesis import given
from hypothesis import strategies as st

import tl_jax
from tl_jax.chain import heads
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known, Layer
from tl_jax.data.task import Task
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError
from tl_jax.models.layers import NormRelu
from tl_jax.plans import schedules
from tl_jax.runs import settings, transfer
from tl_jax.runs.pose import posed
from tl_jax.train import objectives
from tl_jax.train.inputs import asked
from tl_jax.train.objective import Now, mean
from tl_jax.train.objectives import adversarial, self_training
from tl_jax.train.objectives.conditional_adversarial import LARGEST, ConditionalDiscriminator
from tl_jax.train.objectives.domains import log_rest
from tl_jax.train.objectives.shot import nearest
from tl_jax.train.step import update

C, D, B = 3, 4, 6
TWO = (
    *("source_only", "domain_adversarial(width=5)", "conditional_adversarial(width=5)", "coral"),
    *("mmd", "jan", "discrepancy(repeat=2)", "margin_disparity(ceiling=1.0)", "feature_norm"),
    *("class_confusion", "nuclear_norm", "self_training(wait=0)"),
)
FROM_SOURCE = ("adda(width=5)", "shot", "tent", "adabn")  # of a base that knows the source
ONE = ("shot", "tent", "adabn")
close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-5)
TRUNK = (Layer("body", nn.Dense(D), ("x",)), Layer("feature", NormRelu()))


@pytest.fixture(autouse=True)
def _without_pages(monkeypatch):
    monkeypatch.setattr(transfer.page, "can_be_drawn", lambda: False)


@functools.cache
def network(spec: str = "source_only", head: str = "linear") -> Network:
    """A dense layer with a batch norm, a head, and what the objective adds."""
    plain = Network((*TRUNK, *heads.make(head, C)))
    return plain.with_layers(*objectives.make(spec).tails(plain))


@functools.cache
def variables(spec: str, head: str = "linear", seed: int = 0):
    """Random weights, and statistics that are not 0 and 1."""
    rng = np.random.default_rng(seed)
    fresh = network(spec, head).init(seed, {"x": jax.ShapeDtypeStruct((1, 5), jnp.float32)})
    moved = jax.tree.map(lambda a: (a + rng.uniform(0, 0.3, a.shape)).astype("f"), fresh)
    return jax.tree.map(lambda a: 1.5 * a, moved)


def batches(spec: str, rows: int = B, others: int = B, seed: int = 0):
    """A batch of a source and a target; of the target alone where the objective takes one task."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, count, shift in (("source", rows, 0.0), ("target", others, 0.7)):
        x = (rng.normal(size=(count, 5)) + shift).astype(np.float32)
        made[name] = steps.batch_of(x, **unweighted(rng.integers(0, C, count), C))
    return made["target"] if spec in ONE else made


def net(spec: str, head: str = "linear", **how) -> Net:
    own, first = variables(spec, head), variables(spec, head, 1)
    views = {"anchor": (first["params"], first["batch_stats"])}
    return Net(network(spec, head), own["params"], own["batch_stats"], views=views, **how)


def losses(spec: str, batch, *, turn: str = "all", progress: float = 0.5, memory=(), **how):
    """Each term's scaled mean, as a number."""
    objective = objectives.make(spec)

    @jax.jit
    def scaled(batch, memory):
        now = Now(jax.random.key(0), progress, turn, 100)
        terms = objective.loss(net(spec, **how), batch, memory, now).terms
        return {name: term.scale * mean(term) for name, term in terms.items()}

    return jax.device_get(scaled(batch, memory))


def seen(spec: str, batch, *wanted: str, norm: str = "joint", **how):
    """Values of the source and of the target, in float64."""
    given = [batch[name]["inputs"]["x"] for name in ("source", "target")]

    @jax.jit
    def values(x):
        return net(spec, norm=("feature",), **how)(Known(x=x), wanted)

    if norm == "separate":
        sides = [values(x) for x in given]
    else:
        both = values(np.concatenate(given))
        sides = zip(*(np.split(np.asarray(v), [len(given[0])]) for v in both), strict=True)
    return [[np.asarray(value, np.float64) for value in side] for side in sides]


def cross_entropy(logits, batch):
    return -(batch["source"]["targets"] * scipy.special.log_softmax(logits, -1)).sum(-1).mean()


# The losses, against numpy.


@pytest.mark.parametrize("norm", ["joint", "separate"])
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("name", ["mmd", "jan"])
def test_mmd_is_the_mean_of_kernels_over_pairs(name, linear, norm):
    spec = f"{name}(linear={linear}, weight=0.3, statistics={norm!r})"
    batch = batches(spec, B, B if linear else 4)
    (ours, logits), (theirs, others) = seen(spec, batch, "feature", "head", norm=norm)
    x, n = np.concatenate([ours, theirs]), len(ours)
    p = scipy.special.softmax(np.concatenate([logits, others]), -1)
    gap = ((x[:, None] - x) ** 2).sum(-1)
    k = sum(np.exp(-gap / (2 * a * gap.mean())) for a in (1 / 8, 1 / 4, 1 / 2, 1, 2))
    if name == "jan":
        k = k * np.exp(-((p[:, None] - p) ** 2).sum(-1) / (2 * 0.92**2))
    m = len(x) - n
    if linear:
        value = 0.0
        for i in range(n):
            j = (i + 1) % n
            value += (k[i, j] + k[n + i, n + j] - k[i, n + j] - k[j, n + i]) / n
    else:
        value = sum(k[i, j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        value += sum(k[n + i, n + j] for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
        value -= 2 * k[:n, n:].mean()
    found = losses(spec, batch, norm=("feature",))
    close(found["mmd"], 0.3 * value)
    close(found["loss"], cross_entropy(logits, batch))


@pytest.mark.parametrize("norm", ["joint", "separate"])
def test_coral_is_the_distance_of_covariances(norm):
    spec = f"coral(weight=2.0, statistics={norm!r})"
    batch = batches(spec, 6, 4)
    (ours, _), (theirs, _) = seen(spec, batch, "feature", "head", norm=norm)
    gap = np.linalg.norm(np.cov(ours.T) - np.cov(theirs.T)) ** 2 / (4 * D**2)
    close(losses(spec, batch, norm=("feature",))["coral"], 2 * gap)


def test_class_confusion_is_what_pairs_of_classes_share():
    spec = "class_confusion(temperature=1.7, weight=0.5)"
    batch = batches(spec)
    _, (others,) = seen(spec, batch, "head")
    p = scipy.special.softmax(others / 1.7, -1)
    weights = 1 + np.exp(scipy.special.xlogy(p, p).sum(-1))
    weights = B * weights / weights.sum()
    pairs = np.array([[(weights * p[:, i] * p[:, j]).sum() for j in range(C)] for i in range(C)])
    shares = pairs / pairs.sum(1, keepdims=True)
    wanted = (shares.sum() - np.trace(shares)) / C
    close(losses(spec, batch, norm=("feature",))["confusion"], 0.5 * wanted)


def test_the_nuclear_norm_is_the_sum_of_singular_values():
    spec = "nuclear_norm(weight=0.4)"
    batch = batches(spec)
    _, (others,) = seen(spec, batch, "head")
    size = np.linalg.norm(scipy.special.softmax(others, -1), "nuc") / B
    close(losses(spec, batch, norm=("feature",))["nuclear_norm"], -0.4 * size)


def test_the_nuclear_norm_of_equal_predictions_has_a_gradient():
    spec = "nuclear_norm"
    objective, batch, own = objectives.make(spec), batches(spec), variables(spec)
    zeroed = own["params"] | {"head": jax.tree.map(np.zeros_like, own["params"]["head"])}

    def size(params):
        given = Net(network(spec), params, own["batch_stats"], norm=("feature",))
        now = Now(jax.random.key(0), 0.5, "all", 100)
        return objective.loss(given, batch, (), now).terms["nuclear_norm"].sum

    value, gradient = jax.jit(jax.value_and_grad(size))(zeroed)
    close(value, np.sqrt(B / C) / B)  # one singular value, that of B rows of 1 / C
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def dense(params, x, name):
    return x @ np.asarray(params[name]["kernel"], float) + np.asarray(params[name]["bias"], float)


def discriminated(params, x):
    """What the tail `domain` says, by hand."""
    for name in ("Dense_0", "Dense_1"):
        x = np.maximum(dense(params, x, name), 0)
    return dense(params, x, "Dense_2")[:, 0]


def binary(logits, is_source):
    return -np.log(scipy.special.expit(np.where(is_source, logits, -logits)))


def test_domains_are_told_apart_by_features():
    spec = "domain_adversarial(width=5)"
    batch = batches(spec, 6, 4)
    (ours, _), (theirs, _) = seen(spec, batch, "feature", "head")
    params = variables(spec)["params"]["domain"]
    logits = discriminated(params, np.concatenate([ours, theirs]))
    wanted = binary(logits, np.arange(10) < 6).mean()
    close(losses(spec, batch, norm=("feature",))["domain"], wanted)


@pytest.mark.parametrize("entropy", [True, False])
def test_domains_are_told_apart_by_the_product_of_features_and_predictions(entropy):
    spec = f"conditional_adversarial(width=5, entropy={entropy})"
    batch = batches(spec, 6, 4)
    (ours, logits), (theirs, others) = seen(spec, batch, "feature", "head")
    f, p = np.concatenate([ours, theirs]), np.concatenate([logits, others])
    p = scipy.special.softmax(p, -1)
    joint = np.stack([np.outer(a, b).ravel() for a, b in zip(f, p, strict=True)])
    weights = 1 + np.exp(scipy.special.xlogy(p, p).sum(-1)) if entropy else np.ones(10)
    params = variables(spec)["params"]["domain"]["product"]
    wanted = binary(discriminated(params, joint), np.arange(10) < 6) * weights / weights.mean()
    close(losses(spec, batch, norm=("feature",))["domain"], wanted.mean())


def test_a_large_product_is_a_random_one():
    rng = np.random.default_rng(0)
    f, z = (rng.normal(size=(5, n)).astype(np.float32) for n in (LARGEST // C + 1, C))
    module = ConditionalDiscriminator(width=5, random=7)
    params = jax.jit(module.init)(jax.random.key(0), f, z)
    keys = jax.random.split(jax.random.key(0))
    r, s = (jax.random.normal(k, (n, 7)) for k, n in zip(keys, (f.shape[1], C), strict=True))
    joint = (f @ np.asarray(r)) * (scipy.special.softmax(z, -1) @ np.asarray(s)) / np.sqrt(7)
    wanted = discriminated(params["params"]["product"], joint)
    close(jax.jit(module.apply)(params, f, z)[:, 0], wanted, rtol=1e-3)
    whole = jax.eval_shape(module.init, jax.random.key(0), f[:, :-1], z)["params"]["product"]
    assert whole["Dense_0"]["kernel"].shape[0] == LARGEST // C * C


def test_a_reversed_gradient_reaches_what_is_below_and_not_the_tail():
    """With a ceiling, the trunk's gradient of the domain's loss turns; the tail's stays."""
    batch, of = batches("source_only"), {}
    for ceiling in (0.0, 0.5):
        spec = f"domain_adversarial(width=5, ceiling={ceiling}, ramp='constant')"
        objective, stats = objectives.make(spec), variables(spec)["batch_stats"]

        def domain(params, objective=objective, spec=spec, stats=stats):
            own = Net(network(spec), params, stats, norm=("feature",))
            now = Now(jax.random.key(0), 0.5, "all", 100)
            return mean(objective.loss(own, batch, (), now).terms["domain"])

        of[ceiling] = jax.jit(jax.grad(domain))(variables(spec)["params"])
    jax.tree.map(close, of[0.0]["domain"], of[0.5]["domain"])
    assert not np.any(of[0.0]["body"]["kernel"]) and np.any(of[0.5]["body"]["kernel"])


@pytest.mark.parametrize("head", ["linear", "vgg_head(hidden=4)", "bottleneck(features=4)"])
def test_margin_disparity_is_what_the_paper_says(head):
    spec = "margin_disparity(margin=3.0)"
    batch, place = batches(spec, 6, 4), "feature"
    sides = seen(spec, batch, place, "head", head=head)
    (ours, logits), (theirs, others) = sides
    own = net(spec, head, norm=tuple(network(spec, head).names))
    q = own(Known({place: np.float32(np.concatenate([ours, theirs]))}), "adversary")
    q = scipy.special.softmax(np.asarray(q, np.float64), -1)
    q_s, q_t = q[:6], q[6:]
    agree = -np.log(q_s[np.arange(6), logits.argmax(-1)]).mean()
    differ = -np.log(1 - q_t[np.arange(4), others.argmax(-1)]).mean()
    found = losses(spec, batch, head=head, norm=network(spec, head).names)
    if head == "linear":  # other heads have norms and dropout of their own
        close(found["agree"], 3 * agree)
        close(found["differ"], differ)
    assert found.keys() == {"loss", "agree", "differ"}


@given(st.floats(-40, 40), st.integers(0, 2))
def test_the_rest_of_a_probability_is_known_where_it_rounds_to_nothing(size, label):
    z = np.zeros(3)
    z[label] = size
    wanted = np.log(2) - np.log(2 + np.exp(size))
    close(log_rest(jnp.float32(z[None]), jnp.array([label]))[0], wanted)


def test_norms_of_features_grow_by_a_step():
    spec = "feature_norm(step=0.7, weight=0.2)"
    batch = batches(spec, 6, 4)
    (ours, _), (theirs, _) = seen(spec, batch, "feature", "head")
    found = losses(spec, batch, norm=("feature",))
    close([found["source_norm"], found["target_norm"]], [0.2 * 0.49] * 2)
    for x in (ours, theirs):  # and the slope is that of -2 step |f|
        f = jnp.float32(x)
        slope = jax.grad(lambda f: _feature_norm(f, 0.7).mean())(f)
        norms = np.linalg.norm(x, axis=-1, keepdims=True)
        close(slope, -2 * 0.7 * x / np.maximum(norms, 1e-6) / len(x))


def _feature_norm(features, step):
    """The gaps, as the objective has them, of features that are given."""
    chain = Network((Layer("feature", _Same(), ("x",)), Layer("head", nn.Dense(C))))
    params = chain.init(0, {"x": jax.ShapeDtypeStruct((1, D), jnp.float32)})["params"]
    both = {"source": steps.batch_of(features, **unweighted([0] * len(features), C))}
    both["target"] = both["source"]
    objective = objectives.make(f"feature_norm(step={step}, weight=1.0, statistics='separate')")
    term = objective.loss(Net(chain, params, {}), both, (), None).terms["source_norm"]
    return mean(term)


class _Same(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x


@pytest.mark.parametrize("turn", ["fit", "heads", "features1"])
def test_heads_are_fitted_then_drawn_apart_then_brought_together(turn):
    spec = "discrepancy(statistics='joint')"
    batch = batches(spec)
    (z1, z2), (a, b) = seen(spec, batch, "head", "second")
    found = losses(spec, batch, turn=turn, norm=("feature",))
    gap = np.abs(scipy.special.softmax(a, -1) - scipy.special.softmax(b, -1)).mean()
    wanted = {"discrepancy": -gap if turn == "heads" else gap} if turn != "fit" else {}
    if turn != "features1":
        wanted |= {"head": cross_entropy(z1, batch), "second": cross_entropy(z2, batch)}
    assert found.keys() == wanted.keys()
    close([found[name] for name in wanted], list(wanted.values()))


def test_the_target_encoder_fools_who_tells_it_from_the_first_weights():
    spec = "adda(width=5)"
    batch = batches(spec, 6, 4)
    own = net(spec, norm=("feature",))
    ours = np.asarray(own.at("anchor")(batch["source"]["inputs"], "feature", train=False), float)
    theirs = np.asarray(own(batch["target"]["inputs"], "feature"), float)
    params = variables(spec)["params"]["domain"]
    logits = discriminated(params, np.concatenate([ours, theirs]))
    tell = losses(spec, batch, turn="tell", norm=("feature",))
    close(tell["domain"], binary(logits, np.arange(10) < 6).mean())
    fool = losses(spec, batch, turn="fool", norm=("feature",))
    close(fool["domain"], binary(logits[6:], np.ones(4, bool)).mean())


def test_entropy_is_tents():
    batch = batches("tent")
    logits = np.asarray(net("tent", norm=("feature",))(batch["inputs"], "head"), float)
    p = scipy.special.softmax(logits, -1)
    close(losses("tent", batch, norm=("feature",))["entropy"], scipy.special.entr(p).sum(-1).mean())


def folding(spec, parts):
    """A fold over these batches, in inference mode."""

    def fold(each, total):
        run = jax.jit(lambda batch, total: each(net(spec), batch, total))
        for batch in parts:
            total = run(batch, total)
        return total

    return fold


def test_shot_is_sure_balanced_and_near_its_centres():
    parts = [batches("shot", seed=seed) for seed in range(3)]
    objective = objectives.make("shot(beta=0.6)")
    memory = objective.refresh(folding("shot", parts), objective.begin(net("shot"), parts[0]), 0)
    sides = [net("shot")(part["inputs"], ("feature", "head"), train=False) for part in parts]
    f = np.concatenate([np.asarray(f, float) for f, _ in sides])
    f /= np.maximum(np.linalg.norm(f, axis=-1, keepdims=True), 1e-9)
    p = scipy.special.softmax(np.concatenate([np.asarray(z, float) for _, z in sides]), -1)
    centres = p.T @ f

    def labels(f, centres):
        long = np.linalg.norm(centres, axis=-1, keepdims=True)
        return (f @ (centres / long).T).argmax(-1)

    first = labels(f, centres)
    assert set(first) == {0, 1, 2}, "else the case shows little"
    centres = np.stack([f[first == k].sum(0) for k in range(C)])
    close(memory, centres / np.linalg.norm(centres, axis=-1, keepdims=True))
    found = losses("shot(beta=0.6)", parts[0], memory=memory, norm=("feature",))
    logits = np.asarray(net("shot", norm=("feature",))(parts[0]["inputs"], "head"), float)
    p, pseudo = scipy.special.softmax(logits, -1), labels(f[:B], centres)
    close(found["entropy"], scipy.special.entr(p).sum(-1).mean())
    close(found["diversity"], -scipy.special.entr(p.mean(0)).sum(), rtol=1e-3)
    close(found["pseudo"], -0.6 * np.log(p[np.arange(B), pseudo]).mean())


def test_a_class_that_nothing_is_near_gets_no_labels():
    centres = jnp.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    features = jnp.array([[-1.0, -0.2], [0.1, 0.9]])
    assert nearest(features, centres).argmax(-1).tolist() == [2, 2]


def test_each_class_gives_the_same_share_of_labels():
    rng = np.random.default_rng(0)
    sure = np.sort(-np.log(rng.uniform(1e-5, 0.5, (2, 100))), -1)  # of two classes of three
    counts = np.zeros((3, self_training.BINS))
    width = self_training.SUREST / self_training.BINS
    for row, values in zip(counts, sure, strict=False):
        np.add.at(row, (values / width).astype(int), 1)
    found = np.asarray(self_training.thresholds(jnp.asarray(counts), 0.2))
    for threshold, values in zip(found, sure, strict=False):
        chosen = (1 - np.exp(-values) >= threshold).sum()
        assert 17 <= chosen <= 20  # a bin more or less
    assert found[2] > 1  # nothing is predicted as this class, so nothing passes


@pytest.mark.parametrize("share", [0.2, 0.9, 1.0])
def test_a_class_whose_every_example_is_taken_has_a_threshold_that_they_pass(share):
    """Of four classes one is predicted once, one of few times; nobody is surer than chance."""
    p = {0: [0.3], 1: [0.26] * 3 + [0.9], 2: [0.99] * 50}
    counts = np.zeros((4, self_training.BINS))
    for label, values in p.items():
        bins = -np.log1p(-np.array(values)) * self_training.BINS / self_training.SUREST
        np.add.at(counts[label], bins.astype(int), 1)
    found = np.asarray(self_training.thresholds(jnp.asarray(counts), share))
    assert (found >= 0.25).all()
    for label, values in p.items():
        taken = (np.array(values) >= found[label]).sum()
        assert taken >= np.ceil(share * len(values))


def test_self_training_labels_the_surest_and_only_after_a_while():
    spec = "self_training(share=0.4, growth=0.2, most=0.5, wait=1, weight=0.7)"
    parts = [batches(spec, seed=seed) for seed in range(4)]
    objective = objectives.make(spec)
    fold, memory = folding(spec, parts), objective.begin(net(spec), parts[0])
    assert losses(spec, parts[0], memory=memory)["pseudo"] == 0
    assert np.all(objective.refresh(fold, memory, 0) > 1)
    for epoch, share in ((1, 0.4), (2, 0.5)):  # 0.6 is more than the most
        memory = np.asarray(objective.refresh(fold, memory, epoch), float)
        logits = [net(spec)(part["target"]["inputs"], "head", train=False) for part in parts]
        p = scipy.special.softmax(np.concatenate([np.asarray(z, float) for z in logits]), -1)
        for k in range(C):
            own = p.max(-1)[p.argmax(-1) == k]
            passing = (own >= memory[k]).sum()
            assert passing <= np.ceil(share * len(own)) and (len(own) == 0 or memory[k] < 1)
        ratio = p[:B] / memory
        chosen, label = ratio.max(-1) >= 1, ratio.argmax(-1)
        assert 0 < chosen.sum() < B, "else the case shows little"
        trained = np.asarray(net(spec)(parts[0]["target"]["inputs"], "head"), float)
        nll = -scipy.special.log_softmax(trained, -1)[np.arange(B), label]
        found = losses(spec, parts[0], memory=jnp.float32(memory))
        close(found["pseudo"], 0.7 * (nll * chosen).sum() / B)


def test_the_source_alone_is_cross_entropy():
    batch = batches("source_only", 6, 4)
    logits = net("source_only", norm=("feature",))(batch["source"]["inputs"], "head")
    found = losses("source_only", batch, norm=("feature",))
    assert found.keys() == {"loss"}
    close(found["loss"], cross_entropy(np.asarray(logits, float), batch))


# What may not be seen, and what belongs together.

MEMORY = {
    "self_training(wait=0)": jnp.full(C, 0.4),
    "shot": jnp.asarray(np.random.default_rng(0).normal(size=(C, D)), jnp.float32),
}
STEPPED = tuple(spec for spec in (*TWO, *FROM_SOURCE) if spec != "adabn")  # which takes no step


@functools.cache
def stepping(spec: str):
    """The recipe of a step in which all layers learn, and the compiled step."""
    of = steps.recipe(network(spec), objectives.make(spec), batch_norm="batch")
    return of, Parallel().step(functools.partial(update, of))


def stepped(spec: str, given):
    """The state after two steps on such batches."""
    (of, program), start, parallel = stepping(spec), variables(spec), Parallel()
    state = steps.begin(of, start, given[0], memory=MEMORY.get(spec, ()))
    fixed = parallel.place(steps.fixed(of, start, steps=2) | {"anchor": variables(spec, seed=1)})
    state = parallel.place(state)
    for batch in given:
        state = program(state, fixed, parallel.share(batch))
    return jax.device_get((state.params, state.batch_stats))


def relabelled(batch, domain: str):
    """The batch with other labels of a domain, and other weights."""
    own = batch[domain] if domain in batch else batch
    other = unweighted((own["labels"] + 1) % C, C)
    other["weights"] = np.linspace(0.5, 2, len(other["weights"]), dtype=np.float32)
    return {**batch, domain: {**own, **other}} if domain in batch else {**own, **other}


def is_same(a, b) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("spec", STEPPED)
def test_labels_of_the_target_change_no_weight(spec):
    given = [batches(spec, 8, 8, seed) for seed in (0, 1)]
    plain = stepped(spec, given)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(plain))
    assert is_same(plain, stepped(spec, [relabelled(batch, "target") for batch in given]))
    if spec in TWO:  # else the test could not fail
        assert not is_same(plain, stepped(spec, [relabelled(b, "source") for b in given]))


@pytest.mark.parametrize("spec", MEMORY)
def test_labels_of_the_target_are_in_no_memory(spec):
    objective, found = objectives.make(spec), []
    for change in (lambda batch, domain: batch, relabelled):
        parts = [change(batches(spec, seed=seed), "target") for seed in range(2)]
        first = objective.begin(net(spec), parts[0])
        found.append(np.asarray(objective.refresh(folding(spec, parts), first, 1)))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("spec", STEPPED)
def test_an_objective_says_whether_it_couples_the_examples_of_a_batch(spec):
    """Of others, the terms of two halves add up: batches may be accumulated, and split by pmap."""
    objective, whole = objectives.make(spec), batches(spec, 8, 8)
    memory = MEMORY.get(spec, ())

    @jax.jit
    def terms(batch):
        own = net(spec)  # norms by running statistics couple nothing
        moments = [Now(jax.random.key(0), 0.5, turn.name, 100) for turn in objective.turns]
        return [dict(objective.loss(own, batch, memory, now).terms) for now in moments]

    half, other = (terms(jax.tree.map(lambda a, i=i: a[i::2], whole)) for i in (0, 1))
    added = jax.tree.map(lambda a, b: a + b, half, other)
    pairs = zip(*(_means(parts) for parts in (terms(whole), added)), strict=True)
    apart = max(abs(a - b) for a, b in pairs)
    assert apart > 1e-3 if objective.coupled else apart < 1e-5


def _means(of_turns):
    return [float(mean(term)) for terms in of_turns for term in terms.values()]


# Of others it follows from what is said above.
COUPLED = ("class_confusion", "coral", "jan", "nuclear_norm", "shot")


def main(folder: pathlib.Path):
    """In the other process: the states of all, and how many devices there are."""
    found = {spec: stepped(spec, [batches(spec, 8, 8, s) for s in (0, 1)]) for spec in COUPLED}
    return found, jax.device_count()


@pytest.mark.slow
def test_eight_devices_give_what_one_gives(tmp_path):
    # Quicker to compile; the numbers stay the same.
    found, count = on_eight("test_adaptation", tmp_path, JAX_DISABLE_MOST_OPTIMIZATIONS="1")
    assert (count, jax.device_count()) == (8, 1)
    for spec, state in found.items():
        one = stepped(spec, [batches(spec, 8, 8, seed) for seed in (0, 1)])
        jax.tree.map(functools.partial(close, err_msg=spec), state, one)


@pytest.mark.parametrize("spec", ["discrepancy", "domain_adversarial(width=5)"])
def test_a_phase_may_train_the_head_alone_first(spec):
    """A turn in which nothing learns leaves everything."""
    of = steps.recipe(network(spec), objectives.make(spec), ("head",))
    now = steps.after(of, variables(spec), [batches(spec)])
    assert now.params.keys() == {"head"}
    assert not is_same(now.params["head"], variables(spec)["params"]["head"])


# What is refused, in one line that says what to do.


def classes(*names: str) -> Task:
    """Stripes of the first three classes, called so, of which the last may have no examples."""
    return dataclasses.replace(small.task(), classes=names)


def domains(target: Task, **changes):
    """A problem of these domains."""
    sources = {"source": small.task(), "target": target}
    return small.problem(
        "full", **{"objective": objectives.make("coral"), "sources": sources} | changes
    )


FEW = dataclasses.replace(small.task(), splits={**small.task().splits, "train": np.arange(1)})
REFUSED = {
    "one task": (lambda: domains(FEW, sources={}), "Coral trains on two tasks, .*; got none"),
    "other names": (
        lambda: domains(FEW, sources={"photos": FEW, "target": FEW}),
        r"sources=\{'source': ..., 'target': ...\}; got photos, target",
    ),
    "two tasks": (
        lambda: domains(FEW, objective=objectives.make("tent")),
        "Tent trains on one task: leave out sources=",
    ),
    "partial": (
        lambda: domains(classes("0", "1")),
        "the target lacks 2, which is partial adaptation",
    ),
    "open": (
        lambda: domains(classes(*"0123456789")),
        "the source lacks 3, 4, 5 and 4 more, which is open-set adaptation",
    ),
    "both": (
        lambda: domains(classes("0", "1", "x")),
        "the target lacks 2 and the source lacks x, which is open-partial adaptation",
    ),
    "order": (lambda: domains(classes("1", "0", "2")), "these have the same classes in another"),
    "one example of the source": (
        lambda: domains(FEW, sources={"source": FEW, "target": small.task()}),
        "the source has 1 to train on, and batch_size is 16",
    ),
    "one example": (lambda: domains(FEW), "the target has 1 to train on, and batch_size is 16"),
    "batches of one": (lambda: domains(small.task(), batch_size=1), "and batch_size is 1"),
    "pairs": (
        lambda: domains(
            small.task(30), objective=objectives.make("mmd(linear=True)"), batch_size=48
        ),
        "the source's have 48 and the target's 18: take batch_size=18, or linear=False",
    ),
    "frozen features": (
        lambda: small.problem(
            "head_only",
            objective=objectives.make("coral"),
            sources={"source": small.task(), "target": small.task()},
        ),
        "Coral aligns the output of 'pool', but no phase of the plan 'head_only' trains",
    ),
    "classifier": (
        lambda: small.problem("full", objective=objectives.make("shot")),
        "SHOT keeps the source's classifier, but the phase 'full' trains 'head'",
    ),
    "a classifier that learns, of TENT": (
        lambda: small.problem("full", objective=objectives.make("tent")),
        "Tent keeps the source's classifier, but the phase 'full' trains 'head'",
    ),
    "one example at a time": (
        lambda: small.problem("features_only", objective=objectives.make("shot"), batch_size=1),
        "SHOT asks that the predictions of a batch differ, and batch_size=1 has one",
    ),
    "statistics": (
        lambda: small.problem("full", objective=objectives.make("adabn")),
        "the phase 'full' has batch_norm=frozen: take batch_norm=recalibrate",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_problems_that_cannot_be_posed_are_refused(case):
    pose, said = REFUSED[case]
    with pytest.raises(UserError, match=said) as error:
        pose()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("coral(statistics='seperate')", "unknown statistics 'seperate'; did you mean 'separate'"),
        ("mmd(weight=-1.0)", "weight= takes a number from 0 on; got -1.0"),
        ("mmd(linear=3)", "linear= takes True or False; got 3"),
        ("domain_adversarial(ramp='dan')", "unknown ramp 'dan'; did you mean 'dann'"),
        ("domain_adversarial(ramp='tllib(beta=1)')", "unknown option of ramp 'tllib' 'beta'"),
        ("domain_adversarial(width=0)", "width= takes a whole number, at least 1"),
        ("domain_adversarial(steepness=1)", "unknown option of objective"),
        ("cross_entropy+l2_sp(alpha=-1.0)", "alpha= takes a number from 0 on; got -1.0"),
        ("domain_adversarial(ramp='tllib(iterations=0)')", "iterations= takes a number above 0"),
        ("delta(layers='x')", "layers= takes several names"),
        ("cross_entropy+bss(k=0)", "bss: k= takes a whole number, at least 1"),
        ("simclr(temperature=0.0)", "temperature= takes a number above 0; got 0.0"),
        ("vicreg(variance=-1.0)", "variance= takes a number from 0 on; got -1.0"),
        ("language_model(ar=-1.0)", "ar= takes a number from 0 on; got -1.0"),
        ("class_confusion(temperature=0.0)", "temperature= takes a number above 0"),
        ("margin_disparity(margin='4')", "margin= takes a number; got '4'"),
        ("discrepancy(repeat=0)", "repeat= takes a whole number"),
        ("self_training(share=1.5)", "share= takes a share, from 0 to 1; got 1.5"),
        ("shot(beta=-0.3)", "beta= takes a number from 0 on"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(spec, said):
    with pytest.raises(UserError, match=said):
        objectives.make(spec)


# Curves by name.


def test_ramps_and_schedules_are_the_two_libraries_curves():
    """The table of both, at shares of 20,000 steps: they are not the same curve."""
    shares = np.array([0.0, 0.05, 0.1, 0.2, 0.5, 1.0])
    tables = {
        "dann": ([0, 0.245, 0.462, 0.762, 0.987, 1.0], [1, 0.738, 0.595, 0.439, 0.261, 0.166]),
        "tllib": ([0, 0.462, 0.762, 0.964, 1.0, 1.0], [1, 0.595, 0.439, 0.299, 0.166, 0.102]),
    }
    for name, (ramp, rate) in tables.items():
        found = [float(adversarial.RAMPS[name](p, 20_000)) for p in shares]
        np.testing.assert_allclose(found, ramp, atol=6e-4)
        schedule = schedules.schedule(name, 0.5, 20_000)
        found = [float(schedule(p * 20_000)) / 0.5 for p in shares]
        np.testing.assert_allclose(found, rate, atol=6e-4)
    assert float(adversarial.RAMPS["constant"](0.0, 9)) == 1


# Whole transfers.


@functools.cache
def base(head: str = "bottleneck(features=6)"):
    """A stem and a block, with a classifier of the ten digits that nothing has trained."""
    cut = tl_jax.load_base("efficientnet_lite0", "random:0").resized(16).cut("stage1_block1")
    return cut.with_head(10, head=head, seed=1)


@functools.cache
def digits():
    """Six of each."""
    return tl_jax.load_task("digits", per_class=6)


def pose(spec: str, **given):
    both = {"source": digits(), "target": digits()} if spec not in ONE else {}
    own, options = settings.divided({"batch_size": 25, "objective": spec, **given})
    return posed(base(), digits(), own, options, both)


@pytest.mark.parametrize("head", ["linear", "bottleneck(features=6)", "vgg_head(hidden=6)"])
@pytest.mark.parametrize("spec", TWO)
def test_objectives_bring_their_layers_which_learn_where_features_do(spec, head):
    problem, ready, variables = pose(spec, head=head, plan="full")
    added = problem.chain.names[len(ready.layers) :]
    own = [name for name in ready.layers if name.startswith("head")]
    wanted = {
        "domain_adversarial": ["domain"],
        "conditional_adversarial": ["domain"],
        "discrepancy": [name.replace("head", "second", 1) for name in own],
        "margin_disparity": [name.replace("head", "adversary", 1) for name in own],
    }
    assert list(added) == wanted.get(spec.split("(")[0], [])
    (phase,) = problem.plan.phases
    assert set(phase.multipliers.values()) == {1.0}
    assert asked(problem, phase, variables).survey.layers  # it can be traced from end to end
    if spec.startswith("discrepancy"):
        turns = {turn.name: turn for turn in problem.objective.turns}
        of_heads = [name for name in problem.chain.names if turns["heads"].trains(name)]
        rest = [name for name in problem.chain.names if turns["features1"].trains(name)]
        assert of_heads == [*own, *added] and rest == ["stem", "stage1_block1"]
    for new in set(added) - {"domain"}:  # a copy, with other weights
        old = re.sub("^(second|adversary)", "head", new)
        ours, theirs = (jax.tree.leaves(variables["params"][name]) for name in (old, new))
        shapes = [[leaf.shape for leaf in side] for side in (ours, theirs)]
        assert shapes[0] == shapes[1] and not is_same(ours, theirs)


def test_a_discriminator_learns_where_the_head_is_kept():
    problem, ready, _ = pose("adda(width=5)", head="kept", plan="features_only")
    assert ready.variables is base().variables or is_same(ready.variables, base().variables)
    (phase,) = problem.plan.phases
    assert {n for n, rate in phase.multipliers.items() if not rate} == {"head"}
    assert phase.multipliers["domain"] == 1


def test_features_are_what_the_classifier_reads_whatever_the_head():
    places = {
        "linear": "stage1_block1",
        "bottleneck(features=6)": "head_bottleneck",
        "vgg_head(hidden=6)": "head_fc2",
        "concat_pool": "head_pool",
    }
    for head, place in places.items():
        chain = pose("coral", head=head, plan="full").problem.chain
        assert objectives.make("coral").feature(chain) == place
        assert objectives.make("discrepancy").feature(chain) == "stage1_block1"


KEPT = {
    "fresh": ({"head": "linear"}, "Tent goes on with the classifier .*: take head=kept instead of"),
    "cut": ({"head": "kept", "cut": "stem"}, "head=kept goes with the base whole: leave out cut="),
}


@pytest.mark.parametrize("case", KEPT)
def test_a_head_that_cannot_be_kept_is_refused(case):
    given, said = KEPT[case]
    with pytest.raises(UserError, match=said):
        pose("tent", plan="features_only", **given)


def test_a_kept_head_is_of_the_same_classes():
    named = dataclasses.replace(base(), classes=tuple("abcdefghij"))
    for other, said in (
        (named, "has the classes a, b, c, .* and the task 0, 1, "),
        (base().cut("stem"), "this efficientnet_lite0 ends at 'stem', without a head"),
        (base().with_head(9), "has the classes 9 without names, and the task .* must be the same"),
    ):
        with pytest.raises(UserError, match=said):
            tl_jax.transfer(other, digits(), objective="tent", head="kept", plan="features_only")


def test_adabn_is_the_base_with_the_statistics_of_the_target(tmp_path):
    """Against batch norms that see the whole task at once, in one batch."""
    tune = {"epochs": 1, "batch_norm": "recalibrate"}
    count = len(digits().splits["train"])
    run = tl_jax.transfer(base(), digits(), objective="adabn", head="kept", plan="full",
                          tune=tune, batch_size=count, cache=None, workdir=tmp_path)  # fmt: skip
    assert is_same(run.base.variables["params"], base().variables["params"])
    assert run.base.classes == digits().classes
    images = base().preprocessing([digits().open(int(i)) for i in digits().splits["train"]])
    chain, start = base().chain, base().variables
    zeroed = {**start, "batch_stats": jax.tree.map(np.zeros_like, start["batch_stats"])}
    stats = chain.apply(zeroed, images, train=False, batch_norm=True).batch_stats
    jax.tree.map(
        lambda a, b: close(a, 10 * np.asarray(b), rtol=1e-3, atol=1e-4),
        run.base.variables["batch_stats"],
        dict(stats),
    )


@pytest.mark.slow
def test_a_domain_is_adapted_and_the_adapted_base_is_one_to_adapt_again(tmp_path):
    tune = {"epochs": 1, "batch_norm": "batch", "learning_rate": 1e-2}
    usual = {"tune": tune, "batch_size": 25, "cache": None}
    both = {"source": digits(), "target": digits()}
    dann = {"objective": "domain_adversarial(width=5)", "sources": both, "plan": "full"}
    head, folder = "bottleneck(features=6)", tmp_path / "one"
    run = base().cut("stem").transfer(digits(), head=head, workdir=folder, **dann, **usual)
    assert run.base.layers == ("stem", "head_bottleneck", "head")
    assert {"train_domain", "train_domain_accuracy"} <= run.history[0].keys()
    shot = {"objective": "shot", "plan": "features_only", "head": "kept"}
    again = run.base.transfer(digits(), workdir=tmp_path / "two", **shot, **usual)
    old, new = (one.variables["params"] for one in (run.base, again.base))
    assert is_same(old["head"], new["head"]) and not is_same(old["stem"], new["stem"])
