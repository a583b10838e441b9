"""Adaptation between domains: values of objectives, what they may not see, what they refuse."""

import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import steps
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.chain import heads
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known, Layer
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.models.layers import NormRelu
from tl_jax.train import objectives
from tl_jax.train.objective import Now, mean
from tl_jax.train.objectives import self_training
from tl_jax.train.objectives.conditional_adversarial import LARGEST, ConditionalDiscriminator

ROOT = pathlib.Path(__file__).parent.parent
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
    now = Now(jax.random.key(0), progress, turn, 100)
    loss = objectives.make(spec).loss(net(spec, **how), batch, memory, now)
    return {name: float(term.scale * mean(term)) for name, term in loss.terms.items()}


def seen(spec: str, batch, *wanted: str, norm: str = "joint", **how):
    """Values of the source and of the target, in float64."""
    given = [batch[name]["inputs"]["x"] for name in ("source", "target")]
    own = net(spec, norm=("feature",), **how)
    if norm == "separate":
        values = [own(Known(x=x), wanted) for x in given]
    else:
        both = own(Known(x=np.concatenate(given)), wanted)
        values = zip(*(np.split(np.asarray(v), [len(given[0])]) for v in both), strict=True)
    return [[np.asarray(value, np.float64) for value in side] for side in values]


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
    found = jax.grad(lambda z: jnp.linalg.svd(jax.nn.softmax(z), compute_uv=False).sum())
    assert np.isfinite(found(jnp.zeros((B, C)))).all()


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
    params = module.init(jax.random.key(0), f, z)
    keys = jax.random.split(jax.random.key(0))
    r, s = (jax.random.normal(k, (n, 7)) for k, n in zip(keys, (f.shape[1], C), strict=True))
    joint = (f @ np.asarray(r)) * (scipy.special.softmax(z, -1) @ np.asarray(s)) / np.sqrt(7)
    wanted = discriminated(params["params"]["product"], joint)
    close(module.apply(params, f, z)[:, 0], wanted, rtol=1e-3)
    whole = module.init(jax.random.key(0), f[:, :-1], z)["params"]["product"]
    assert whole["Dense_0"]["kernel"].shape[0] == LARGEST // C * C


def test_a_random_product_keeps_inner_products_on_average():
    """E[(Rf * Sp) . (Rg * Sq)] / d = (f . g) (p . q), which is why it may stand for the whole."""
    rng = np.random.default_rng(0)
    f, g = rng.normal(size=(2, 6))
    p, q = rng.dirichlet(np.ones(4), 2)
    r, s = rng.normal(size=(6, 100_000)), rng.normal(size=(4, 100_000))
    found = ((f @ r) * (p @ s) * (g @ r) * (q @ s)).mean()
    assert found == pytest.approx((f @ g) * (p @ q), abs=0.05)


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

        of[ceiling] = jax.grad(domain)(variables(spec)["params"])
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
    from tl_jax.train.objectives.margin_disparity import log_rest

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
        for batch in parts:
            total = each(net(spec), batch, total)
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
    from tl_jax.train.objectives.shot import nearest

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
