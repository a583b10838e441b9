"""Runs side by side: the mean and spread that documents quote."""

import csv
import io
import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from scipy import stats

from experiments import cli, compare
from tl_jax.data.tasks.arrays import from_arrays
from tl_jax.errors import UserError
from tl_jax.runs import results
from tl_jax.studies.compare import page, study
from tl_jax.studies.compare.methods import compare_methods, grouped, names_of


@pytest.fixture(autouse=True)
def parsed():
    flags.FLAGS.mark_as_parsed()


SCORES = dict.fromkeys(("accuracy", "f1", "auc", "loss"), 0.5)


def result(seed, weighted, **config):
    scores = SCORES | {"weighted_accuracy": weighted}
    return {"seed": seed, "config": {"seed": seed} | config, "val": scores, "test": scores}


def judged(seed, weighted, *, test=25, split=None, seconds=60.0, **config):
    """A result that says how its splits were drawn, what it cost and what was trained."""
    task = {"name": "toy", "sizes": {"train": 70, "val": 5, "test": test}, "test_split": split}
    chosen = {"best_by": "val_loss", "best_epoch": 1 + seed, "epochs_run": 9}
    phases = [{"trained_parameters": 10}, {"trained_parameters": 1200, **chosen}]
    cost = {"cost": {"total_seconds": seconds}, "plan": {"phases": phases}, "task": task}
    return result(seed, weighted, **config) | cost


PLAIN = (0.80, 0.82, 0.84, 0.81, 0.83)
BETTER = (0.85, 0.86, 0.90, 0.85, 0.89)


def both(**options):
    plain = [judged(s, w, batch_size=32, **options) for s, w in enumerate(PLAIN)]
    return plain + [judged(s, w, batch_size=8, **options) for s, w in enumerate(BETTER)]


def written(folder, *results):
    for one in results:
        run = folder / f"run_{one['seed']}_{len(list(folder.iterdir()))}"
        run.mkdir()
        (run / "result.json").write_text(json.dumps(one))
        yield str(run)


def test_mean_and_sample_deviation_by_hand():
    # 88, 90, 92: mean 90, deviation sqrt((4 + 0 + 4) / 2) = 2
    results = [result(2, 0.92), result(0, 0.88), result(1, 0.9)]
    rows = page.table(*study.compare(results)).splitlines()
    assert rows[0].split() == ["mean", "sd", "seed", "0", "seed", "1", "seed", "2"]
    line = next(row for row in rows if row.startswith("test weighted_accuracy, %"))
    assert line.split()[2:] == ["%", "90.00", "2.00", "88.00", "90.00", "92.00"]


def test_loss_is_not_a_percentage():
    rows = page.table(*study.compare([result(0, 0.9)])).splitlines()
    assert next(r for r in rows if r.startswith("val loss")).split()[2:] == ["0.50", "0.00", "0.50"]


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ([result(0, 0.9)], "two runs of a config have the same seed"),
        ([result(0, 0.9, batch_size=8)], "do not say how many examples"),
        ([judged(1, 0.9, batch_size=8)], "do not say how many examples"),
        ([judged(0, 0.9, test=9, batch_size=8)], "seed 0 are not tested on the same examples"),
    ],
)
def test_what_cannot_be_averaged_is_refused(tmp_path, capsys, others, why):
    runs = list(written(tmp_path, result(0, 0.8), *others))
    assert cli.status(compare.main, ["compare", *runs]) == 2
    assert why in capsys.readouterr().err


def test_methods_are_paired_by_seed_and_the_interval_is_corrected():
    results = both()
    found = compare_methods(grouped(results[::-1]), metric="weighted_accuracy")
    assert [m.name for m in found.methods] == ["batch_size=8", "batch_size=32"]
    assert [m.seeds for m in found.methods] == [[0, 1, 2, 3, 4]] * 2
    (own,) = found.differences
    less = np.array(PLAIN) - BETTER
    theirs = stats.ttest_1samp(less, 0)
    wider = np.sqrt(1 + 5 * 25 / 70)
    assert own.estimate.mean == pytest.approx(theirs.statistic * less.std(ddof=1) / np.sqrt(5))
    half = (theirs.confidence_interval().high - less.mean()) * wider
    assert own.estimate.high == pytest.approx(less.mean() + half)
    assert own.p == pytest.approx(2 * stats.t.sf(-theirs.statistic / wider, 4))
    assert own.verdict == "hurts"


def test_one_test_split_for_all_needs_no_correction():
    found = compare_methods(grouped(both(split="abc")), metric="weighted_accuracy")
    less = np.array(BETTER) - PLAIN
    high = stats.ttest_1samp(less, 0).confidence_interval().high
    assert found.ratio == 0 and found.differences[0].estimate.high == pytest.approx(high)


def test_a_label_budget_makes_no_interval_wider():
    results = both()
    for one in results:
        one["task"] = one["task"] | {"sizes": {"train": 2, "val": 5, "test": 25}, "examples": 100}
    assert compare_methods(grouped(results), metric="weighted_accuracy").ratio == 25 / 70


def test_a_result_tells_which_examples_it_was_tested_on():
    images, labels = np.zeros((60, 2, 2), np.uint8), np.arange(60) % 2
    drawn = [from_arrays("toy", images, labels, seed=seed) for seed in (0, 0, 1)]
    one, same, other = (results._task(task)["test_split"] for task in drawn)
    assert one == same != other


def test_a_lower_loss_helps_and_a_margin_may_forbid_it():
    results = both()
    for one in results:
        one["test"] = one["test"] | {"loss": 1 - one["test"]["weighted_accuracy"]}
    accuracy = "weighted_accuracy"
    for metric, margin, said in (
        ("loss", 0, "helps"),
        (accuracy, 0, "helps"),
        (accuracy, 4, "cannot tell"),
        ("loss", 0.04, "cannot tell"),  # in its unit, where others' points are hundredths
        ("loss", 0.0004, "helps"),
    ):
        found = compare_methods(grouped(results), metric=metric, margin=margin)
        assert found.differences[0].verdict == said
    with pytest.raises(UserError, match="unknown metric 'weighted'; did you mean 'weighted_acc"):
        compare_methods(grouped(results), metric="weighted")


def test_four_pairs_cannot_tell():
    found = compare_methods(grouped(both()[1:]), metric="weighted_accuracy")
    assert (found.differences[0].estimate.count, found.differences[0].verdict) == (4, "cannot tell")


def test_a_method_is_called_by_what_sets_it_apart():
    configs = [
        {"seed": 0, "tune": {"epochs": 3, "clip": 1.0}, "plan": "full"},
        {"seed": 1, "tune": {"epochs": 3, "clip": 0.0}, "plan": "full", "new": True},
    ]
    assert names_of(configs) == ["tune.clip=1.0, new=none", "tune.clip=0.0, new=True"]


def test_the_table_is_written_as_csv_and_latex(tmp_path, capsys):
    runs = list(written(tmp_path, *both()))
    files = {"csv": str(tmp_path / "c.csv"), "latex": str(tmp_path / "c.tex")}
    with flagsaver.flagsaver(**files):
        assert cli.status(compare.main, ["compare", *runs]) == 0
    shown = capsys.readouterr().out
    assert "test weighted_accuracy, %" in shown and "difference, points" in shown
    assert "batch_size=8" in shown and "helps" in shown and "n_test / n_train = 0.36" in shown
    first, second = csv.DictReader(io.StringIO((tmp_path / "c.csv").read_text()))
    assert (first["method"], first["difference"]) == ("batch_size=32", "")
    assert (second["pairs"], second["verdict"]) == ("5", "helps")
    assert float(second["difference"]) == pytest.approx(0.05)
    assert (second["seconds"], second["trained parameters"]) == ("60.0", "1200")
    assert first["kept"] == "epochs 1 to 5 of 9 by validation loss, 4 to 8 stepped back"
    lines = (tmp_path / "c.tex").read_text().splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrrrrrrrrr}" and lines[-1] == r"\end{tabular}"
    assert all(line.count("&") == 12 for line in lines if line.endswith(r"\\"))
    assert any(line.startswith(r"batch\_size=8 & 5 & 87.00") for line in lines)


def test_the_table_of_one_method_is_written_too(tmp_path, capsys):
    runs = list(written(tmp_path, result(0, 0.88), result(1, 0.92)))
    with flagsaver.flagsaver(csv=str(tmp_path / "c.csv")):
        assert cli.status(compare.main, ["compare", *runs]) == 0
    lines = (tmp_path / "c.csv").read_text().splitlines()
    rows = {(r["split"], r["metric"]): r for r in csv.DictReader(lines)}
    assert rows["test", "weighted_accuracy"]["seed 1"] == "0.92"


@pytest.mark.parametrize("content", [None, "{", "", "[1]", "null"])
def test_an_unfinished_run_is_named(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    assert cli.status(compare.main, ["compare", str(tmp_path)]) == 2
    assert f"error: {tmp_path} is not a finished run" in capsys.readouterr().err


@pytest.mark.parametrize("content", ['{"config": {}, "cells": []}', '{"config": 1, "seed": 0}'])
def test_what_is_no_transfer_is_not_compared(tmp_path, capsys, content):
    (tmp_path / "result.json").write_text(content)
    assert cli.status(compare.main, ["compare", str(tmp_path)]) == 2
    assert f"{tmp_path} holds no result of experiments.transfer" in capsys.readouterr().err


def test_a_metric_that_some_runs_lack_is_not_averaged():
    some, none = result(0, 0.8), result(1, 0.9)
    for own in (some, none):
        own["val"] = own["test"] = {k: v for k, v in own["test"].items() if k != "f1"}
    none["test"] = none["test"] | {"auc": None}
    del some["test"]["accuracy"]
    lines = page.table(*study.compare([some, none])).splitlines()
    assert "test auc, %: not defined in every run" in lines
    assert "test accuracy, %: not defined in every run" in lines
    assert not any("f1" in line for line in lines)


def test_a_name_of_any_signs_stays_a_cell_of_latex():
    cells = [("method",), ("a\\b~c^d{e}$x_%<&#>",)]
    row = page.as_latex(cells).splitlines()[4]
    assert row == (
        r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d\{e\}\$x\_\%$<$\&\#$>$ \\"
    )
    assert names_of([{"path": "a\nb"}, {"path": "c"}]) == [r"path=a\nb", "path=c"]


@pytest.mark.parametrize(
    ("flag", "file"), [("csv", ""), ("csv", "nowhere/t.csv"), ("latex", "-"), ("latex", ".")]
)
def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path, capsys, flag, file):
    runs = list(written(tmp_path, result(0, 0.88)))
    with flagsaver.flagsaver(**{flag: file}):
        assert cli.status(compare.main, ["compare", *runs]) == 2
    out, err = capsys.readouterr()
    assert f"--{flag}" in err and not out


def test_no_runs(capsys):
    assert cli.status(compare.main, ["compare"]) == 2
    assert "which runs?" in capsys.readouterr().err
