import dataclasses
import functools
import itertools
import signal

import jax
import numpy as np
import pytest
import small
from hypothesis import given
from hypothesis import strategies as st

from tl_jax import interrupt
from tl_jax.base.load import load_base
from tl_jax.chain.programs import forward
from tl_jax.data import loader
from tl_jax.engine import checkpoint, prefix
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError
from tl_jax.ops.cpu import onednn
from tl_jax.plans.plan import Phase, Plan
from tl_jax.runs import pose, settings
from tl_jax.train import evaluate
from tl_jax.train import loop as train
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.saving import Saver
from tl_jax.train.state import best_row
from tl_jax.train.work import PhaseRun

TIMES = ("compile_seconds", "train_seconds", "steps", "images")  # what a process has done of a row


def run(mine, workdir, inputs=None, **options):
    """Variables and history of a run from pixels, or from the inputs given."""
    inputs = inputs or prefix.decoded(mine.task, mine.preprocessing)
    options = {"workdir": workdir, "inputs_for": lambda phase, variables: inputs} | options
    return train.run(mine, small.variables(), **options)[:2]


def pooled() -> prefix.Inputs:
    """Features below the head, kept in memory."""
    read = prefix.decoded(small.task(), small.PREPROCESSING).read
    every = np.arange(len(small.task().ids))
    pixels = small.PREPROCESSING.normalise(read(every, 0 * every))
    kept = np.asarray(forward(small.chain(), small.variables(), pixels, stop="pool"))
    return prefix.Inputs(lambda e, v: kept[e], "pool", "key", small.PREPROCESSING)


def two_views(dtype=np.float32) -> prefix.Inputs:
    """Vectors below the head as a cache has them, in two views that differ."""
    inputs, n = pooled(), len(small.task().ids)
    kept = inputs.read(np.arange(n), None)
    rows = np.concatenate([kept, kept[:, ::-1]]).astype(dtype)

    def row(examples, views):
        return views * n + examples

    return inputs._replace(read=lambda e, v: rows[row(e, v)], stored=rows, row=row)


def assert_same(got, wanted):
    jax.tree.map(np.testing.assert_array_equal, got, wanted)


# One layer on fixed features is a softmax regression, which numpy can do.


def doubtful():
    """The task with soft targets and weights that differ."""
    rng = np.random.default_rng(1)
    n = len(small.task().ids)
    targets = rng.dirichlet((1, 1, 1), n).astype(np.float32)
    weights = rng.uniform(0.1, 3, n).astype(np.float32)
    return small.task().with_truth(targets=targets, weights=weights)


def regression(mine, features):
    """Kernel, bias and (train_loss, val_loss) by epoch, in float64: Nesterov momentum 0.9."""
    task, head = mine.task, small.variables()["params"]["head"]["Dense_0"]
    p = [np.float64(head["kernel"]), np.float64(head["bias"])]
    m, losses = [0, 0], []

    def loss(e):
        logits = features[e] @ p[0] + p[1]
        log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return -(task.targets[e] * log).sum(1), np.exp(log) - task.targets[e]

    for number, phase in enumerate(mine.plan.phases):
        for epoch in range(phase.settings.epochs):
            total = weight = 0
            options = {"views": (0,), "batch_size": 16, "seed": (mine.seed, number, epoch)}
            for e in loader.epoch_order(task.splits["train"], **options)[0]:
                w = task.weights[e]
                each, error = loss(e)
                total, weight = total + (w * each).sum(), weight + w.sum()
                error = error * w[:, None] / w.sum()
                g = [features[e].T @ error, error.sum(0)]
                scale = min(1, phase.settings.clip / np.sqrt(sum((a**2).sum() for a in g)))
                m = [0.9 * a + scale * b for a, b in zip(m, g, strict=True)]
                d = [scale * b + 0.9 * a for a, b in zip(m, g, strict=True)]
                d[0] = d[0] + phase.settings.weight_decay * p[0]
                p = [a - phase.settings.learning_rate * b for a, b in zip(p, d, strict=True)]
            val = task.splits["val"]
            losses.append((total / weight, np.average(loss(val)[0], weights=task.weights[val])))
    return *p, losses


def test_training_a_head_is_softmax_regression_with_weights_and_soft_targets(tmp_path):
    usual = {"optimizer": "sgd", "clip": 0.1, "weight_decay": 0.1, "best_by": "last"}
    rates = dict.fromkeys(small.NAMES, 0.0) | {"head": 1.0}
    phases = [  # the second goes on with the momentum of the first
        Phase(name, rates, small.settings(learning_rate=rate, **usual))
        for name, rate in (("first", 0.3), ("second", 0.1))
    ]
    mine, inputs = small.problem("head_only", task=doubtful()), pooled()
    mine = dataclasses.replace(mine, plan=Plan("two", tuple(phases)))
    variables, progress = run(mine, tmp_path, inputs)
    features = np.float64(inputs.read(np.arange(len(mine.task.ids)), None))
    kernel, bias, losses = regression(mine, features)
    found = variables["params"]["head"]["Dense_0"]
    np.testing.assert_allclose(found["kernel"], kernel, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["bias"], bias, rtol=1e-4, atol=1e-5)
    got = [(row["train_loss"], row["val_loss"]) for row in progress.history]
    np.testing.assert_allclose(got, losses, rtol=1e-5)
    assert [row["step"] for row in progress.history] == [4, 8, 12, 16]


def test_half_the_bits_give_about_the_same_losses(tmp_path):
    (_, full), (variables, half) = (
        run(small.problem("head_only", precision=p), tmp_path / p, pooled())
        for p in ("float32", "bfloat16")
    )
    for row, other in zip(full.history, half.history, strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=0.01)
        assert row["train_loss"] != other["train_loss"]
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}


# Which epoch's weights a phase hands on, and when it stops looking for better ones.


def phase_by(best_by: str, patience: int) -> Phase:
    return Phase("head", {"head": 1.0}, small.settings(best_by=best_by, patience=patience))


def rows_of(losses):
    return [{"epoch": e, "val_loss": v, "val_accuracy": -v} for e, v in enumerate(losses, 1)]


@given(
    losses=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    patience=st.integers(0, 4),
    best_by=st.sampled_from(["val_loss", "val_accuracy"]),
)
def test_a_phase_stops_after_patience_epochs_that_are_no_better(losses, patience, best_by):
    phase, rows = phase_by(best_by, patience), rows_of(losses)
    lowest = [e for e, v in enumerate(losses, 1) if v == min(losses)]
    assert best_row(phase, rows, CrossEntropy())["epoch"] == lowest[-1]
    least, waited = losses[0], 0  # counted epoch by epoch, as Keras's EarlyStopping does
    for loss in losses[1:]:
        least, waited = (loss, 0) if loss < least else (least, waited + 1)
    assert train.stops(phase, rows, CrossEntropy()) == (0 < patience <= waited)
    assert best_row(phase_by("last", 0), rows, CrossEntropy()) is rows[-1]
    assert not train.stops(phase_by("last", patience), rows, CrossEntropy())


def test_no_phase_stops_before_it_began():
    assert not train.stops(phase_by("val_loss", 1), [], CrossEntropy())


@pytest.mark.parametrize(
    ("settings", "epochs", "best"),
    [
        ({}, 6, 3),
        ({"best_by": "val_loss"}, 6, 6),
        ({"best_by": "val_loss", "patience": 2}, 4, 2),
        ({"best_by": "val_loss", "patience": 4}, 6, 6),
        ({"best_by": "last", "patience": 2}, 6, 6),
        ({"patience": 2}, 5, 3),
    ],
)
def test_the_best_epochs_weights_are_handed_on(tmp_path, monkeypatch, settings, epochs, best):
    scores = zip((3, 1, 2, 2, 2, 0.5), (0.1, 0.2, 0.9, 0.3, 0.3, 0.3), strict=True)
    weights = []

    def assess(work, variables, state, progress):
        weights.append(jax.tree.map(np.array, state.params))  # a copy
        loss, accuracy = next(scores)
        made = {"val_loss": loss, "val_accuracy": accuracy}
        return original(work, variables, state, progress) | made

    original = train.assess
    monkeypatch.setattr(train, "assess", assess)
    mine = small.problem("head_only", head=small.settings(epochs=6, **settings))
    variables, progress = run(mine, tmp_path, pooled())
    assert [row["epoch"] for row in progress.history] == list(range(1, epochs + 1))
    assert_same(variables["params"]["head"], weights[best - 1]["head"])
    kernels = [w["head"]["Dense_0"]["kernel"] for w in weights]
    assert all((a != b).any() for a, b in itertools.combinations(kernels, 2))


# A run that is interrupted, however often, is the run that is not.


def both_phases():
    tune = small.settings(batch_norm="stochastic", views="flip", weight_decay=0.1)
    chain = small.chain(dropout=0.25)
    head = small.settings(schedule="one_cycle", sampling="balanced")
    return small.problem("head_then_fine_tune", head=head, tune=tune, chain=chain)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run(both_phases(), tmp_path_factory.mktemp("whole"))


class Killed(Exception):
    """Stands for a kill."""


def ended(monkeypatch, offers: int, how: str) -> None:
    """From now on, the run is ended when it could save for the `offers`-th time."""
    left = itertools.count(offers - 1, -1)
    original = Saver.offer

    def offer(self, *args, **options):
        if last := next(left) == 0:
            if how == "killed":
                raise Killed
            interrupt._received.append(signal.SIGTERM)
        original(self, *args, **options)
        assert not last, "a signal that was not heeded"

    monkeypatch.setattr(Saver, "offer", offer)


def without_times(progress):
    """What must not depend on interruptions."""
    rows = [{k: v for k, v in row.items() if k not in TIMES} for row in progress.history]
    return dataclasses.replace(progress, history=rows)


# Each phase offers to save 4 times an epoch, and at its end: at 9 and 18.
@pytest.mark.parametrize(
    ("how", "offers"),
    [
        ("interrupted", [2]),
        ("interrupted", [4]),
        ("interrupted", [9]),
        ("interrupted", [18]),
        ("interrupted", [3, 3, 5, 1, 1, 4]),
        ("killed", [7, 6]),
        ("killed", [10]),
    ],
)
def test_a_run_goes_on_where_it_was(uninterrupted, tmp_path, monkeypatch, how, offers):
    monkeypatch.setattr(interrupt, "_received", [])
    seconds = 1e6 if how == "interrupted" else 0  # killed: what is saved each time
    ending = {"interrupted": interrupt.Interrupted, "killed": Killed}[how]
    for number in offers:
        with monkeypatch.context() as patch:
            ended(patch, number, how)
            with pytest.raises(ending):
                run(both_phases(), tmp_path, checkpoint_seconds=seconds)
        interrupt._received.clear()
    written = []
    variables, progress = run(both_phases(), tmp_path, write=written.append)
    wanted, whole = uninterrupted
    assert_same(variables, wanted)
    assert without_times(progress) == without_times(whole)
    assert written == progress.history  # the rows from before too


def test_a_run_that_is_over_is_not_run_again(uninterrupted, tmp_path, monkeypatch):
    first = run(both_phases(), tmp_path)
    monkeypatch.setattr(train, "train_epoch", lambda *_: pytest.fail("trained again"))
    variables, progress = run(both_phases(), tmp_path)
    assert_same(variables, first[0])
    assert progress == first[1]


# Where a phase's inputs are on the device, an epoch is a call or a few.


def on_vectors(**changes):
    head = small.settings(views="flip", schedule="one_cycle", epochs=3)
    options = {"head": head, "chain": small.chain(dropout=0.25), "task": doubtful(), "seed": 3}
    return small.problem("head_only", **options | changes)


@pytest.fixture
def offers(monkeypatch):
    """(epoch, batch) of every state that could be saved; and at a phase's end (epochs, 0)."""
    found, original = [], Saver.offer

    def offer(self, progress, *args, **options):
        found.append((progress.epoch, progress.batch))
        original(self, progress, *args, **options)

    monkeypatch.setattr(Saver, "offer", offer)
    return found


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_from_the_device_or_batch_by_batch_a_run_is_the_same(
    tmp_path, monkeypatch, offers, dtype, tolerance
):
    monkeypatch.setattr(train, "CALL_SECONDS", 1e6)
    mine, inputs = on_vectors(precision=dtype), two_views(dtype)
    variables, progress = run(mine, tmp_path / "resident", inputs)
    assert len(offers) == 6
    monkeypatch.setattr(prefix, "RESIDENT", 0)
    offers.clear()
    wanted, streamed = run(mine, tmp_path / "streamed", inputs)
    assert len(offers) == 3 * 4 + 1
    close = functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance)
    jax.tree.map(close, variables, wanted)
    for row, other in zip(progress.history, streamed.history, strict=True):
        assert row.keys() == other.keys()
        for name in row.keys() - {"phase", "compile_seconds", "train_seconds"}:
            assert row[name] == pytest.approx(other[name], rel=tolerance), name


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (1e6, [(0, 1), (0, 3), (0, 4), (1, 4), (2, 4), (3, 0)]),  # one step, two, all
        (0.0, [*itertools.product(range(3), (1, 2, 3, 4)), (3, 0)]),
    ],
)
def test_a_call_takes_as_many_steps_as_are_quick(tmp_path, monkeypatch, offers, seconds, wanted):
    monkeypatch.setattr(train, "CALL_SECONDS", seconds)
    _, progress = run(on_vectors(), tmp_path, two_views())
    assert offers == wanted
    assert [(row["steps"], row["images"]) for row in progress.history] == [(4, 64)] * 3


@pytest.mark.parametrize(
    ("how", "ends"), [("interrupted", [2]), ("interrupted", [4, 1, 3]), ("killed", [3, 2])]
)
@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_it_goes_on_in_the_middle_of_an_epoch(tmp_path, monkeypatch, how, ends, seconds):
    wanted, whole = run(on_vectors(), tmp_path / "whole", two_views())
    monkeypatch.setattr(interrupt, "_received", [])
    monkeypatch.setattr(train, "CALL_SECONDS", seconds)  # changes what is one call
    ending = {"interrupted": interrupt.Interrupted, "killed": Killed}[how]
    saved = 1e6 if how == "interrupted" else 0
    for number in ends:
        with monkeypatch.context() as patch:
            ended(patch, number, how)
            with pytest.raises(ending):
                run(on_vectors(), tmp_path / "run", two_views(), checkpoint_seconds=saved)
        interrupt._received.clear()
    variables, progress = run(on_vectors(), tmp_path / "run", two_views())
    assert_same(variables, wanted)
    assert without_times(progress) == without_times(whole)


def test_a_loss_that_is_not_finite_is_found_in_the_middle_of_a_call(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CALL_SECONDS", 1e6)
    mine, inputs = on_vectors(), two_views()
    order = {"views": (0, 1), "batch_size": 16, "seed": (3, 0, 1)}  # of the second epoch
    examples, numbers = loader.epoch_order(mine.task.splits["train"], **order)
    first, _ = loader.epoch_order(mine.task.splits["train"], **order | {"seed": (3, 0, 0)})
    bad = next(e for e in np.setdiff1d(examples, first))  # left out in the first
    inputs.stored[[bad, bad + len(mine.task.ids)]] = np.nan
    step = 4 + int(np.argwhere(examples == bad)[0, 0])
    with pytest.raises(UserError, match=f"not finite at step {step}: "):
        run(mine, tmp_path, inputs)


def test_while_a_step_runs_the_next_batch_is_put_on_the_device(tmp_path, monkeypatch):
    events, inputs = [], pooled()

    def noted(name, original):
        def call(*args):
            events.append(name)
            return original(*args)

        return call

    for owner, name in ((Parallel, "share"), (jax, "block_until_ready"), (PhaseRun, "call")):
        monkeypatch.setattr(owner, name, noted(name, getattr(owner, name)))
    monkeypatch.setattr(train, "assess", lambda *_: dict(epoch=1, val_accuracy=0.0, phase="head"))
    run(small.problem("head_only", head=small.settings(epochs=1)), tmp_path, inputs)
    assert events == ["share", "block_until_ready", "call"] * 4  # the wait is for the step before


@pytest.mark.parametrize("resident", [False, True])
def test_epochs_are_judged_as_results_are(resident):
    mine = small.problem("head_only", task=doubtful())
    inputs = prefix.on_device(two_views(), mine.parallel) if resident else pooled()
    assert (inputs.resident is not None) == resident
    examples = np.random.default_rng(2).permutation(len(mine.task.ids))[:70]  # a batch and a part
    brief = evaluate.scores(mine, small.variables(), inputs, examples)
    found = evaluate.predictions(mine, small.variables(), inputs, examples)
    score = evaluate.finished(mine, examples, found)
    assert brief.keys() == {"loss", "accuracy", "weighted_accuracy"}
    for name, value in brief.items():
        assert value == pytest.approx(score[name], rel=1e-6), name


# A loss that is not finite ends the run, which keeps what was good.


def poisoned(inputs, example: int):
    """The inputs, with NaN for one example."""

    def read(examples, numbers):
        found = np.array(inputs.read(examples, numbers))
        found[examples == example] = np.nan
        return found

    return inputs._replace(read=read)


def test_the_first_step_that_is_not_finite_is_named_and_what_was_before_is_kept(tmp_path):
    mine, inputs = small.problem("head_only"), pooled()
    options = {"views": (0,), "batch_size": 16, "seed": (0, 0, 1)}  # of the second epoch
    order, _ = loader.epoch_order(mine.task.splits["train"], **options)
    bad = poisoned(inputs, order[2][5])
    finished = []

    def read(examples, numbers):
        return (bad if finished else inputs).read(examples, numbers)

    options = {"checkpoint_seconds": 0, "write": finished.append}
    with pytest.raises(UserError, match="not finite at step 6: .*learning_rate; the last good"):
        run(mine, tmp_path, inputs._replace(read=read), **options)
    kept = checkpoint.latest_meta(tmp_path / "checkpoints")
    assert (kept["epoch"], kept["batch"]) == (1, 2)  # 4 and 2 steps were good
    mended, whole = run(mine, tmp_path, inputs), run(mine, tmp_path / "whole", inputs)
    assert_same(mended[0], whole[0])
    assert without_times(mended[1]) == without_times(whole[1])


def test_a_validation_loss_that_is_not_finite_ends_the_run_too(tmp_path):
    mine = small.problem("head_only")
    with pytest.raises(UserError, match="the loss is not finite at step 4"):
        run(mine, tmp_path, poisoned(pooled(), mine.task.splits["val"][3]))


def test_what_an_activation_hides_from_the_loss_is_found_in_the_gradients(tmp_path, monkeypatch):
    """oneDNN's ReLU makes 0 of what is not a number, and the loss knows nothing of it."""
    monkeypatch.setattr(onednn, "LEAST_WORK", 0)
    monkeypatch.setattr(onednn, "LEAST_SIZE", 0)
    variables = jax.tree.map(lambda leaf: leaf, small.variables())
    stem = variables["params"]["stem"]
    variables["params"]["stem"] = {**stem, "kernel": np.full_like(stem["kernel"], np.nan)}
    monkeypatch.setattr(small, "variables", lambda: variables)
    mine = small.problem("full", tune=small.settings(batch_norm="batch"))
    with pytest.raises(UserError, match="not finite at step 0: "):
        run(mine, tmp_path)


def test_too_large_a_rate_is_said(tmp_path):
    head = small.settings(optimizer="sgd", learning_rate=1e38, clip=0.0)
    with pytest.raises(UserError, match="not finite at step 1: try a smaller learning_rate"):
        run(small.problem("head_only", head=head), tmp_path, pooled())


# What does not belong together is refused.


def test_inputs_made_with_another_preprocessing_are_refused(tmp_path):
    other = dataclasses.replace(small.PREPROCESSING, crop=0.9, order="BGR")
    inputs = prefix.decoded(small.task(), other)
    with pytest.raises(UserError, match="otherwise .*crop: 0.9, not 1.0; order: 'BGR', not 'RGB'"):
        run(small.problem("head_only"), tmp_path, inputs)
    assert not (tmp_path / "checkpoints").exists()


def test_a_transfer_tells_its_plan_which_layers_have_no_parameters():
    base = load_base("resnet18", "random:1").resized(32)
    given = {"plan": "discriminative", "from_layer": "stage3_block1", "factor": 3.0}
    mine, *_ = pose.posed(base, small.task(), *settings.divided(given))
    rates = mine.plan.phases[1].multipliers
    last = [rates[name] for name in ("stage3_block2", "stage4_block1", "stage4_block2", "pool")]
    assert last == pytest.approx([1 / 9, 1 / 3, 1 / 3, 1])


@pytest.mark.parametrize("plan", ["full", "from_scratch"])
def test_only_from_scratch_starts_from_fresh_weights(plan):
    base = load_base("resnet18", "random:1").resized(32)
    own, options = settings.divided({"cut": "stage1_block1", "plan": plan, "seed": 5})
    mine, ready, _ = pose.posed(base, small.task(), own, options)
    fresh = mine.chain.init(5, (1, 32, 32, 3))
    wanted = base.variables if plan == "full" else fresh
    assert ready.architecture.cut == "stage1_block1"
    assert mine.chain.names == ("stem", "stage1_block1", "head")
    for collection, layers in ready.variables.items():
        for name, tree in layers.items():
            assert_same(tree, (fresh if name == "head" else wanted)[collection][name])


def test_a_redrawn_start_keeps_the_scale_of_the_base_and_has_fresh_statistics_and_head():
    base = load_base("resnet18", "random:1").resized(32)
    own, options = settings.divided({"cut": "stage1_block1", "plan": "redrawn", "seed": 5})
    mine, ready, _ = pose.posed(base, small.task(), own, options)
    fresh = mine.chain.init(5, (1, 32, 32, 3))
    assert_same(ready.variables["batch_stats"], fresh["batch_stats"])
    assert_same(ready.variables["params"]["head"], fresh["params"]["head"])
    old, new = (
        tree["params"]["stem"]["conv"]["kernel"] for tree in (base.variables, ready.variables)
    )
    assert new.std() == pytest.approx(old.std(), rel=0.05)
    assert abs(np.corrcoef(new.ravel(), old.ravel())[0, 1]) < 0.1
    assert ready.weights == "redrawn:5 like random:1"


def test_a_phase_hands_on_weights_between_its_first_and_its_best(tmp_path):
    """WiSE-FT, from the head that the phase before trained."""
    ends = {}
    for blend in (1.0, 0.5):
        tune = small.settings(epochs=1, batch_norm="batch", blend=blend)
        mine = small.problem("head_then_fine_tune", head=small.settings(epochs=1), tune=tune)
        ends[blend] = run(mine, tmp_path / str(blend))[0]
    head = small.problem("head_only", head=small.settings(epochs=1))
    start = run(head, tmp_path / "head")[0]
    middle = jax.tree.map(lambda a, b: (a + b) / 2, start, ends[1.0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ends[0.5], middle)
    assert not np.allclose(start["params"]["head"]["Dense_0"]["bias"],
                           ends[1.0]["params"]["head"]["Dense_0"]["bias"])  # fmt: skip


@pytest.mark.parametrize(("size", "parts"), [(1, 1), (4, 4)])
def test_statistics_of_one_example_are_refused(size, parts):
    with pytest.raises(UserError, match="phase 'full': batch_norm=batch normalises by one example"):
        tune = small.settings(batch_norm="batch", accumulate=parts)
        small.problem("full", tune=tune, batch_size=size)
    small.problem("full", tune=small.settings(accumulate=parts), batch_size=size)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_not_every_generator_takes_are_refused(seed):
    with pytest.raises(UserError, match=f"from 0 to 4294967295; got {seed}"):
        small.problem("head_only", seed=seed)
    small.problem("head_only", seed=2**32 - 1)
