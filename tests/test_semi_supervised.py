"""Learning from examples without labels beside those with: losses, sources, what is refused."""

import dataclasses
import functools

import digits
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import steps
import texts

import tl_jax
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known, Layer
from tl_jax.data import augment
from tl_jax.data.subset import left_out
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.errors import UserError
from tl_jax.runs import pose, settings
from tl_jax.train import fold, objectives
from tl_jax.train.inputs import asked, for_plan
from tl_jax.train.objective import Now, mean
from tl_jax.train.objectives import (
    CrossEntropy,
    FixMatch,
    FlexMatch,
    MeanTeacher,
    PiModel,
    PseudoLabel,
)
from tl_jax.train.objectives.flex_match import learned
from tl_jax.train.objectives.semi_supervised import Views, twice
from tl_jax.train.work import PhaseRun

NAMES = ("pseudo_label", "pi_model", "mean_teacher", "fix_match", "flex_match")
CLASSES = 3
NETWORK = Network((Layer("body", nn.Dense(4), ("x",)), Layer("head", nn.Dense(CLASSES))))
VIEWS = ("inputs", "a", "b", "weak", "strong")

close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)


# Losses, beside what NumPy says


def variables(seed: int):
    return NETWORK.init(seed, {"x": jax.ShapeDtypeStruct((1, 5), jnp.float32)})


def batch(seed: int, rows: int = 6, free: int = 9):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 5)).astype(np.float32)
    truth = unweighted(rng.integers(0, CLASSES, rows), CLASSES)
    truth["weights"] = rng.uniform(size=rows).astype(np.float32)
    free = {name: Known(x=4 * rng.normal(size=(free, 5)).astype(np.float32)) for name in VIEWS}
    return {"labelled": steps.batch_of(x, **truth), "unlabelled": free}


def probabilities(weights, known):
    """By hand, in float64."""
    h = np.asarray(known["x"], np.float64)
    for name in NETWORK.names:
        h = h @ weights["params"][name]["kernel"] + weights["params"][name]["bias"]
    return np.exp(h) / np.exp(h).sum(1, keepdims=True)


def terms(objective, weights, batch, *, average=None, memory=(), progress=0.1):
    """Scaled means by name, and what is logged."""
    views = {"average": (average["params"], {})} if average else {}
    net = Net(NETWORK, weights["params"], {}, train=NETWORK.names, views=views)
    loss = objective.loss(net, batch, memory, Now(jax.random.key(0), progress, "all"))
    minimised = {name: term.scale * mean(term) for name, term in loss.terms.items()}
    return minimised, {name: mean(term) for name, term in loss.logs.items()}


def sure_entropy(p, q, threshold):
    """Mean over all of the cross entropy of p to the likeliest class of q where that is sure."""
    top = q.argmax(1)
    sure = q.max(1) >= np.broadcast_to(threshold, CLASSES)[top]
    return -(np.log(p[np.arange(len(p)), top]) * sure).mean(), sure.mean()


@pytest.mark.parametrize("seed", range(4))
def test_the_losses_are_those_of_the_papers(seed):
    now, teacher, given = variables(seed), variables(seed + 1), batch(seed)
    free = given["unlabelled"]
    found = {name: probabilities(now, free[name]) for name in VIEWS}
    labelled = given["labelled"]
    losses = -np.log((probabilities(now, labelled["inputs"]) * labelled["targets"]).sum(1))
    supervised = (losses * labelled["weights"]).sum() / labelled["weights"].sum()

    def check(objective, wanted, sure=None, **more):
        minimised, logs = terms(objective, now, given, **more)
        close(minimised["loss"], supervised)
        close(minimised["unlabelled"], wanted)
        if sure is not None:
            close(logs["sure"], sure)

    loss, sure = sure_entropy(found["inputs"], found["inputs"], 0.7)
    check(PseudoLabel(threshold=0.7, weight=3.0, ramp=0.4), 3 * 0.25 * loss, sure)
    loss, sure = sure_entropy(found["strong"], found["weak"], 0.7)
    check(FixMatch(threshold=0.7), loss, sure)
    beta = np.array([1.0, 0.5, 0.0], np.float32)
    loss, sure = sure_entropy(found["strong"], found["weak"], 0.7 * beta / (2 - beta))
    check(FlexMatch(threshold=0.7), loss, sure, memory=jnp.asarray(beta))
    gap = ((found["a"] - found["b"]) ** 2).mean()
    check(PiModel(weight=10.0, ramp=0.2), 10 * 0.5 * gap)
    gap = ((found["a"] - probabilities(teacher, free["b"])) ** 2).mean()
    check(MeanTeacher(weight=50.0, ramp=0.0), 50 * gap, average=teacher)


def test_the_weight_rises_to_its_whole():
    objective = PiModel(weight=8.0, ramp=0.4)
    said = [objective.scale(Now(None, progress, "all")) for progress in (0.0, 0.1, 0.4, 0.9)]
    close(said, [0, 2, 8, 8])
    assert PiModel(weight=8.0, ramp=0.0).scale(Now(None, 0.0, "all")) == 8.0


@pytest.mark.slow
def test_a_label_teaches_the_strong_view_and_not_the_weak_one():
    """The gradient is that of cross entropy to labels which do not depend on the weights."""
    weights, given = variables(3), batch(3)
    given["labelled"]["weights"][:] = 0
    free = given["unlabelled"]
    labels = probabilities(weights, free["weak"]).argmax(1)

    def ours(params):
        return sum(terms(FixMatch(threshold=0.0), {"params": params}, given)[0].values())

    def plain(params):
        logits = Net(NETWORK, params, {})(free["strong"], "head")
        return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels].mean()

    jax.tree.map(close, jax.grad(ours)(weights["params"]), jax.grad(plain)(weights["params"]))


def test_thresholds_follow_what_is_learned():
    # 6 of 20 are sure: more are not than are of any class, so beta is of those 14.
    close(learned(jnp.array([4.0, 2.0, 0.0]), 20.0), [4 / 14, 2 / 14, 0])
    close(learned(jnp.array([10.0, 5.0, 1.0]), 20.0), [1, 0.5, 0.1])
    close(learned(jnp.zeros(3), 0.0), [0, 0, 0])
    close(FlexMatch(threshold=0.9).thresholds(jnp.array([1.0, 0.5, 0.0])), [0.9, 0.3, 0])


def test_the_teacher_is_the_mean_of_the_first_steps():
    of = steps.recipe(NETWORK, MeanTeacher(rate=0.0))
    batches, start = [batch(seed) for seed in range(4)], variables(0)
    passed = [steps.after(of, start, batches[: n + 1]) for n in range(4)]
    wanted = jax.tree.map(lambda *a: np.mean(a, 0), *(one.params for one in passed))
    jax.tree.map(close, passed[-1].average["params"], wanted)


@pytest.mark.parametrize("norm", [(), digits.network().names])
def test_the_teacher_normalises_as_the_network_does(norm):
    start, images = digits.begun(digits.network()), digits.source().image
    known = Known(image=digits.PREPROCESSING([images(row) for row in range(8)]))
    both = {"labelled": {"inputs": known, **unweighted(np.arange(8), 10)}}
    both["unlabelled"] = {"inputs": known}  # the same, so joint statistics are those of its own
    views = {"average": (start["params"], start["batch_stats"])}
    net = Net(digits.network(), *start.values(), norm=norm, views=views)
    loss = MeanTeacher().loss(net, both, (), Now(jax.random.key(0), 0.5, "all"))
    assert mean(loss.terms["unlabelled"]) < 1e-9


# Views


def test_views_are_drawn_apart_and_labels_follow_their_images():
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 1)).astype(np.uint8)
    both = {
        "labelled": steps.batch_of(images, "image", **unweighted(np.arange(5), 5)),
        "unlabelled": steps.batch_of(images, "image"),
    }
    made = twice(augment.make("shift(2)"))(jax.random.key(0), both)
    a, b, own = (made["unlabelled"]["a"], made["unlabelled"]["b"], made["labelled"]["inputs"])
    assert not np.array_equal(a["image"], b["image"])
    assert not np.array_equal(a["image"], own["image"])
    np.testing.assert_array_equal(made["unlabelled"]["inputs"]["image"], images)
    np.testing.assert_array_equal(made["labelled"]["labels"], np.arange(5))
    made = FixMatch().augmented(augment.make("flip(1)"))(jax.random.key(0), both)
    np.testing.assert_array_equal(made["labelled"]["inputs"]["image"], images)  # no weak view
    np.testing.assert_array_equal(made["unlabelled"]["weak"]["image"], images)
    np.testing.assert_array_equal(made["unlabelled"]["strong"]["image"], images[:, :, ::-1])
    assert FixMatch().augmented(None) == Views(
        None, (("weak", None), ("strong", augment.make("randaugment")))
    )


# The two sources of one task


@functools.cache
def few():
    """4 labels a class, and 1 for validation."""
    return tl_jax.load_task("digits", per_class=4)


@functools.cache
def base():
    found = tl_jax.load_base("efficientnet_lite0", "random:0")
    return found.cut("stage1_block1").resized(16)


def posed(task, sources=None, **given):
    own, options = settings.divided({"plan": "full", **given})
    return pose.posed(base(), task, own, options, sources or {})


@pytest.mark.parametrize("name", NAMES)
def test_a_task_with_a_budget_is_two_sources(name):
    task = few()
    problem = posed(task, objective=name).problem
    unlabelled, labelled = problem.sources.values()
    assert list(problem.sources) == ["unlabelled", "labelled"] and labelled is problem.task
    held = {*task.splits["val"], *task.splits["test"]}
    assert set(unlabelled.splits["train"]) == set(range(len(task.ids))) - held
    assert not unlabelled.truth and not unlabelled.classes
    assert problem.batch_sizes == {"unlabelled": 32, "labelled": 32}
    assert problem.epoch_steps == len(unlabelled.splits["train"]) // 32 > 1


def test_given_sources_lose_their_labels_too():
    sources = {"labelled": few(), "unlabelled": digits.source()}
    problem = posed(few(), sources, objective="fix_match").problem
    assert list(problem.sources) == ["unlabelled", "labelled"]
    assert not problem.sources["unlabelled"].truth
    wanted = digits.source().splits["train"]
    np.testing.assert_array_equal(problem.sources["unlabelled"].splits["train"], wanted)


@pytest.mark.slow
def test_labels_of_the_unlabelled_change_nothing(tmp_path, caplog):
    task, found = few(), []
    free = np.setdiff1d(left_out(task).splits["train"], task.splits["train"])
    other = {name: array.copy() for name, array in task.truth.items()}
    for array in other.values():
        array[free] = np.roll(array[free], 7, axis=0)
    assert (other["labels"] != task.labels).any()
    how = {"objective": "flex_match(threshold=0.3)", "tune": {"epochs": 2}}
    how["cache"] = tmp_path / "cache"
    caplog.set_level("INFO", "tl_jax")
    for name, one in {"own": task, "other": task.with_truth(**other)}.items():
        run = tl_jax.transfer(base(), one, workdir=tmp_path / name, plan="full", **how)
        assert run.history[-1]["train_sure"] > 0
        assert run.result["sources"] == {"unlabelled": 1338, "labelled": 40}
        found.append((run.base.variables, run.test["accuracy"]))
    jax.tree.map(np.testing.assert_array_equal, *found)
    stored = [line for line in caplog.messages if "on disk in" in line]
    assert stored and all(line.count("images: ") == 1 for line in stored)  # once for both sources


# What each reads from the store, and what the pass before an epoch counts


def semi(objective, names=(), **given):
    mine = digits.problem(objective, digits.network(), names, **given)
    task = dataclasses.replace(digits.source(), splits=few().splits)
    sources = {"unlabelled": left_out(task), "labelled": task}
    return dataclasses.replace(mine, task=task, sources=sources)


READS = {
    "pseudo_label": "feature",
    "pi_model": "feature",
    "mean_teacher": "feature",
    "fix_match": None,
    "flex_match": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_phase_reads_the_highest_place_that_its_views_allow(name):
    for options, wanted in (({}, READS[name]), ({"augment": "shift(1)"}, None)):
        mine = semi(objectives.make(name), ("head",), **options)
        places = asked(mine, mine.plan.phases[0], digits.begun(digits.network())).places
        assert next(iter(places.found), None) == wanted
        assert ("asks for 'image'" in places.why) == (wanted is None)


@pytest.mark.slow
def test_the_store_gives_the_weights_that_pixels_give(tmp_path):
    mine = semi(MeanTeacher(), ("feature", "head"), optimizer="sgd", epochs=1)
    start = digits.begun(digits.network())
    found, _, inputs = digits.run(mine, start, tmp_path / "stored")
    assert {one.start for one in inputs.others.values()} == {"conv2"}
    pixels, *_ = digits.run(mine, start, tmp_path / "pixels", stored=False)
    jax.tree.map(close, found, pixels)


def test_classes_are_counted_over_the_unlabelled_before_an_epoch():
    mine, start = semi(FlexMatch(threshold=0.15)), digits.begun(digits.network())
    inputs = for_plan(mine, test_views="none", cache=None, dtype="float32")
    phase = mine.plan.phases[0]
    work = PhaseRun(mine, phase, 0, inputs(phase, start), start)
    batches = [one["unlabelled"]["inputs"] for one in work.batches(0, augment=False)]
    x = np.concatenate([digits.PREPROCESSING.normalise(one["image"]) for one in batches])
    logits = digits.network().apply(start, x).output
    p = np.asarray(jax.nn.softmax(logits))
    counts = np.bincount(p.argmax(1)[p.max(1) >= 0.15], minlength=10)
    assert 0 < counts.sum() < len(p)
    counted = functools.partial(fold.fold, work, start, start)
    found = mine.objective.refresh(counted, jnp.zeros(10), 0)
    close(found, counts / max(counts.max(), len(p) - counts.sum()))


@pytest.mark.slow
def test_images_without_labels_help(tmp_path):
    """Over three seeds, beside as many steps on the same 40 labelled ones, augmented alike."""
    gains = []
    for seed in range(3):
        options = {"seed": seed, "augment": "shift(1)", "schedule": "cosine"}
        mine = semi(FixMatch(threshold=0.8), epochs=6, **options)
        alone = semi(PseudoLabel(), epochs=6 * mine.epoch_steps, **options)
        alone = dataclasses.replace(alone, objective=CrossEntropy(), sources={})
        start, found = digits.begun(digits.network(), seed=seed), []
        for one in (alone, mine):
            trained, *_ = digits.run(one, start, tmp_path / f"{type(one.objective).__name__}{seed}")
            found.append(digits.scores(one, trained)["accuracy"])
        gains.append(found[1] - found[0])
    assert np.mean(gains) > 0.02


# Texts


def of_texts(objective, **given):
    """A task of texts of which a half has no label."""
    task = texts.task()
    rows = task.splits["train"]
    task = dataclasses.replace(task, splits={**task.splits, "train": rows[: len(rows) // 2]})
    given = {"plan": "head_only", "train_head": {"epochs": 1}, "cache": None} | given
    return tl_jax.transfer(texts.base(), task, objective=objective, **given)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["pi_model", "mean_teacher"])
def test_dropout_alone_tells_the_views_of_a_text_apart(objective):
    without, noisy = (of_texts(objective, dropout=rate).history[0] for rate in (0.0, 0.5))
    # In the first step, which is the only one, the teacher is the network.
    assert without["train_unlabelled"] < 1e-9 < 1e-6 < noisy["train_unlabelled"]


@pytest.mark.parametrize("objective", ["fix_match", "flex_match"])
def test_texts_have_no_strong_view(objective):
    with pytest.raises(UserError, match="Match makes views of images, and the task has texts"):
        of_texts(objective)


# What is refused


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("fix_match(threshold=2)", "threshold= takes a share from 0 to 1"),
        ("pi_model(weight=-1)", "weight= takes a number from 0 on"),
        ("pseudo_label(ramp=3)", "ramp= takes a share of the phase"),
        ("mean_teacher(rate=3)", "rate= takes a share"),
        ("fix_match(weak='flop')", "unknown augmentation 'flop'; did you mean 'flip'"),
        ("fix_match(tau=0.9)", "unknown option of objective 'fix_match' 'tau'"),
        ("fixmatch", "unknown objective 'fixmatch'; did you mean 'fix_match'"),
        ("fix_match+l2_sp", "'fix_match' takes no further terms"),
    ],
)
def test_settings_that_cannot_be_are_refused(spec, said):
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        objectives.make(spec)


def test_a_task_whose_labels_are_all_used_is_refused():
    with pytest.raises(UserError, match="'digits' outside val and test has one: .* per_class="):
        posed(digits.source(), objective="pi_model")


@pytest.mark.parametrize("sources", [{"labelled"}, {"labelled", "unlabeled"}])
def test_other_sources_are_refused(sources):
    with pytest.raises(UserError, match="PiModel takes the sources labelled and unlabelled; got"):
        posed(few(), dict.fromkeys(sources, few()), objective="pi_model")
