"""Tasks without images, with several inputs, and whose examples are parts of one stream."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import steps
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Net, Network, chain
from tl_jax.chain.places import Known, Layer
from tl_jax.data.task import Task
from tl_jax.engine import prefix
from tl_jax.plans.plan import Phase, Plan
from tl_jax.train import evaluate
from tl_jax.train import loop as train
from tl_jax.train.inputs import for_plan
from tl_jax.train.objective import Loss, Objective, Term
from tl_jax.train.problem import Problem
from tl_jax.train.work import PhaseRun

N = 96


class Beside(nn.Module):
    """Two values, one beside the other."""

    def __call__(self, a, b):
        return jnp.concatenate([a, b], -1)


@functools.cache
def task() -> Task:
    """Rows of two inputs, whose classes the second decides."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, N).astype(np.int32)
    x = rng.normal(size=(N, 6)).astype(np.float32)
    y = (np.eye(3)[labels] + 0.3 * rng.normal(size=(N, 3))).astype(np.float32)
    ones = np.ones(N, np.float32)
    truth = {"labels": labels, "targets": np.eye(3, dtype=np.float32)[labels], "weights": ones}
    truth |= {"graded_labels": labels, "graded_weights": ones}
    splits = {"train": np.arange(64), "val": np.arange(64, 80), "test": np.arange(80, N)}
    given = {"name": "rows", "ids": tuple(map(str, range(N))), "fingerprint": "rows"}
    return Task(**given, splits=splits, truth=truth, classes=tuple("abc"), arrays={"x": x, "y": y})


@functools.cache
def network() -> Network:
    return Network(
        (
            *chain("x", low=nn.Dense(5), high=nn.Dense(4)),
            Layer("beside", Beside(), ("high", "y")),
            Layer("head", Classifier(3)),
        )
    )


@functools.cache
def variables():
    return network().init(0, {name: array[:1] for name, array in task().arrays.items()})


def problem(trained=("head",), **changes) -> Problem:
    rates = {name: float(name in trained) for name in network().names}
    plan = Plan("rows", (Phase("head", rates, small.settings(learning_rate=0.05, epochs=4)),))
    given = {"chain": network(), "preprocessing": None, "task": task(), "plan": plan}
    return Problem(**{**given, "batch_size": 16} | changes)


def run(mine, workdir, cache):
    inputs_for = for_plan(mine, test_views="none", cache=cache, dtype="float32")
    return train.run(mine, variables(), inputs_for, workdir=workdir)


def test_a_task_without_images_is_learnt(tmp_path):
    found, progress, inputs = run(problem(), tmp_path, None)
    assert inputs.start is None and inputs.read is None
    assert progress.history[-1]["val_accuracy"] > 0.8
    probabilities = evaluate.predictions(problem(), found, inputs, task().splits["test"])
    known = {name: array[80:] for name, array in task().arrays.items()}
    logits = Net(network(), *found.values())(Known(known), "head", train=False)
    np.testing.assert_allclose(probabilities, jax.nn.softmax(logits), rtol=1e-5)


@pytest.mark.parametrize(
    ("trained", "start"), [(("head",), "beside"), (("beside", "head"), "high")]
)
def test_what_is_stored_of_such_rows_gives_the_run(tmp_path, monkeypatch, trained, start):
    """With the second input beside it where that is still asked for; on the device or not."""
    mine = problem(trained)
    plain, wanted, _ = run(mine, tmp_path / "plain", None)
    for resident in (True, False):
        if not resident:
            monkeypatch.setattr(prefix, "RESIDENT", 0)
        found, progress, inputs = run(mine, tmp_path / str(resident), tmp_path / "cache")
        assert inputs.start == start and (inputs.resident is not None) == resident
        assert inputs.arrays.keys() == ({"y"} if start == "high" else set())
        close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
        jax.tree.map(close, found, plain)
        for row, other in zip(progress.history, wanted.history, strict=True):
            assert row["val_loss"] == pytest.approx(other["val_loss"], rel=1e-4)


# Streams.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Running(Objective):
    """Predicts the sum of a lane so far; in training its memory goes on from batch to batch."""

    def begin(self, net, batch):
        return jnp.zeros(batch["inputs"]["x"].shape[0])

    def loss(self, net, batch, memory, now):
        memory = memory + batch["inputs"]["x"][:, 0]
        out = net(batch["inputs"], "head")
        return Loss({"loss": Term((out**2).sum(), 16.0)}, memory, {"sum": Term(memory.sum())})

    def predict(self, net, batch, carry):
        x = batch["inputs"]["x"][:, 0]
        carry = x if isinstance(carry, tuple) else carry + x
        return carry, carry

    def score(self, predictions, batch):
        return {"loss": Term((predictions * batch["real"]).sum(), batch["real"].sum())}


@functools.cache
def stream(examples: int) -> Task:
    rng = np.random.default_rng(1)
    arrays = {"x": rng.normal(size=(examples, 6)).astype(np.float32)}
    arrays["y"] = np.zeros((examples, 3), np.float32)
    every = np.arange(examples)
    return dataclasses.replace(
        task(),
        ids=tuple(map(str, every)),
        arrays=arrays,
        truth={"weights": np.ones(examples, np.float32)},
        splits={"train": every[: examples // 2], "val": every[examples // 2 :], "test": every[:0]},
        ordered=True,
    )


@settings(max_examples=8)
@given(count=st.sampled_from([1, 3, 64, 65, 130, 200]))
def test_predictions_of_a_stream_go_on_from_batch_to_batch_in_lanes(count):
    mine = problem(objective=Running(), task=stream(400))
    inputs = prefix.decoded(mine.task, None)
    examples = 100 + np.arange(count)
    found = evaluate.predictions(mine, variables(), inputs, examples)
    length = -(-count // mine.batch_size)  # as many lanes as in training
    x = mine.task.arrays["x"][examples, 0]
    lanes = [np.cumsum(x[first : first + length]) for first in range(0, count, length)]
    np.testing.assert_allclose(found, np.concatenate(lanes), rtol=1e-4, atol=1e-5)
    score = evaluate.scores(mine, variables(), inputs, examples)
    assert score["loss"] == pytest.approx(np.concatenate(lanes).mean(), rel=1e-4, abs=1e-5)


def test_batches_of_a_stream_are_lanes_in_every_epoch(tmp_path):
    mine = problem(objective=Running(), task=stream(400))
    inputs = prefix.decoded(mine.task, None)
    work = PhaseRun(mine, mine.plan.phases[0], 0, inputs, variables())
    assert work.survey.streams
    for epoch in (0, 1):
        batches = list(work.batches(epoch))
        assert len(batches) == 200 // 16
        rows = np.stack([batch["inputs"]["x"] for batch in batches], 1)
        wanted = mine.task.arrays["x"][:192].reshape(16, 12, 6)
        np.testing.assert_array_equal(rows, wanted)
    _, progress, _ = run(mine, tmp_path, None)
    total = np.cumsum(np.tile(wanted[..., 0].sum(0), 4)).reshape(4, 12)
    logged = [row["train_sum"] for row in progress.history]
    np.testing.assert_allclose(logged, total.mean(1), rtol=1e-3, atol=1e-3)


def test_a_memory_of_lanes_is_of_all_lanes():
    mine = steps.recipe(network(), Running(), ["head"])
    x, y = np.ones((16, 6), np.float32), np.ones((16, 3), np.float32)
    batch = {"inputs": Known(x=x, y=y)}
    now = steps.after(mine, variables(), [batch] * 3, memory=np.zeros(16, np.float32))
    np.testing.assert_array_equal(now.memory, np.full(16, 3.0))
