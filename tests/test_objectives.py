"""Whole runs of objectives that are not cross entropy alone."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import steps
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.chain.places import Known
from tl_jax.errors import UserError
from tl_jax.plans.plan import Phase
from tl_jax.train import evaluate
from tl_jax.train import loop as train
from tl_jax.train.inputs import for_plan
from tl_jax.train.objective import Loss, Term, better
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.saving import Saver
from tl_jax.train.state import best_row
from tl_jax.train.work import PhaseRun

TIMES = ("compile_seconds", "train_seconds", "steps", "images")


def run(mine, workdir, **options):
    """Variables and history of a run that stores nothing."""
    given = {"test_views": "none", "cache": None, "dtype": "float32"} | options.pop("given", {})
    inputs_for = for_plan(mine, **given)
    return train.run(mine, small.variables(), inputs_for, workdir=workdir, **options)


def assert_same(got, wanted):
    jax.tree.map(np.testing.assert_array_equal, got, wanted)


def without_times(progress):
    rows = [{k: v for k, v in row.items() if k not in TIMES} for row in progress.history]
    return dataclasses.replace(progress, history=rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Centred(CrossEntropy):
    """Remembers a running mean of the features and the last logits; averages the weights."""

    evaluates = "average"

    def average(self, now):
        return 0.3

    def begin(self, net, batch):
        features = net(batch["inputs"], "pool", train=False)
        queue = jnp.zeros((4, 3)), jax.random.key_data(jax.random.key(1))
        return {"centre": features.mean(0), "queue": queue[0], "key": queue[1]}

    def loss(self, net, batch, memory, now):
        made = super().loss(net, batch, memory, now)
        features, logits = net(batch["inputs"], ("pool", "head"))
        far = ((features - memory["centre"]) ** 2).mean()
        key = jax.random.fold_in(jax.random.wrap_key_data(memory["key"]), 1)
        memory = {
            "centre": 0.9 * memory["centre"] + 0.1 * features.mean(0),
            "queue": jnp.concatenate([memory["queue"], logits])[-4:],
            "key": jax.random.key_data(key),
        }
        noise = Term(jax.random.uniform(key) + memory["queue"].sum())
        return Loss({**made.terms, "far": Term(far, 1.0, 0.1)}, memory, {"noise": noise})

    def refresh(self, fold, memory, epoch):
        def add(net, batch, total):
            features = net(batch["inputs"], "pool", train=False)
            return total[0] + features.sum(0), total[1] + len(features)

        total, count = fold(add, (jnp.zeros(16), 0))
        return {**memory, "centre": total / count}


def remembering(epochs=2):
    head = small.settings(epochs=1)
    tune = small.settings(epochs=epochs, learning_rate=1e-3, batch_norm="batch")
    return small.problem("head_then_fine_tune", head=head, tune=tune, objective=Centred())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(remembering(), tmp_path_factory.mktemp("whole"))


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("offers", [[3], [6, 2], [5, 1, 3, 3]])
def test_memories_and_averages_are_in_checkpoints(whole, tmp_path, monkeypatch, offers):
    for number in offers:
        left, original = itertools.count(number - 1, -1), Saver.offer

        def offer(self, *args, left=left, original=original, **options):
            original(self, *args, **options)
            if next(left) == 0:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Saver, "offer", offer)
            with pytest.raises(Killed):
                run(remembering(), tmp_path, checkpoint_seconds=0)
    variables, progress, _ = run(remembering(), tmp_path)
    assert_same(variables, whole[0])
    assert without_times(progress) == without_times(whole[1])


def test_every_term_and_log_is_a_column(whole):
    for row in whole[1].history:
        assert {"train_loss", "train_far", "train_noise", "val_loss", "val_accuracy"} <= row.keys()
        # The loss is the sum of what is minimised: logs are not, and terms are scaled.
        assert row["train_loss"] > 0.1 * row["train_far"] > 0


def test_the_average_is_what_is_evaluated_and_handed_on(tmp_path, monkeypatch):
    states, original = [], train.assess

    def assess(work, variables, state, progress):
        states.append(jax.device_get((state.params, state.average)))
        return original(work, variables, state, progress)

    monkeypatch.setattr(train, "assess", assess)
    head = small.settings(best_by="last")
    mine = small.problem("head_only", head=head, objective=Centred())
    variables, progress, inputs = run(mine, tmp_path)
    params, average = states[-1]
    assert_same(variables["params"]["head"], average["params"]["head"])
    leaves = zip(jax.tree.leaves(params), jax.tree.leaves(average["params"]), strict=True)
    assert all(np.any(a != b) for a, b in leaves)
    val = mine.task.splits["val"]
    again = evaluate.scores(mine, variables, inputs, val)
    assert progress.history[-1]["val_loss"] == pytest.approx(again["loss"], rel=1e-6)


def test_a_memory_is_refreshed_before_each_epoch_from_all_examples(tmp_path, monkeypatch):
    found, original = [], train.fold.refreshed

    def refreshed(*args):
        new = original(*args)
        found.append(np.array(new.memory["centre"]))
        return new

    monkeypatch.setattr(train.fold, "refreshed", refreshed)
    mine = small.problem("head_only", objective=Centred())
    run(mine, tmp_path)
    rows = mine.task.splits["train"]
    assert len(rows) % mine.batch_size  # the last, smaller batch counts too
    x = small.PREPROCESSING([mine.task.open(row) for row in rows])
    wanted = small.chain().apply(small.variables(), x, stop="pool").output.mean(0)
    assert len(found) == 2
    np.testing.assert_allclose(found[0], wanted, rtol=1e-4)
    np.testing.assert_allclose(found[1], wanted, rtol=1e-4)  # frozen, and always view and epoch 0


# Which leaves learn.


def test_biases_alone_learn_and_all_else_is_bit_for_bit_the_same(tmp_path):
    tune = small.settings(leaves="bias$", weight_decay=0.3, optimizer="sgd")
    variables, _, _ = run(small.problem("full", tune=tune), tmp_path)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        before = small.variables()
        for key in path:
            before = before[key.key]
        moved = np.asarray(leaf).tobytes() != np.asarray(before).tobytes()
        assert moved == (path[-1].key == "bias"), jax.tree_util.keystr(path)


# Several sources.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matched(CrossEntropy):
    """Cross entropy of one source, and the distance of the features' means to another's."""

    judges = "labelled"

    def loss(self, net, batch, memory, now):
        made = super().loss(net, batch["labelled"], memory, now)
        mine, theirs = (net(b["inputs"], "pool").mean(0) for b in batch.values())
        return Loss({**made.terms, "distance": Term(((mine - theirs) ** 2).sum())}, memory)


def two_sources(plan="fine_tune_top", *, few=40, **changes):
    sources = {"labelled": small.task(), "other": small.task(few)}
    return small.problem(plan, objective=Matched(), sources=sources, **changes)


def batches_of(mine, epoch=0):
    inputs = for_plan(mine, test_views="none", cache=None, dtype="float32")
    inputs = inputs(mine.plan.phases[0], small.variables())
    work = PhaseRun(mine, mine.plan.phases[0], 0, inputs, small.variables())
    return work, list(work.batches(epoch))


def test_batches_of_several_sources_come_side_by_side_and_the_shorter_goes_round():
    mine = two_sources()
    work, batches = batches_of(mine)
    train_on = mine.sources["other"].splits["train"]
    assert len(train_on) == 24 and work.steps == 4  # so one batch of 16 a round
    assert [list(batch) for batch in batches] == [["labelled", "other"]] * 4
    assert all(len(b["inputs"]["image"]) == 16 for batch in batches for b in batch.values())
    single = small.problem("fine_tune_top")
    for batch, alone in zip(batches, batches_of(single)[1], strict=True):
        assert_same(batch["labelled"], alone)  # as if it were alone
    rounds = [batch["other"]["inputs"]["image"].tobytes() for batch in batches]
    assert len(set(rounds)) == 4  # in another order each time
    again = [batch["other"]["inputs"]["image"].tobytes() for batch in batches_of(mine)[1]]
    assert again == rounds
    other = [batch["other"]["inputs"]["image"].tobytes() for batch in batches_of(mine, 1)[1]]
    assert not set(other) & set(rounds)


@pytest.mark.parametrize("plan", ["head_only", "fine_tune_top"])
def test_sources_are_stored_each_and_give_the_run_from_pixels(tmp_path, plan):
    tune = small.settings(optimizer="sgd", learning_rate=1e-3)
    mine = two_sources(plan, tune=tune, head=tune)
    stored = {"given": {"cache": tmp_path / "cache"}}
    variables, progress, inputs = run(mine, tmp_path / "stored", **stored)
    plain, wanted, _ = run(mine, tmp_path / "plain")
    assert inputs.start == {"head_only": "pool", "fine_tune_top": "stage1_block2"}[plan]
    assert {i.start for i in inputs.others.values()} == {inputs.start}
    assert inputs.others["labelled"].key != inputs.others["other"].key
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), variables, plain
    )
    for row, other in zip(progress.history, wanted.history, strict=True):
        for name in ("train_loss", "train_distance", "val_loss", "val_accuracy"):
            assert row[name] == pytest.approx(other[name], rel=1e-3)


def test_statistics_are_estimated_on_the_source_that_is_judged(tmp_path):
    tune = small.settings(batch_norm="recalibrate", epochs=1)
    both = run(two_sources(tune=tune), tmp_path / "both")[0]
    alone = run(small.problem("fine_tune_top", tune=tune), tmp_path / "alone")[0]
    assert_same(both["batch_stats"], alone["batch_stats"])


# The best epoch, by any column.


@given(
    values=st.lists(st.integers(0, 4), min_size=1, max_size=8),
    column=st.sampled_from(
        ["val_loss", "train_loss", "train_far", "val_accuracy", "val_weighted_accuracy"]
    ),
)
def test_any_column_chooses_the_best_epoch_and_knows_its_direction(values, column):
    rows = [{"epoch": n, column: value} for n, value in enumerate(values)]
    phase = Phase("head", {"head": 1.0}, small.settings(best_by=column))
    best = max(values) if "accuracy" in column else min(values)
    found = best_row(phase, rows, CrossEntropy())
    assert found[column] == best
    assert found["epoch"] == max(n for n, value in enumerate(values) if value == best)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Language(CrossEntropy):
    chosen_by = "val_perplexity"
    lower = ("loss", "perplexity")


def test_an_objective_says_by_what_it_is_chosen_and_which_way_is_better():
    rows = [{"epoch": n, "val_perplexity": v} for n, v in enumerate([3.0, 1.0, 2.0])]
    phase = Phase("head", {"head": 1.0}, small.settings())
    assert best_row(phase, rows, Language())["epoch"] == 1
    assert better(Language(), "val_perplexity") == "min"
    assert better(CrossEntropy(), "val_auc") == "max"


@pytest.mark.parametrize("column", ["train_loss", "train_far", "val_weighted_accuracy", "last"])
def test_a_run_is_chosen_by_any_column_that_there_is(tmp_path, column):
    head = small.settings(best_by=column, epochs=1)
    _, progress, _ = run(small.problem("head_only", head=head, objective=Centred()), tmp_path)
    assert column == "last" or column in progress.history[0]


def test_a_log_chooses_nothing_as_no_direction_of_it_is_better(tmp_path):
    head = small.settings(best_by="train_noise")
    with pytest.raises(UserError, match="unknown best_by 'train_noise'"):
        run(small.problem("head_only", head=head, objective=Centred()), tmp_path)


# Discriminative rates by layer.


def test_a_layers_factor_scales_its_rate(tmp_path):
    of = steps.recipe(small.chain(), CrossEntropy(), {"stage2_block1": 2.6**-2, "head": 1.0})
    images = np.stack([np.asarray(small.task().open(e)) for e in range(8)])[..., None]
    x = np.asarray(small.PREPROCESSING.normalise(images), np.float32)
    truth = {name: array[:8] for name, array in small.task().truth.items()}
    batch = {"inputs": Known(image=x), **truth}
    now = steps.after(of, small.variables(), [batch], rates=0.1)
    same = steps.recipe(small.chain(), CrossEntropy(), ["stage2_block1", "head"])
    wanted = steps.after(same, small.variables(), [batch], rates=0.1)

    def moved(state, name):
        before = small.variables()["params"][name]
        return jax.tree.map(lambda a, b: a - b, state.params[name], before)

    def close(factor):
        return lambda a, b: np.testing.assert_allclose(a, factor * b, rtol=1e-3, atol=1e-6)

    name = "stage2_block1"
    jax.tree.map(close(2.6**-2), moved(now, name), moved(wanted, name))
    jax.tree.map(close(1.0), moved(now, "head"), moved(wanted, "head"))
