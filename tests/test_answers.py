"""Labels, ranks and numbers in place of one class: losses and metrics by hand and by scikit-learn,
and a run from a table to its predictions.
"""

import dataclasses
import functools
import json
import pathlib

import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
import small
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import tl_jax
from tl_jax.base import predict
from tl_jax.chain import answers
from tl_jax.chain.places import Known
from tl_jax.data.task import Task
from tl_jax.errors import UserError
from tl_jax.stats import metrics
from tl_jax.train import objectives
from tl_jax.train.objective import Now, mean

N, C = 9, 3
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (N, C)).astype(np.float32)
WEIGHTS = RNG.uniform(0.2, 2, N).astype(np.float32)
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


class Fixed:
    """A network whose output is known."""

    def __init__(self, outputs):
        self.outputs = outputs

    def __call__(self, inputs, wanted, train=True):
        assert wanted == "head"
        return self.outputs


def loss_of(objective, outputs, **truth) -> float:
    batch = {"inputs": Known(), "weights": WEIGHTS, **truth}
    now = Now(jax.random.key(0), 0.5, "all")
    (term,) = objective.loss(Fixed(outputs), batch, (), now).terms.values()
    return float(mean(term))


# Losses


def test_labels_lose_the_mean_over_those_that_are_known():
    targets = (RNG.uniform(size=(N, C)) < 0.5).astype(np.float32)
    targets[0, 1], targets[3] = np.nan, np.nan
    p, of_examples = scipy.special.expit(LOGITS.astype(float)), {}
    for row in range(N):
        known = [c for c in range(C) if not np.isnan(targets[row, c])]
        said = [p[row, c] if targets[row, c] else 1 - p[row, c] for c in known]
        if known:
            of_examples[row] = -np.mean(np.log(said))
    weights = [WEIGHTS[row] for row in of_examples]
    objective = objectives.make("several_labels")
    wanted = np.average(list(of_examples.values()), weights=weights)
    close(loss_of(objective, LOGITS, targets=targets), wanted)
    batch = {"targets": targets, "weights": WEIGHTS, "real": np.ones(N, np.float32)}
    close(float(mean(objective.score(np.float32(p), batch)["loss"])), wanted)


@pytest.mark.parametrize("huber", [0.0, 0.7])
def test_numbers_lose_by_their_distance_in_spreads(huber):
    targets = RNG.normal(50, [1, 10, 0.1], (N, C)).astype(np.float32)
    targets[2, 0] = np.nan
    task = numbers_task(targets)
    objective = objectives.make(f"regression(huber={huber})").fitted(task)
    train = targets[task.splits["train"]].astype(float)
    close(objective.scale, np.nanstd(train, 0))
    error = LOGITS - (targets - np.nanmean(train, 0)) / np.nanstd(train, 0)
    far = (np.abs(error) > huber) & (huber > 0)
    own = np.where(far, huber * (np.abs(error) - huber / 2), error**2 / 2)
    wanted = np.average(np.nanmean(own, 1), weights=WEIGHTS)
    np.testing.assert_allclose(loss_of(objective, LOGITS, targets=targets), wanted, rtol=1e-4)
    said, _ = objective.predict(Fixed(LOGITS), {"inputs": Known()}, ())
    np.testing.assert_allclose(said, LOGITS * objective.scale + objective.mean, rtol=1e-5)


def numbers_task(targets) -> Task:
    splits = dict(zip(("train", "val", "test"), np.split(np.arange(N), [5, 7]), strict=True))
    truth = {"targets": targets, "weights": WEIGHTS}
    ids = tuple(map(str, range(N)))
    return Task("numbers", ids, splits, "n", truth, classes=("a", "b", "c"), asks="numbers")


def test_ranks_lose_as_equation_5_of_corn_says():
    labels = RNG.integers(0, C + 1, N)
    total, weight = 0.0, 0.0
    for row in range(N):
        for k in range(C):
            if labels[row] >= k:
                p = scipy.special.expit(float(LOGITS[row, k]))
                total -= WEIGHTS[row] * np.log(p if labels[row] > k else 1 - p)
                weight += WEIGHTS[row]
    close(loss_of(objectives.make("ordinal"), LOGITS, labels=labels), total / weight)


# Answers


def test_ranks_become_probabilities_by_hand():
    said = answers.Ranks()(np.zeros((1, 2), np.float32))
    close(said, [[0.5, 0.25, 0.25]])
    assert answers.Ranks().outputs(3) == 2


@given(arrays.arrays(np.float32, (4, 5), elements=st.floats(-30, 30, width=32)))
def test_ranks_are_probabilities_whatever_the_outputs(outputs):
    said = np.asarray(answers.Ranks()(outputs))
    assert said.shape == (4, 6) and (said >= 0).all()
    np.testing.assert_allclose(said.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("label", "unknown answers 'label'; did you mean 'labels'"),
        ("labels(thresholds=(0.5, 0.5))", "answers for 3 names have .0.5, 0.5.: a number for each"),
        ("numbers(mean=(1.0, 2.0, 'x'))", "a number for each"),
        ("labels(threshold=(0.5,))", "did you mean 'thresholds'"),
    ],
)
def test_answers_that_are_none_are_refused(spec, said):
    with pytest.raises(UserError, match=said):
        answers.make(spec).outputs(3)


# Metrics


def test_metrics_of_labels_are_scikit_learn_s():
    probabilities = RNG.uniform(size=(40, C))
    targets = (RNG.uniform(size=(40, C)) < probabilities).astype(np.float32)
    thresholds = np.array([0.3, 0.5, 0.6])
    found = metrics.of_labels(probabilities, targets=targets, names="abc", thresholds=thresholds)
    given = probabilities >= thresholds
    close(found["map"], sklearn.metrics.average_precision_score(targets, probabilities))
    close(found["auc"], sklearn.metrics.roc_auc_score(targets, probabilities))
    close(found["f1"], sklearn.metrics.f1_score(targets, given, average="macro"))
    close(found["exact"], sklearn.metrics.accuracy_score(targets, given))
    targets[:, 2] = np.nan
    fewer = metrics.of_labels(probabilities, targets=targets, names="abc", thresholds=thresholds)
    close(fewer["map"], np.mean([row["ap"] for row in found["per_label"][:2]]))
    assert fewer["per_label"][2]["known"] == 0 and fewer["per_label"][2]["ap"] is None


@given(st.integers(0, 2**32 - 1))
def test_no_threshold_has_a_better_f1(seed):
    rng = np.random.default_rng(seed)
    probabilities = rng.integers(1, 9, (12, 2)) / 10  # with ties
    targets = rng.integers(0, 2, (12, 2)).astype(np.float32)
    found = metrics.best_thresholds(probabilities, targets)
    for c in range(2):
        scores = [
            sklearn.metrics.f1_score(targets[:, c], probabilities[:, c] >= t, zero_division=0)
            for t in (*np.arange(1, 10) / 10, found[c])
        ]
        assert scores[-1] == pytest.approx(max(scores))


def test_metrics_of_numbers_are_scipy_s_and_scikit_learn_s():
    targets = RNG.normal(size=(30, 2)).astype(np.float32)
    said = targets + RNG.normal(size=(30, 2))
    targets[:5, 1] = np.nan
    found = metrics.of_numbers(said, targets=targets, names=("a", "b"))
    first, second = found["per_number"]
    close(first["r2"], sklearn.metrics.r2_score(targets[:, 0], said[:, 0]))
    close(first["spearman"], scipy.stats.spearmanr(targets[:, 0], said[:, 0]).statistic)
    close(second["mae"], np.abs(said - targets)[5:, 1].mean())
    close(second["rmse"], np.sqrt(((said - targets)[5:, 1] ** 2).mean()))
    close(found["r2"], (first["r2"] + second["r2"]) / 2)
    assert "mae" not in found
    constant = metrics.of_numbers(np.zeros((30, 1)), targets=targets[:, :1], names=("a",))
    assert constant["spearman"] == 0 and constant["mae"] == constant["per_number"][0]["mae"]


def test_ranks_are_off_by_their_median():
    probabilities = np.float32([[0.6, 0.3, 0.1], [0.3, 0.3, 0.4], [0.1, 0.2, 0.7]])
    found = metrics.of_ranks(probabilities, np.array([0, 2, 0]))
    assert found["rank_error"] == pytest.approx(1.0)  # 0, 1 and 2 classes off
    said = np.array([0, 1, 2])
    wanted = sklearn.metrics.cohen_kappa_score([0, 2, 0], said, weights="quadratic")
    assert found["kappa"] == pytest.approx(wanted)


# A run, from a task to its predictions


@functools.cache
def task(asks: str) -> Task:
    """Stripes: which rows are bright, as labels, as the number of the row, as a class in order."""
    plain = small.task()
    rows = plain.labels
    if asks == "labels":
        targets = np.stack([rows == 0, rows == 1, rows != 1], 1).astype(np.float32)
        targets[::9, 1] = np.nan
        names = ("first", "second", "either")
    else:
        targets, names = (10 + 3.0 * rows[:, None]).astype(np.float32), ("row",)
    truth = {"targets": targets, "weights": np.ones(len(rows), np.float32)}
    return dataclasses.replace(plain, name=asks, truth=truth, classes=names, asks=asks)


RUNS = {
    "several_labels": ("labels", "map"),
    "regression": ("numbers", "r2"),
    "ordinal": ("classes", "accuracy"),
}


@functools.cache
def run(objective: str, folder: pathlib.Path):
    asks, _ = RUNS[objective]
    base = tl_jax.load_base("alexnet_small", "random:0").resized(32)
    settings = {"epochs": 6, "learning_rate": 3e-3, "batch_norm": "batch"}
    own = small.task() if asks == "classes" else task(asks)
    given = {"plan": "full", "objective": objective, "cache": None, "dropout": 0.0}
    return tl_jax.transfer(base, own, **given, tune=settings, workdir=folder / objective)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("answers")


@pytest.mark.parametrize(
    "objective",
    [name if name == "several_labels" else pytest.param(name, marks=pytest.mark.slow)
     for name in RUNS],
)  # fmt: skip
def test_a_run_answers_what_its_task_asks(folder, objective):
    asks, metric = RUNS[objective]
    own = small.task() if asks == "classes" else task(asks)
    found = run(objective, folder)
    assert found.test[metric] > 0.5
    test = own.splits["test"]
    said = found.base.predict([own.open(int(row)) for row in test])
    assert said.shape == (len(test), len(own.classes))
    if asks == "labels":
        thresholds = [row["threshold"] for row in found.test["per_label"]]
        chosen = answers.make(found.base.answers)
        assert list(chosen.thresholds) == thresholds
        known = {"targets": own.targets[test], "names": own.classes}
        again = metrics.of_labels(said, **known, thresholds=np.array(thresholds))
    elif asks == "numbers":
        again = metrics.of_numbers(said, targets=own.targets[test], names=own.classes)
    else:
        again = {"accuracy": np.mean(said.argmax(1) == own.labels[test])}
    assert again[metric] == pytest.approx(found.test[metric], abs=1e-4)
    page = found.report.read_text()
    card = (found.workdir / "card.md").read_text()
    told = {"labels": "3 labels: first", "numbers": "1 numbers: row", "classes": "3 classes: 0"}
    assert told[asks] in card and ("is off by" in card or "average precision" in card)
    told = {"labels": "Which labels it knows", "numbers": "How near it comes"}
    assert told.get(asks, "Confusion matrix") in page and "The worst mistakes" in page


def test_what_is_said_of_one_image_is_labels(folder):
    base = run("several_labels", folder).base
    told = predict.said(base, np.float32([0.99, 0.01, 0.99]))
    assert told["labels"] == ["first", "either"] and told["probabilities"]["second"] == 0.01
    assert json.loads(json.dumps(told)) == told


@pytest.mark.slow
def test_what_is_said_of_one_image_is_a_number_or_a_rank(folder):
    told = predict.said(run("regression", folder).base, np.float32([1.25]))
    assert told == {"numbers": {"row": 1.25}}
    assert predict.said(run("ordinal", folder).base, np.float32([0.1, 0.7, 0.2]))["class"] == "1"


def test_what_does_not_go_with_a_task_is_said(folder):
    base = tl_jax.load_base("alexnet_small", "random:0").resized(32)
    with pytest.raises(UserError, match="asks for any of several labels.*objective=several_labels"):
        base.transfer(task("labels"), plan="head_only")
    with pytest.raises(UserError, match="asks for one class.*objective=.*cross_entropy"):
        base.transfer(small.task(), plan="head_only", objective="regression")
    with pytest.raises(UserError, match="Ordinal trains a new head: leave out head=kept"):
        base.transfer(small.task(), plan="head_only", objective="ordinal", head="kept")
    with pytest.raises(UserError, match="asks for numbers, and this is for tasks that ask for one"):
        base.probe(task("numbers"))
    answered = run("several_labels", folder).base
    with pytest.raises(UserError, match="answers with labels, not with classes"):
        answered.require_classes(("a", "b", "c"), "the teacher")
    assert answered.cut("conv3").answers == "classes"
    dataclasses.replace(answered, classes=()).save(folder / "nameless.safetensors")
    with pytest.raises(UserError, match="its answers have no names"):
        tl_jax.load_base(folder / "nameless.safetensors")
