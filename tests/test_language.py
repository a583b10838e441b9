"""A language model on a text that Python ships: streams, states that go on, a tied decoder."""

import dataclasses
import functools
import hashlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_train import Killed, assert_same, ended, without_times

from tl_jax import interrupt
from tl_jax.chain.places import Known
from tl_jax.data.task import Task
from tl_jax.errors import UserError
from tl_jax.models.awd_lstm import Shape, language_model
from tl_jax.plans.plan import Phase, Plan, Settings
from tl_jax.train import evaluate, loop
from tl_jax.train.inputs import asked, for_plan
from tl_jax.train.objectives import LanguageModel
from tl_jax.train.problem import Problem
from tl_jax.train.work import PhaseRun

LETTERS, WINDOW, LANES, FEATURES = 20_000, 20, 16, 48


@functools.cache
def task() -> Task:
    """Letters of Python's help topics in windows, the last tenths for validation and test."""
    from pydoc_data import topics

    text = " ".join(topics.topics[name] for name in sorted(topics.topics)).lower()[: LETTERS + 1]
    alphabet = sorted(set(text))
    letters = np.array([alphabet.index(letter) for letter in text], np.int32)
    count = LETTERS // WINDOW
    ends = round(0.8 * count), round(0.9 * count)
    windows = dict(zip(("train", "val", "test"), np.split(np.arange(count), ends), strict=True))
    return Task(
        name="help topics",
        ids=tuple(map(str, range(count))),
        splits=windows,
        fingerprint=hashlib.sha256(letters.tobytes()).hexdigest(),
        truth={
            "targets": letters[1:].reshape(count, WINDOW),
            "weights": np.ones((count, WINDOW), np.float32),
        },
        classes=tuple(alphabet),
        arrays={"tokens": letters[:-1].reshape(count, WINDOW)},
        ordered=True,
    )


SHAPE = Shape(len(task().classes), FEATURES, FEATURES, depth=2, pad=None)
NETWORK = language_model(SHAPE, drop_mult=0.3)


@functools.cache
def variables():
    """Fresh ones."""
    return NETWORK.init(0, {"tokens": jax.ShapeDtypeStruct((LANES, WINDOW), np.int32)})


def problem(*, frozen=(), epochs=8, **settings) -> Problem:
    """All layers but those `frozen` learn, with activation regularisation."""
    rates = {name: float(name not in frozen) for name in NETWORK.names}
    phase = Phase("lm", rates, Settings(epochs=epochs, learning_rate=2e-2, **settings))
    objective, plan = LanguageModel(ar=0.2, tar=0.1), Plan("lm", (phase,))
    return Problem(NETWORK, None, task(), plan, objective=objective, batch_size=LANES)


def run(mine, folder, **options):
    """Variables, progress and inputs of a run."""
    inputs_for = for_plan(mine, test_views="none", cache=folder / "cache", dtype="float32")
    return loop.run(mine, variables(), inputs_for, workdir=folder, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return run(problem(), tmp_path_factory.mktemp("lm"))


def test_it_says_more_of_unseen_text_than_the_frequencies_of_letters(trained):
    found, progress, inputs = trained
    test, targets = task().splits["test"], task().truth["targets"]
    counts = np.bincount(targets[task().splits["train"]].ravel(), minlength=len(task().classes))
    shares = (counts + 1) / (counts + 1).sum()
    unigram = float(np.exp(-np.log(shares[targets[test]]).mean()))
    predictions = evaluate.predictions(problem(), found, inputs, test)
    said = evaluate.finished(problem(), test, predictions)
    assert said["perplexity"] < 0.7 * unigram
    assert "kernel" not in found["params"]["decode"]["dense"]  # it is the embedding's
    assert {"train_loss", "train_ar", "train_tar", "val_loss"} <= progress.history[0].keys()


def test_predictions_go_on_where_the_window_before_ended(trained):
    """As one long window from the same state; and not as windows that each begin anew."""
    found, _, inputs = trained
    mine = problem()
    windows = task().splits["val"][:96]  # lanes of six windows
    streamed = evaluate.predictions(mine, found, inputs, windows)
    tokens = task().arrays["tokens"][windows].reshape(LANES, -1)
    net = mine.setup.bound(found)
    whole, _ = mine.objective.predict(net, {"inputs": Known(tokens=jnp.asarray(tokens))}, ())
    whole = np.asarray(whole).reshape(streamed.shape)
    np.testing.assert_allclose(streamed, whole, rtol=1e-4, atol=1e-4)
    anew, _ = mine.objective.predict(
        net, {"inputs": Known(tokens=jnp.asarray(task().arrays["tokens"][windows]))}, ()
    )
    begun = np.arange(0, 96, 6)
    np.testing.assert_allclose(streamed[begun], anew[begun], rtol=1e-4, atol=1e-4)
    truth = {name: array[windows] for name, array in task().truth.items()} | {"real": np.ones(96)}
    losses = [float(mine.objective.score(p, truth)["loss"].sum) for p in (streamed, anew)]
    assert losses[0] < losses[1]


def test_states_go_from_batch_to_batch_and_epochs_begin_anew(trained, tmp_path):
    inputs, mine = trained[2], problem()
    work = PhaseRun(mine, mine.plan.phases[0], 0, inputs, variables())
    first, second = itertools.islice(work.batches(0), 2)
    np.testing.assert_array_equal(first["targets"][:, -1], second["inputs"]["tokens"][:, 0])
    memory = {"lstm1.state": np.ones((LANES, FEATURES))}
    again = mine.objective.refresh(None, memory, 1)
    assert not np.any(again["lstm1.state"])


def test_states_keep_their_precision_from_step_to_step():
    """Half-precision layers give states that the next step takes as they were at first."""
    mine = dataclasses.replace(problem(), precision="bfloat16")
    net = mine.setup.bound(variables())
    windows = np.arange(LANES)
    batch = {name: array[windows] for name, array in task().truth.items()}
    batch["inputs"] = Known(tokens=task().arrays["tokens"][windows])
    first = mine.objective.begin(net, batch)
    after = jax.eval_shape(lambda: mine.objective.loss(net, batch, first, None).memory)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(
        lambda a: (a.shape, a.dtype), first
    )


@pytest.mark.parametrize(
    ("how", "offers"),
    [("interrupted", [3, 60]), pytest.param("killed", [5], marks=pytest.mark.slow)],
)
def test_it_is_resumed_to_the_same_bits(trained, tmp_path, monkeypatch, how, offers):
    monkeypatch.setattr(interrupt, "_received", [])
    seconds = 1e6 if how == "interrupted" else 0
    for number in offers:  # an epoch has 50
        with monkeypatch.context() as patch:
            ended(patch, number, how)
            with pytest.raises((interrupt.Interrupted, Killed)):
                run(problem(), tmp_path, checkpoint_seconds=seconds)
        interrupt._received.clear()
    found, progress, _ = run(problem(), tmp_path)
    assert_same(found, trained[0])
    assert without_times(progress) == without_times(trained[1])


def test_what_it_reads():
    """Of a frozen embedding the vectors, once: the tie needs the table, and not the tokens."""
    for frozen, wanted in (((), ()), (("embed",), ("embed",)), (("embed", "decode"), ("embed",))):
        mine = problem(frozen=frozen)
        assert asked(mine, mine.plan.phases[0], variables()).places.found == wanted


def test_rows_that_go_on_cannot_be_run_in_parts():
    with pytest.raises(UserError, match="LanguageModel couples .* take accumulate=1"):
        problem(accumulate=2)
