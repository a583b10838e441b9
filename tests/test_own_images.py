"""One's own images: from a folder to an answer, a page and a network."""

import csv
import json
import pathlib
import shutil

import numpy as np
import PIL.Image
import programs
import pytest
from test_advise import crossing, rows_of, write
from test_report import Page

import tl_jax
from tl_jax.advice import knowledge, plans, rules
from tl_jax.advice.found import Ran
from tl_jax.errors import UserError
from tl_jax.studies.scenarios import cells


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    """A base of four layers, in a file whose name has a dot."""
    path = tmp_path_factory.mktemp("base") / "own.safetensors"
    whole = tl_jax.load_base("efficientnet_lite0", "random:0").resized(32)
    whole.cut("stage2_block1").save(path)
    return str(path)


@pytest.fixture(scope="module")
def small():
    """Inside, every study is small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "QUICK", plans.QUICK._replace(size=32, epochs=1))
        patch.setattr(plans, "LEAST_STEPS", 8)
        yield


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write(tmp_path_factory.mktemp("tables") / "known.csv", tabled())


def tabled():
    """Six tasks that were measured, with all cheap plans."""
    known = rows_of(crossing, tasks=6, budgets=(5, 80), seeds=2)
    twin = {"pixels_svm": "class_means", "logistic": "cnn_svm"}
    more = [row | {"plan": twin[row["plan"]]} for row in known if row["plan"] in twin]
    return [row | {"test_weighted": row["test"]} for row in known + more]


@pytest.fixture(scope="module")
def studied(photos, base, small, table, tmp_path_factory):
    place = tmp_path_factory.mktemp("studied")
    given = {"workdir": place / "out", "cache": str(place / "cache"), "tables": [table]}
    return tl_jax.study(str(photos), quick=True, bases=[base], **given), given


def cells_in(folder: pathlib.Path) -> list[dict]:
    with open(folder / "cells.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_answer_is_the_plan_that_is_best_on_validation(studied):
    answer, given = studied
    measured = [
        row
        for stage in ("landmarks", "runs")
        for row in cells_in(given["workdir"] / stage)
        if int(row["seed"]) < 3
    ]
    by_plan: dict[str, list] = {}
    for row in measured:
        by_plan.setdefault(row["plan"], []).append(row)
    val = {plan: np.mean([float(row["val"]) for row in own]) for plan, own in by_plan.items()}
    best = max(val, key=lambda plan: val[plan])
    test = 100 * np.mean([float(row["test"]) for row in by_plan[best]])
    assert len(val) == 6 and f"({best}): {test:.1f} %" in answer.said.splitlines()[0]
    shown = Page(answer.report.read_text()).text
    assert answer.said.splitlines()[0] in shown and "square" in shown


def test_the_network_that_is_kept_is_that_of_the_cell(studied):
    """The run of the best trained plan has the figures of its cell, computed another way."""
    answer, given = studied
    runs = [row for row in cells_in(given["workdir"] / "runs") if row["seed"] == "0"]
    kept = json.loads((answer.model / "result.json").read_text())
    assert kept["test"]["accuracy"] in [pytest.approx(float(row["test"])) for row in runs]
    assert kept["val"]["accuracy"] in [pytest.approx(float(row["val"])) for row in runs]
    assert tl_jax.load_base(answer.model).classes == ("bar", "disc", "square")


def test_the_same_call_again_computes_nothing(studied, photos, base, monkeypatch):
    answer, given = studied
    monkeypatch.setattr(cells, "row", None)
    answer.report.unlink()
    again = tl_jax.study(str(photos), quick=True, bases=[base], **given)
    assert again.said == answer.said and again.report.exists()


def test_the_same_call_with_other_images_is_refused(studied, photos, base, tmp_path):
    _, given = studied
    folder, workdir = tmp_path / photos.name, tmp_path / "out"
    shutil.copytree(photos, folder)
    shutil.copytree(given["workdir"], workdir)
    shutil.copy(folder / "bar" / "1.png", folder / "bar" / "another.png")
    PIL.Image.new("RGB", (24, 24)).save(folder / "bar" / "new.png")
    with pytest.raises(UserError, match="another config|other data"):
        tl_jax.study(str(folder), quick=True, bases=[base], **{**given, "workdir": workdir})


@pytest.mark.slow
def test_images_that_change_between_two_stages_are_noticed(
    photos, base, small, table, tmp_path, monkeypatch
):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    look = tl_jax.advice.stages.look

    def looked(*given, **how):
        found = look(*given, **how)
        PIL.Image.new("RGB", (24, 24)).save(folder / "bar" / "new.png")
        return found

    monkeypatch.setattr(tl_jax.advice.stages, "look", looked)
    given = {"workdir": tmp_path / "out", "cache": str(tmp_path / "cache"), "tables": [table]}
    with pytest.raises(UserError, match="images have changed since .*class 'bar': "):
        tl_jax.advise(str(folder), quick=True, bases=[base], **given)


@pytest.mark.slow
def test_without_tables_the_lectures_rules_are_left(photos, base, small, tmp_path):
    given = {"workdir": tmp_path / "out", "cache": str(tmp_path / "cache"), "tables": []}
    answer = tl_jax.advise(str(photos), quick=True, bases=[base], **given)
    assert "no table of scenarios to learn from" in answer.said
    assert "lecture 004: freeze (head_only)" in answer.said
    assert answer.model is None and answer.found.known.advice is None
    assert "Advice was not judged" in Page(answer.report.read_text()).text


@pytest.mark.parametrize(
    ("labels", "features", "small_", "similar", "plan"),
    [(99, 0.7, True, True, "top"), (100, 0.7, False, True, "full"),
     (5, 0.5, True, False, "pixels_svm"), (500, 0.4, False, False, "from_scratch")],
)  # fmt: skip
def test_where_a_task_stands_in_lecture_003s_table(labels, features, small_, similar, plan):
    val = {"pixels_svm": 0.5, "logistic": features, "cnn_svm": 0.6, "class_means": 0.6}
    sizes = {"n_train": 2 * labels, "n_classes": 2, "budget": 0, "error": None}
    rows = [
        {"task": "images", "base": "b_1", "seed": 0, "plan": name, "val": own, **sizes}
        for name, own in val.items()
    ]
    found = knowledge.known(None, rows, "b.1", "mine")
    assert (found.small, found.similar) == (small_, similar)
    (third,) = (own for own in found.lectures if own.name == "lecture 003")
    assert third.plan == plan and str(found.scenario) == "mine from b.1, all labels"
    run = knowledge.candidates(found, 2)
    assert len(run) <= 2 and not set(run) & set(plans.CHEAP)
    assert any("plan" in plans.PLANS[name] for name in run)


def test_the_base_is_the_one_of_the_best_probe():
    rows = [
        {"base": base, "plan": plan, "val": val}
        for base, plan, val in (
            ("a", "logistic", 0.5), ("a", "cnn_svm", 0.9), ("b_2", "logistic", 0.6),
            ("b_2", "cnn_svm", 0.1), ("a", "logistic", 0.6),
        )
    ]  # fmt: skip
    assert knowledge.best_base(rows, ["a", "b.2"]) == "b.2"


def test_tables_that_come_with_the_library_teach_advice():
    paths = knowledge.tables()
    grid = knowledge.learnt(paths)
    assert grid is not None and {"elpv", "fashion"} <= set(grid.tasks)
    assert set(plans.CHEAP) | {"head_only", "top", "full", "from_scratch"} <= set(grid.plans)
    assert set(grid.plans) <= set(plans.PLANS)
    assert knowledge.learnt([]) is None
    roles = rules.stand_ins(grid.plans)
    assert set(roles) == set(rules.ROLES)


def test_what_is_no_table_and_what_is_no_base_is_said(photos, base, table, tmp_path):
    given = {"workdir": tmp_path / "out", "tables": [table], "quick": True}
    with pytest.raises(UserError, match="nothing' does not exist"):
        tl_jax.study(tmp_path / "nothing", **given)
    with pytest.raises(UserError, match="a study takes a folder"):
        tl_jax.study(3, **given)
    with pytest.raises(UserError, match="bases= takes .*each once"):
        tl_jax.advise(str(photos), bases=[base, base], **given)
    with pytest.raises(UserError, match="did you mean 'efficientnet_lite0'"):
        tl_jax.advise(str(photos), bases=["efficientnet_lit0"], **given)
    with pytest.raises(UserError, match="no table of scenarios"):
        tl_jax.advise(str(photos), bases=[base], **{**given, "tables": [photos / "no.csv"]})
    other = [row | {"plan": f"my_{row['plan']}"} for row in rows_of(crossing, tasks=1)]
    with pytest.raises(UserError, match="none of the plans pixels_svm"):
        knowledge.learnt([write(tmp_path / "other.csv", other)])
    with pytest.raises(UserError, match="workdir=.* lies in the folder of the images"):
        tl_jax.advise(str(photos), bases=[base], **{**given, "workdir": photos / "out"})


@pytest.mark.slow
def test_the_programs(photos, base, table, tmp_path):
    flags = [photos, "--quick", f"--bases={base}", f"--tables={table}"]
    flags += [f"--cache={tmp_path / 'cache'}", f"--workdir={tmp_path / 'out'}", "--per_class=4"]
    ended = programs.run("advise", *flags)
    assert ended.returncode == 0
    assert "photos" in ended.stdout and "4 labels a class: " in ended.stdout
    assert f"report: {tmp_path / 'out' / 'report.html'}" in ended.stdout
    ended = programs.run("study")
    assert ended.returncode == 2 and "which images?" in programs.error_line(ended.stderr)


def test_a_cut_is_told_where_a_layer_is_better_than_the_bottleneck_in_every_split():
    def layers(middle):
        val = {"low": 0.4, "middle": middle, "pool": 0.6}
        rows = [
            {"layer": name, "budget": 1.0, "seed": seed, "train": 80, "val": 20,
             "probes": {"logistic": {"val": own + noise}}}
            for name, own in val.items()
            for seed, noise in enumerate((0.0, 0.01, -0.01, 0.02, 0.0) if name == "low" else
                                         (0.001, 0.0, 0.002, 0.0, 0.001))
        ]  # fmt: skip
        config = {"budgets": [1.0], "probes": ["logistic"], "seeds": list(range(5))}
        return {"config": config, "layers": dict.fromkeys(val), "cells": rows, "overlap": 0.25}

    better = knowledge.best_cut(layers(0.7))
    assert (better.layer, better.told) == ("middle", True)
    assert better.gain.mean == pytest.approx(0.1) and better.gain.count == 5
    same = knowledge.best_cut(layers(0.5))
    assert (same.layer, same.told, same.gain.mean) == ("pool", False, 0)


def test_a_plan_of_which_a_run_failed_is_named_and_not_compared():
    def row(plan, seed, val, **more):
        sizes = {"n_test": 10, "n_all": 40, "test_split": str(seed), "base": "b", "budget": 0}
        figures = {"val": val, "test_weighted": val, "chosen": {}, "task": "images"}
        return {"plan": plan, "seed": seed, **sizes, **figures, **more}

    runs = [row("top", 0, 0.9), row("top", 1, None, error="lost"), row("head_only", 0, 0.7)]
    runs.append(row("head_only", 1, 0.7))
    cheap = [row("logistic", seed, 0.6) for seed in range(5)]
    ran = Ran.of({"rows": runs}, {"rows": cheap}, "b")
    assert (ran.plans, ran.failed) == (("head_only", "logistic"), ("top",))
    assert [own["seed"] for own in ran.of_plan("logistic")] == [0, 1]
    assert ran.kept()[0] == "head_only"
    with pytest.raises(UserError, match="runs of every plan failed: lost"):
        Ran.of({"rows": runs[:2]}, {"rows": cheap}, "b")
