"""Which epoch each phase hands on, and that a run says so, above all where it is no gain."""

import json

import numpy as np
import pytest
import small
from test_report import Page

import tl_jax
from tl_jax.base.load import load_base
from tl_jax.data.tasks.arrays import from_arrays
from tl_jax.plans.plan import Phase, Plan
from tl_jax.report import terminal_table, text
from tl_jax.train.objectives.byol import BYOL
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.state import Progress, best_row, choices


def told(objective=None, **phases):
    """`choices` of phases: for each its `best_by`, then (accuracy, loss) by epoch."""
    plan, history = [], []
    for name, (best_by, *epochs) in phases.items():
        plan.append(Phase(name, {"head": 1.0}, small.settings(best_by=best_by)))
        for number, (accuracy, loss) in enumerate(epochs, 1):
            row = {"val_accuracy": accuracy, "val_loss": loss, "train_loss": loss}
            history.append({"phase": name, "epoch": number, **row})
    progress = Progress(history=history)
    return choices(Plan("test", tuple(plan)), progress, objective or CrossEntropy())


def test_the_column_says_which_epoch_is_kept():
    rows = [(0.8, 0.2), (0.9, 0.4), (0.9, 0.3), (0.7, 0.9)]
    for by, epoch in (("val_loss", 1), ("val_accuracy", 3), ("last", 4), ("", 3)):
        (own,) = told(head=(by, *rows))
        assert own["best_epoch"] == epoch and own["best_by"] == (by or CrossEntropy.chosen_by)


def test_a_phase_that_ends_worse_than_one_before_says_which_by_its_own_criterion():
    head = ("val_loss", (0.8, 0.6), (0.7, 0.5))
    first, second = told(head=head, tune=("val_accuracy", (0.6, 0.1), (0.65, 0.2)))
    assert first["worse_than"] is None and (first["metric"], first["value"]) == ("val_loss", 0.5)
    assert (second["metric"], second["value"], second["epochs_run"]) == ("val_accuracy", 0.65, 2)
    assert second["worse_than"] == {"phase": "head", "epoch": 2, "value": 0.7}
    for better in (("val_loss", (0.1, 0.4)), ("val_accuracy", (0.7, 9.0))):
        assert told(head=head, tune=better)[1]["worse_than"] is None
    # The third begins from the second, and is behind the first all the same.
    last = told(head=head, a=("val_loss", (0, 0.9)), b=("val_loss", (0, 0.6)))[2]
    assert last["worse_than"] == {"phase": "head", "epoch": 2, "value": 0.5}


def test_last_weights_are_judged_by_the_objectives_own_criterion_if_it_has_one():
    by = CrossEntropy.chosen_by
    worse, better = ((0.1, 2.0), (0.9, 0.1))
    second = told(head=(by, better), tune=("last", better, worse))[1]
    assert (second["best_by"], second["best_epoch"], second["metric"]) == ("last", 2, by)
    assert second["worse_than"]["phase"] == "head"
    free = told(BYOL(), head=("", better), tune=("", worse))[1]
    assert (free["metric"], free["value"], free["worse_than"]) == (None, None, None)


@pytest.mark.parametrize(
    ("phases", "said"),
    [
        ([("val_loss", 2, 20)], "epoch 2 of 20 by validation loss, 18 stepped back"),
        ([("last", 9, 9)], "epoch 9 of 9, the last"),
        (
            [("val_accuracy", n, 20) for n in (7, 3)],
            "epochs 3 to 7 of 20 by validation accuracy, 13 to 17 stepped back",
        ),
        (
            [("train_far", n, n + 4 * (n > 5)) for n in (5, 9)],
            "epochs 5 to 9 of 5 to 13 by training far, 0 to 4 stepped back",
        ),
        ([("val_loss", 4, 4)], "epoch 4 of 4 by validation loss"),
        (
            [("val_loss", 1, 2), ("last", 2, 2)],
            "epoch 1 of 2 by validation loss, 1 stepped back; epoch 2 of 2, the last",
        ),
        ([("", 1, 2)], "epoch 1 of 2, 1 stepped back"),  # of before it was written down
    ],
)
def test_kept_epochs_are_said_in_words(phases, said):
    names = ("best_by", "best_epoch", "epochs_run")
    assert text.kept(*(dict(zip(names, one, strict=True)) for one in phases)) == said


def noise():
    """In which there is nothing to learn: what is learned all the same makes the loss worse."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (90, 8, 8)), np.arange(90) % 3
    return from_arrays("noise", images.astype(np.uint8), labels, seed=0, val=0.2, test=0.2)


def test_a_run_whose_fine_tuning_ruins_the_head_says_so_everywhere(tmp_path, caplog):
    base = load_base("resnet18", "random:0").resized(8)
    head = {"epochs": 3, "learning_rate": 1e-3, "best_by": "val_loss"}
    ruin = head | {"epochs": 2, "learning_rate": 1.0}
    run = tl_jax.transfer(
        base, noise(), cut="stem", from_layer="stem", train_head=head, tune=ruin,
        workdir=tmp_path / "run", cache="", batch_size=24,
    )  # fmt: skip
    first, second = json.loads((tmp_path / "run/result.json").read_text())["plan"]["phases"]
    rows = {name: [r for r in run.history if r["phase"] == name] for name in ("head", "fine_tune")}
    lowest = {name: min(r["val_loss"] for r in own) for name, own in rows.items()}
    assert lowest["fine_tune"] > lowest["head"]
    assert second["worse_than"] == {
        "phase": "head", "epoch": first["best_epoch"], "value": lowest["head"]
    }  # fmt: skip
    assert first["worse_than"] is None and second["value"] == lowest["fine_tune"]
    assert run.val["loss"] == pytest.approx(lowest["fine_tune"], rel=1e-4)  # handed on as it is
    then, now = (text.number(lowest[name]) for name in ("head", "fine_tune"))
    line = f"hands on a validation loss of {now}, worse than the {then} of head (epoch"
    page = Page((tmp_path / "run/report.html").read_text())
    for place in (caplog.text, terminal_table(run.result), page.text):
        assert line in place
    assert f"phase head: epoch {first['best_epoch']} of 3 by validation loss" in terminal_table(
        run.result
    )


def test_transfer_and_scratch_are_chosen_by_the_same():
    """Else a comparison of the two would be one of criteria as well."""
    rows = [{"epoch": 1, "val_accuracy": 0.5, "val_loss": 0.2}]
    rows += [{"epoch": 2, "val_accuracy": 0.6, "val_loss": 0.9}]  # more often right, less modest
    for plan in ("from_scratch", "full", "head_only", "head_then_fine_tune", "discriminative"):
        for phase in small.problem(plan).plan.phases:
            assert best_row(phase, rows, CrossEntropy())["epoch"] == 2
