"""Several tasks at once: weights and steps against numpy, trunks that are stitched, the study."""

import json
from typing import Any

import digits
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small  # noqa: F401 (keeps what is compiled)
import steps
from test_report import Page

import tl_jax
from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.chain.stitch import stitched
from tl_jax.data.tasks import load_task
from tl_jax.data.truths import one_hot, thinned
from tl_jax.errors import UserError
from tl_jax.runs.config import load_config
from tl_jax.studies import run as studies
from tl_jax.studies.multitask import study
from tl_jax.studies.multitask.verdicts import beside_single, delta
from tl_jax.train.objective import Now
from tl_jax.train.objectives import (
    Affinity,
    CrossEntropy,
    GradNorm,
    PCGrad,
    Tasks,
    Uncertainty,
    affinity,
)
from tl_jax.train.objectives.uncertainty import LOG_VARIANCES

RATE = 0.1  # of plain gradient descent
OTHERS = (("odd", 3),)
PLACES = ("head", "odd")


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-6)


# Two linear heads on one linear layer, in numpy


def linear(objective):
    """x (B, 4) to a shared layer of 3 to 2 and 3 logits, and what the objective adds besides."""
    trunk = Layer("shared", nn.Dense(3, use_bias=False), ("x",))
    network = Network((trunk, Layer("head", Classifier(2), ("shared",))))
    return network.with_layers(*objective.tails(network))


def batch(labelled=6):
    """Six examples; of the second task only the first `labelled` have labels, some of which count
    double.
    """
    rng = np.random.default_rng(0)
    own, other = rng.integers(0, 2, 6), rng.integers(0, 3, 6)
    rows = np.eye(3, dtype=np.float32)[other] * np.array([2, 1, 1, 2, 1, 1], np.float32)[:, None]
    rows[labelled:] = 0
    return steps.batch_of(
        rng.normal(size=(6, 4)).astype(np.float32),
        odd=rows,
        labels=np.int32(own),
        targets=np.eye(2, dtype=np.float32)[own],
        weights=np.float32([1, 1, 0.5, 1, 1, 1]),
        graded_labels=np.int32(own),
        graded_weights=np.ones(6, np.float32),
    )


def begun(network):
    return network.init(0, {"x": np.zeros((1, 4), np.float32)})


def kernels(params):
    """The three matrices of the network, in float64; the last row of a head's is its bias."""
    heads = [params[place]["Dense_0"] for place in PLACES]
    stacked = [np.vstack([head["kernel"], head["bias"]]) for head in heads]
    return [np.asarray(each, np.float64) for each in (params["shared"]["kernel"], *stacked)]


def losses_and_slopes(matrices, data):
    """Of each task the loss, and its gradients in the shared matrix and in its head's."""
    shared, *heads = matrices
    own = data["targets"] * data["weights"][:, None]
    x, found = np.asarray(data["inputs"]["x"], np.float64), []
    feature = np.hstack([x @ shared, np.ones((len(x), 1))])
    for head, rows in zip(heads, (own, data["odd"]), strict=True):
        logits = feature @ head
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        slope = (p * rows.sum(1, keepdims=True) - rows) / rows.sum()
        loss = -(rows * np.log(p)).sum() / rows.sum()
        found.append((loss, x.T @ (slope @ head[:-1].T), feature.T @ slope))
    return found


def descended(matrices, found, weights):
    """The matrices after a step of gradient descent on the weighted sum of the losses."""
    shared = matrices[0] - RATE * sum(w * each[1] for w, each in zip(weights, found, strict=True))
    own = zip(matrices[1:], found, weights, strict=True)
    return [shared, *(head - RATE * w * each[2] for head, each, w in own)]


def after(objective, batches, **options):
    """The first variables, and the state after a step of gradient descent on each batch."""
    network = linear(objective)
    recipe = steps.recipe(network, objective, optimizer="sgd(momentum=0.0)")
    start = begun(network)
    memory = objective.begin(None, batches[0])
    return start, steps.after(recipe, start, batches, memory=memory, rates=RATE, **options)


def test_a_task_alone_is_trained_on_its_own_loss():
    """As by a network that has no other task, whatever the number of the others."""
    alone = Tasks(others=OTHERS, weights=(1.0, 0.0)).begin(None, batch())["weights"]
    close(alone, [1, 0])
    close(Tasks(others=OTHERS, weights=(3.0, 1.0)).begin(None, batch())["weights"], [1.5, 0.5])


@pytest.mark.parametrize("weights", [(), (3.0, 1.0)])
def test_static_weights_are_relative_to_their_mean_and_examples_without_label_do_not_count(weights):
    data = batch(labelled=4)
    start, state = after(Tasks(others=OTHERS, weights=weights), [data])
    found = losses_and_slopes(kernels(start["params"]), data)
    wanted = descended(kernels(start["params"]), found, (1.5, 0.5) if weights else (1, 1))
    for one, other in zip(kernels(state.params), wanted, strict=True):
        close(one, other)
    alone = {n: a[:4] for n, a in data.items() if n != "inputs"}
    alone |= {"inputs": type(data["inputs"])(x=data["inputs"]["x"][:4])}
    close(losses_and_slopes(kernels(start["params"]), alone)[1][0], found[1][0])


def test_learned_variances_take_three_steps_as_in_numpy():
    objective, data = Uncertainty(others=OTHERS), batch()
    start, state = after(objective, [data] * 3, decay=0.0)
    matrices, s = kernels(start["params"]), np.full(2, -0.5)
    for _ in range(3):
        found = losses_and_slopes(matrices, data)
        losses = np.array([each[0] for each in found])
        matrices = descended(matrices, found, np.exp(-s) / 2)
        s = s - RATE * (1 - losses * np.exp(-s)) / 2
    close(state.params[LOG_VARIANCES]["s"], s)
    for one, other in zip(kernels(state.params), matrices, strict=True):
        close(one, other)


def test_a_variance_beyond_the_limit_counts_as_the_limit_and_is_not_decayed():
    objective, data = Uncertainty(others=OTHERS, limit=0.25), batch()
    start, state = after(objective, [data], decay=0.5)
    close(state.params[LOG_VARIANCES]["s"], [-0.5, -0.5])  # beyond it there is no slope
    close(state.sums["weight_odd"][0], np.exp(0.25) / 2)


def test_gradnorm_takes_three_steps_as_in_numpy():
    objective, data = GradNorm(others=OTHERS, shared="shared", alpha=1.5, rate=0.05), batch()
    start, state = after(objective, [data] * 3)
    matrices, w, first = kernels(start["params"]), np.ones(2), None
    for _ in range(3):
        found = losses_and_slopes(matrices, data)
        losses = np.array([each[0] for each in found])
        first = losses if first is None else first
        norms = np.array([np.linalg.norm(each[1]) for each in found])
        ratio = losses / first / np.mean(losses / first)
        target = np.mean(w * norms) * ratio**1.5
        matrices = descended(matrices, found, w)
        w = w - 0.05 * np.sign(w * norms - target) * norms
        w = 2 * w / w.sum()
    close(state.memory["weights"], w)
    assert abs(w[0] - w[1]) > 0.01
    for one, other in zip(kernels(state.params), matrices, strict=True):
        close(one, other)


def test_gradnorm_says_which_layers_learn():
    objective = GradNorm(others=OTHERS, shared="sharde")
    with pytest.raises(UserError, match="for GradNorm 'sharde'; did you mean 'shared'"):
        after(objective, [batch()])


def test_affinity_is_what_a_step_on_one_task_does_to_the_other_and_training_is_the_same():
    data = batch()
    start, state = after(Affinity(others=OTHERS, step=0.3), [data])
    shared, *heads = kernels(start["params"])
    before = losses_and_slopes([shared, *heads], data)
    for place, (_, slope, _) in zip(PLACES, before, strict=True):
        moved = losses_and_slopes([shared - 0.3 * slope, *heads], data)
        for other, one, two in zip(PLACES, before, moved, strict=True):
            close(state.sums[f"affinity_{place}_{other}"][0], 1 - two[0] / one[0])
    _, plain = after(Tasks(others=OTHERS), [data])
    jax.tree.map(close, state.params, plain.params)


def test_one_task_alone_is_cross_entropy():
    data = batch()
    objectives = Tasks(others=()), CrossEntropy()
    network = linear(objectives[0])
    start, found = begun(network), []
    for objective in objectives:
        recipe = steps.recipe(network, objective)
        memory = objective.begin(None, data)
        found.append(steps.after(recipe, start, [data] * 2, memory=memory).params)
    jax.tree.map(close, *found)
    predicted = {"head": jnp.asarray([[0.9, 0.1]] * 6)}
    single = {**data, "real": np.ones(6, np.float32)}
    scores = objectives[0].score(predicted, single)
    assert scores.pop("mean_accuracy") == scores["accuracy"]
    jax.tree.map(close, scores, objectives[1].score(predicted["head"], single))


def test_an_accuracy_is_of_the_examples_with_a_label():
    data = {**batch(labelled=4), "real": np.float32([1, 1, 1, 1, 1, 0])}
    right = {"head": np.eye(2)[data["labels"]], "odd": np.eye(3)[data["odd"].argmax(1)]}
    right["odd"][0] = 1 - right["odd"][0]
    scores = Tasks(others=OTHERS).score(jax.tree.map(jnp.asarray, right), data)
    assert [float(x) for x in scores["odd_accuracy"][:2]] == [3, 4]
    assert [float(x) for x in scores["mean_accuracy"][:2]] == [5 + 3, 5 + 4]
    data["weights"] = data["weights"] * np.float32([1, 0, 1, 1, 1, 1])
    scores = Tasks(others=OTHERS).score(jax.tree.map(jnp.asarray, right), data)
    assert [float(x) for x in scores["accuracy"][:2]] == [4, 4]
    assert [float(x) for x in scores["mean_accuracy"][:2]] == [4 + 3, 4 + 4]


def test_a_loss_that_is_of_no_example_has_not_fallen():
    before, after = np.float32([2.0, 0.0]), np.float32([1.5, 0.0])
    pairs = zip(jnp.array(before), jnp.array(after), strict=True)
    found = [affinity.fallen(*pair) for pair in pairs]
    assert [(float(term.sum), float(term.weight)) for term in found] == [(0.25, 1), (0, 0)]


def test_heads_do_not_hide_a_conflict_in_what_is_shared():
    """Trunks (1, 0) and (-1, 0.1), whose heads' gradients are ten times as long."""
    trunks = [np.float32([1, 0]), np.float32([-1, 0.1])]
    gradients = {
        "head": {"trunk": trunks[0], "head": np.float32([10]), "odd": np.float32([0])},
        "odd": {"trunk": trunks[1], "head": np.float32([0]), "odd": np.float32([10])},
    }
    found, _ = PCGrad(others=OTHERS).resolve(gradients, None, (), Now(jax.random.key(0), 0.0, ""))
    first = trunks[0] - trunks[0] @ trunks[1] / (trunks[1] @ trunks[1]) * trunks[1]
    second = trunks[1] - trunks[1] @ trunks[0] / (trunks[0] @ trunks[0]) * trunks[0]
    close(found["trunk"], first + second)
    close([*found["head"], *found["odd"]], [10, 10])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Tasks(others=OTHERS, weights=(1.0,)), "each of the tasks head, odd"),
        (lambda: Tasks(others=OTHERS, weights=(0.0, 0.0)), "and one above 0"),
        (lambda: Tasks(others=OTHERS, weights=(-1.0, 2.0)), "from 0 on"),
        (lambda: Tasks(others=("odd",)), "others= takes pairs of"),
        (lambda: Tasks(others=(("odd", 1),)), "classes of .odd. takes a whole number"),
        (lambda: Tasks(others=(("mean", 2),)), "others= takes different names, none of them mean"),
        (lambda: thinned(tl_jax.load_task("digits"), "", 5, seed=0), "at most 1; got 5"),
        (lambda: after(Tasks(others=(("od", 3),)), [batch()]), "truth 'od'; did you mean 'odd'"),
    ],
)
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()


# Cross-stitch


def pair():
    """Digits' small network with a second head, and one with a trunk for each of the two."""
    network = digits.network(parity=Classifier(2))
    trunk = ("conv1", "conv2", "feature")
    return network, trunk


def test_trunks_that_are_mixed_by_the_identity_are_two_networks():
    network, trunk = pair()
    found = stitched(network, ("head", "parity"), ("conv1", "feature"), trunk=trunk, share=1.0)
    assert set(found.copies) == {f"parity_{name}" for name in trunk}
    first, second = (network.init(seed, (1, 8, 8, 1)) for seed in (0, 1))
    whole = found.begun(first, seed=0, example=(1, 8, 8, 1))
    same_as = {new: whole["params"][new] for new in found.copies}
    jax.tree.map(close, same_as, {new: first["params"][old] for new, old in found.copies.items()})
    own = {new: old for new, old in found.copies.items()} | {"parity": "parity"}
    for kind, trees in whole.items():  # as if the second trunk had learned something else
        trees |= {new: second[kind][old] for new, old in own.items() if old in second[kind]}
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    for place, alone in (("head", first), ("parity", second)):
        wanted = network.apply(alone, x, stop=place).output
        close(found.network.apply(whole, x, stop=place).output, wanted)


def test_a_mix_is_the_sum_by_hand():
    first = Layer("first", nn.Dense(2, use_bias=False), ("x",))
    heads = (Layer(name, Classifier(2), ("first",)) for name in PLACES)
    found = stitched(Network((first, *heads)), PLACES, ("first",), trunk=("first",), share=0.75)
    assert found.network.names == (
        *("first", "odd_first", "first_mixed", "odd_first_mixed"),
        *PLACES,
    )
    ones = np.eye(2, dtype=np.float32)
    params = {
        "first": {"kernel": 2 * ones},
        "odd_first": {"kernel": 10 * ones},
        **{name: {"Dense_0": {"kernel": ones, "bias": 0 * ones[0]}} for name in PLACES},
    }
    fresh = found.network.init(0, {"x": ones}, found.mixes)["params"]
    close(fresh["odd_first_mixed"]["weights"], [0.25, 0.75])
    x = np.float32([[1, 0]])
    both = {"params": {**params, **fresh}}
    close(found.network.apply(both, x, stop="head").output, [[0.75 * 2 + 0.25 * 10, 0]])
    close(found.network.apply(both, x, stop="odd").output, [[0.25 * 2 + 0.75 * 10, 0]])
    rates = found.rates({"first": 0.5, "head": 1.0, "odd": 1.0}, 100.0)
    assert rates == dict.fromkeys(PLACES, 1.0) | {
        **dict.fromkeys(("first", "odd_first"), 0.5),
        **dict.fromkeys(found.mixes, 50.0),
    }


def test_layers_below_the_trunk_stay_common():
    network, _ = pair()
    found = stitched(network, ("head", "parity"), ("feature",), trunk=("feature",))
    assert set(network.names) | {"parity_feature", "feature_mixed", "parity_feature_mixed"} == set(
        found.network.names
    )
    with pytest.raises(UserError, match="place to stitch at 'conv2'; known: feature"):
        stitched(network, ("head", "parity"), ("conv2",), trunk=("feature",))


# Truths


def test_further_truths_are_those_that_are_asked_for():
    task = tl_jax.load_task("digits", seed=3, truths=("parity", "turned", "random(5)"))
    plain = tl_jax.load_task("digits", seed=3)
    np.testing.assert_array_equal(task.parity.argmax(1), plain.labels % 2)
    assert task.further["random"].classes == tuple("01234") and task.random.shape == (1797, 5)
    for index in (0, 5, 1000):
        turns = int(task.turned[index].argmax())
        np.testing.assert_array_equal(task.open(index), np.rot90(plain.open(index), turns))
    assert task.fingerprint != plain.fingerprint and "parity" not in plain.truth
    assert 0.2 < task.turned.mean(0).min() < task.turned.mean(0).max() < 0.3


def test_labels_are_taken_away_from_what_trains_and_chooses():
    task = thinned(tl_jax.load_task("digits", truths=("parity",)), "parity", 0.1, seed=0)
    counts = {split: int(task.parity[rows].sum()) for split, rows in task.splits.items()}
    sizes = {split: len(rows) for split, rows in task.splits.items()}
    assert counts["test"] == sizes["test"]
    assert all(counts[split] == round(0.1 * sizes[split]) for split in ("train", "val"))
    own = thinned(task, "", 0.5, seed=0)
    assert own.weights[own.splits["val"]].sum() == round(0.5 * sizes["val"])
    np.testing.assert_array_equal(one_hot(np.array([1, -1]), ("a", "b")).rows, [[0, 1], [0, 0]])


def test_solar_cells_have_a_type_and_a_confidence():
    task = tl_jax.load_task("elpv", truths=("cell", "confidence"))
    assert task.cell.sum(0).tolist() == [1074, 1550]  # labels file of the package
    assert task.confidence.sum(0).tolist() == [2223, 401]
    few = tl_jax.load_task("elpv", only=("defective", "functional"), truths=("cell",), per_class=9)
    assert len(few.cell) == len(few.ids)


@pytest.mark.parametrize(
    ("truths", "said"),
    [
        (("party",), "truth of 'digits' 'party'; did you mean 'parity'"),
        (("parity", "parity"), "each once"),
        (("random(1)",), "random: classes= takes a whole number, at least 2"),
        ("parity", "truths= takes a list of names"),
    ],
)
def test_truths_that_are_none_are_refused(truths, said):
    with pytest.raises(UserError, match=said):
        tl_jax.load_task("digits", truths=truths)


def test_rows_must_be_as_many_as_examples():
    with pytest.raises(UserError, match="has 1797 examples, and 10 rows of 'parity'"):
        digits.source().with_truth(parity=np.zeros((10, 2)))


def test_a_transfer_learns_all_tasks_and_gives_a_base_of_its_own(tmp_path):
    base = tl_jax.load_base("alexnet_small", "random:0").cut("conv1")
    task = tl_jax.load_task("digits", per_class=8, truths=("parity",))
    options = {"train_head": {"epochs": 1}, "cache": None}
    tasks = Tasks(others=(("parity", 2),))
    run = base.transfer(task, plan="head_only", objective=tasks, workdir=tmp_path, **options)
    # The other's head learns where the own head learns alone.
    (phase,) = run.result["plan"]["phases"]
    assert phase["trained_parameters"] == 8 * (10 + 2) + 10 + 2
    assert {"accuracy", "f1", "parity_accuracy", "mean_accuracy"} <= run.test.keys()
    assert run.base.predict([task.open(0)]).shape == (1, 10) and run.report.exists()


# The study


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    found = load_config("configs/multitask_digits.py").unlock()
    found.task.truths = ("turned",)
    found.task.per_class, found.cache = 8, str(tmp_path_factory.mktemp("cache"))
    found.settings.cut, found.settings.batch_size = "conv1", 32
    found.settings.tune.epochs = 2
    found.methods, found.stitched_at = ("single", "equal", "gradnorm", "cross_stitch"), ("conv1",)
    found.variants = {"few": {"labels": {"turned": 0.5}}}
    return found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"variants": {"few": {"labls": {}}}}, "variant 'few' 'labls'; did you mean 'labels'"),
        ({"variants": {"few": {"seeds": (7,)}}}, "unknown setting of the variant 'few' 'seeds'"),
        ({"factors": (-3.0,)}, "factors= takes numbers above 0"),
        ({"stitch_share": 3.0}, "stitch_share= takes a share"),
        ({"alpha": -1.0}, "alpha= takes a number from 0 on"),
        ({"alpha": float("inf")}, "alpha= takes a number from 0 on"),
        ({"factors": (float("inf"),)}, "factors= takes numbers above 0"),
        ({"stitched_at": ()}, "cross_stitch mixes the outputs of layers: name them"),
        ({"stitch_rates": ()}, "stitch_rates= takes a list of one or more"),
        ({"variants": {"plain": {}}}, "variants=plain is the config as it is"),
    ],
)
def test_a_study_that_cannot_be_is_refused(changes, said):
    config = load_config("configs/multitask_digits.py").unlock()
    config.update(changes)
    with pytest.raises(UserError, match=said):
        study.check(config)


def test_labels_that_were_taken_away_choose_nothing():
    task: Any = load_task("digits", truths=("parity",), per_class=20)
    task = thinned(task, "", 0.3, seed=0)
    val = task.splits["val"]
    labelled = task.weights[val] > 0
    assert 0 < labelled.sum() < len(val)
    wrong = (task.labels[val] + 1) % 10
    said: dict[str, Any] = {
        "head": np.eye(10)[np.where(labelled, task.labels[val], wrong)],
        "parity": task.truth["parity"][val],
    }
    found = Tasks(others=(("parity", 2),)).finish(said, task, val)
    assert found["accuracy"] == found["parity_accuracy"] == found["mean_accuracy"] == 1


def test_a_truth_with_other_classes_is_refused():
    with pytest.raises(UserError, match="others= says 3 classes of 'parity', and the task has"):
        tl_jax.transfer(
            tl_jax.load_base("alexnet_small", "random:0"),
            load_task("digits", truths=("parity",), per_class=20),
            objective=Tasks(others=(("parity", 3),)),
            plan="full",
        )


@pytest.fixture(scope="module")
def done(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("multitask")
    return studies.run("multitask", config, workdir, name="multitask")[0], workdir


@pytest.mark.slow
def test_each_task_stands_beside_its_own_network(done):
    result, workdir = done
    rows = {(row["variant"], row["method"]): row for row in result["rows"]}
    assert list(rows) == [
        *(("plain", method) for method in ("single", "equal", "gradnorm", "cross_stitch")),
        *(("few", method) for method in ("single", "equal")),
    ]
    for row in rows.values():
        assert list(row["tasks"]) == ["head", "turned"]
        for figures in row["tasks"].values():
            assert figures["best_val"] >= figures["val"] - 1e-6 and 1 <= figures["best_epoch"] <= 2
    assert rows["plain", "single"]["parameters"] == 2 * rows["plain", "equal"]["parameters"]
    assert len(rows["plain", "single"]["tried"]) == 2
    assert len(rows["plain", "equal"]["affinity"]) == 4 and not rows["plain", "single"]["affinity"]
    weights = rows["plain", "gradnorm"]["weights"].values()
    assert sum(weights) == pytest.approx(2, rel=1e-3) and len({*weights}) == 2
    assert {verdict["verdict"] for verdict in result["verdicts"]} == {"cannot tell"}
    assert len(result["verdicts"]) == 2 * (3 + 1)
    page = Page((workdir / "report.html").read_text("utf-8"))
    for words in ("Several tasks at once", "Condition: few", "labels.turned is 0.5",
                  "What the mean hides", "Which task helps which"):  # fmt: skip
        assert words in page.text
    table = (workdir / "tasks_plain.csv").read_text().splitlines()
    test = rows["plain", "equal"]["tasks"]["turned"]["test"]
    assert float(table[2].split(",")[2]) == pytest.approx(test)


@pytest.mark.slow
def test_a_study_that_was_stopped_goes_on_to_the_same_result(config, done, tmp_path, monkeypatch):
    left = iter([None] * 2)
    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(study.interrupt, "check", lambda: next(left))
        study.compute(config, tmp_path)
    kept = (tmp_path / "cells.jsonl").read_text().splitlines()
    again = json.loads(json.dumps(study.compute(config, tmp_path)))
    assert len(kept) == 2 and (tmp_path / "cells.jsonl").read_text().splitlines()[:2] == kept
    assert again["rows"] == done[0]["rows"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task.truths": ()}, "'plain' has one task only: truths= names the others"),
        ({"methods": ("single", "gradnrom")}, "method 'gradnrom'; did you mean 'gradnorm'"),
        ({"methods": ("equal",)}, "methods= needs 'single'"),
        ({"stitched_at": ("conv",)}, "place to stitch at 'conv'; did you mean 'conv1' or 'conv2'"),
        ({"shared": "conv9"}, "for GradNorm 'conv9'; did you mean 'conv1'"),
        ({"settings.plan": "head_only"}, "tasks share no layer that learns"),
        (
            {"settings.plan": "fine_tune_top", "settings.from_layer": "conv2", "shared": "conv1"},
            "that all tasks share, for GradNorm 'conv1'; did you mean 'conv2'",
        ),
        ({"labels": {"turnd": 0.1}}, "task in labels 'turnd'; did you mean 'turned'"),
    ],
)
def test_a_config_that_is_none_is_said_in_a_line(config, changes, said):
    mine = config.copy_and_resolve_references()
    with mine.unlocked():
        mine.settings.cut = "conv2"
        for name, value in changes.items():
            *above, last = name.split(".")
            level = mine
            for part in above:
                level = level[part]
            level[last] = value
    with pytest.raises(UserError, match=said):
        study.check(mine)
        study.data(mine)


def rows_of(gains):
    """Rows of a single network at 0.5 and 0.8 in each seed, and of a method with gains to these."""
    single = {"head": {"test": 0.5}, "odd": {"test": 0.8}}
    for seed, (own, other) in enumerate(gains):
        mine = {"head": {"test": 0.5 + own}, "odd": {"test": 0.8 + other}}
        yield {"variant": "plain", "seed": seed, "method": "single", "tasks": single}
        yield {"variant": "plain", "seed": seed, "method": "equal", "tasks": mine}


def test_gains_and_verdicts_by_hand():
    gains = [(0.05 + seed / 1000, -0.08) for seed in range(5)]
    rows = list(rows_of(gains))
    np.testing.assert_allclose(
        delta(rows, "equal"), [(g / 0.5 - 0.1) / 2 for g, _ in gains], atol=1e-9
    )
    own, other = beside_single(rows, {"plain": 0.0})
    assert (own["task"], own["verdict"]) == ("head", "helps")
    assert (other["task"], other["verdict"]) == ("odd", "hurts")
    assert own["difference"] == pytest.approx(0.052) and own["pairs"] == 5
    few = beside_single(list(rows_of(gains[:4])), {"plain": 0.0})
    assert {one["verdict"] for one in few} == {"cannot tell"}
