"""Classes of unequal size: class weights in the loss, and batches in which each comes as often."""

import collections
import dataclasses

import jax
import numpy as np
import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

import tl_jax
from tl_jax.base.load import load_base
from tl_jax.data import balance, loader
from tl_jax.data.tasks.arrays import from_arrays
from tl_jax.errors import UserError
from tl_jax.runs import pose
from tl_jax.runs import settings as run_settings
from tl_jax.train import loop
from tl_jax.train.inputs import for_plan
from tl_jax.train.objectives.domain_adversarial import DomainAdversarial


def unequal(**truth):
    """100 images of noise: 70 of class 0, 22 of class 1, 8 of class 2."""
    labels = np.repeat([0, 1, 2], [70, 22, 8])
    images = np.random.default_rng(0).integers(0, 255, (100, 8, 8)).astype(np.uint8)
    return from_arrays("unequal", images, labels, seed=0, val=0.25, test=0.25).with_truth(**truth)


def test_class_weights_are_those_of_scikit_learn_times_the_examples_own():
    own = np.random.default_rng(1).uniform(0.1, 2, 100).astype(np.float32)
    task = unequal(weights=own)
    train, labels = task.splits["train"], task.labels[task.splits["train"]]
    factors = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    found = balance.weighted(task).weights
    np.testing.assert_allclose(found[train], own[train] * factors[labels], rtol=1e-6)
    others = np.setdiff1d(np.arange(100), train)
    np.testing.assert_array_equal(found[others], own[others])
    np.testing.assert_array_equal(task.weights, own)


def test_the_loss_of_a_step_is_weighted_and_that_of_an_evaluation_is_not(tmp_path):
    """The first step of a head, on all training examples, of which raters were in doubt."""
    doubt = np.random.default_rng(1).uniform(0.5, 1, 100).astype(np.float32)
    task = unequal(weights=doubt)
    train, val = task.splits["train"], task.splits["val"]

    def mean_loss(variables, rows, weights):
        pixels = small.PREPROCESSING([task.open(int(row)) for row in rows])
        found = jax.nn.log_softmax(small.chain().apply(variables, pixels).output)
        return np.average(-found[np.arange(len(rows)), task.labels[rows]], weights=weights)

    labels = task.labels[train]
    factors = compute_class_weight("balanced", classes=np.unique(labels), y=labels)[labels]
    head = small.settings(epochs=1)
    for of, weights in ((balance.weighted(task), doubt[train] * factors), (task, doubt[train])):
        mine = small.problem("head_only", head=head, task=of, batch_size=len(train))
        inputs_for = for_plan(mine, test_views="none", cache=tmp_path / "cache", dtype="float32")
        folder = tmp_path / str(of is task)
        variables, progress, _ = loop.run(mine, small.variables(), inputs_for, workdir=folder)
        (row,) = progress.history
        wanted = mean_loss(small.variables(), train, weights)
        assert row["train_loss"] == pytest.approx(wanted, rel=1e-4)
        assert row["val_loss"] == pytest.approx(mean_loss(variables, val, doubt[val]), rel=1e-4)


def test_a_transfer_trains_on_the_weights_that_it_is_told():
    base, task = load_base("resnet18", "random:1").resized(32), unequal()
    for spec, wanted in (("balanced", balance.weighted(task).weights), ("", task.weights)):
        given = {"cut": "stage1_block1", "plan": "full", "class_weights": spec}
        mine = pose.posed(base, task, *run_settings.divided(given)).problem
        np.testing.assert_array_equal(mine.task.weights, wanted)


def drawn(labels, **options):
    """Examples of an epoch's batches (S, B), where each class comes as often."""
    given = {"views": (0, 1), "batch_size": 8, "seed": (0, 0, 0)} | options
    examples = np.arange(1000, 1000 + len(labels))
    return loader.epoch_order(examples, classes=labels, **given)


@settings(max_examples=50)
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(lambda c: sum(c) >= 8),
    seed=st.integers(0, 5),
)
def test_a_balanced_epoch_has_each_class_as_often_and_each_of_its_examples(counts, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    order, views = drawn(labels, seed=(seed,))
    assert order.shape == views.shape == (len(labels) // 8, 8)  # as many batches as ever
    present = [number for number, count in enumerate(counts) if count]

    def each(rows, of):
        found = collections.Counter(rows.ravel().tolist())
        return [found[one] for one in of]

    classes = labels[order - 1000]
    of_epoch = each(classes, present)
    assert max(of_epoch) - min(of_epoch) <= 1
    for batch in classes:
        assert np.ptp(each(batch, present)) <= 2
    for number in present:
        assert np.ptp(each(order, np.flatnonzero(labels == number) + 1000)) <= 1


def test_balanced_batches_are_a_function_of_the_seed():
    labels = np.repeat([0, 1], [90, 10])
    first, again, other = (drawn(labels, seed=(0, 0, e)) for e in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != other[0]).any()
    plain, _ = loader.epoch_order(np.arange(100), views=(0, 1), batch_size=8, seed=(0, 0, 0))
    assert len(np.unique(plain)) == 96  # and without classes each example comes once


def test_a_phase_draws_the_classes_of_its_own_training_examples():
    task = unequal()
    phases = {"head": small.settings(sampling="balanced"), "tune": small.settings()}
    mine = small.problem("head_then_fine_tune", **phases, task=task)
    head, tune = mine.plan.phases
    np.testing.assert_array_equal(mine.drawn_classes(head), task.labels[task.splits["train"]])
    assert mine.drawn_classes(tune) is None


def test_what_has_no_single_class_an_example_is_refused():
    several = np.float32([[1, 1, 0]] * 100)
    without = {n: a for n, a in unequal().truth.items() if n not in ("labels", "targets")}
    for task in (
        unequal(targets=several),
        unequal(labels=several),
        unequal(labels=np.linspace(0, 1, 100)),
        dataclasses.replace(unequal(), truth=without),
    ):
        said = f"needs one class for each example, and those of '{task.name}' have none, or several"
        with pytest.raises(UserError, match=f"class_weights=balanced {said}"):
            balance.weighted(task)
        with pytest.raises(UserError, match=f"phase 'head': sampling=balanced {said}"):
            small.problem("head_only", head=small.settings(sampling="balanced"), task=task)


def test_several_sources_and_other_words_are_refused():
    sources = {"source": small.task(), "target": small.task()}
    given = {"objective": DomainAdversarial(), "sources": sources}
    with pytest.raises(UserError, match="sampling=balanced looks at the classes of a single task"):
        small.problem("head_only", head=small.settings(sampling="balanced"), **given)
    base = load_base("resnet18", "random:1").resized(32).cut("stage1_block1")
    with pytest.raises(
        UserError, match="class_weights= is of a single task, and there are sources"
    ):
        tl_jax.transfer(base, small.task(), sources=sources, class_weights="balanced", cache=None)
    with pytest.raises(UserError, match="unknown class_weights 'balance'; did you mean 'balanced'"):
        tl_jax.transfer(base, small.task(), class_weights="balance")
    with pytest.raises(UserError, match="unknown sampling 'balance'; did you mean 'balanced'"):
        small.settings(sampling="balance")
