"""Soups: means of weights, chosen on validation, of runs that fit together."""

import dataclasses
import pathlib
import shutil

import jax
import numpy as np
import programs
import pytest

import tl_jax
from tl_jax.errors import UserError
from tl_jax.runs import ensemble, several, soup
from tl_jax.runs.judge import judged
from tl_jax.runs.soup import Ingredient


@pytest.fixture(scope="module")
def task():
    return tl_jax.load_task("digits", seed=0, per_class=10)


@pytest.fixture(scope="module")
def base():
    found = tl_jax.load_base("efficientnet_lite0", "random:0").cut("stage1_block1")
    return found.resized(16)


@pytest.fixture(scope="module")
def runs(base, task, tmp_path_factory):
    """Two finished runs that differ in their rate."""
    found = {}
    for rate in (1e-2, 3e-2):
        folder = tmp_path_factory.mktemp("run")
        head = {"epochs": 2, "learning_rate": rate}
        found[folder] = base.transfer(
            task, plan="head_only", train_head=head, batch_size=20, workdir=folder, cache=None
        )
    return found


def test_runs_are_mixed_into_the_mean_of_their_weights(runs, task):
    parts = soup.ingredients(list(runs), metric="accuracy")
    assert [part.val for part in parts] == [run.val["accuracy"] for run in runs.values()]
    found = soup.uniform(parts, task, metric="accuracy")
    one, two = (run.base.variables for run in runs.values())
    middle = jax.tree.map(lambda a, b: (a + b) / 2, one, two)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7),
                 found.base.variables, middle)  # fmt: skip
    assert found.kept == tuple(runs)


def test_a_soup_of_one_is_judged_as_its_run_was(runs, task):
    for run in runs.values():
        for split, wanted in (("val", run.val), ("test", run.test)):
            got = judged(soup.mixed([run.base]), task, split)
            assert got["accuracy"] == wanted["accuracy"]
            assert got["loss"] == pytest.approx(wanted["loss"], rel=1e-4)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_a_greedy_soup_adds_what_does_no_harm(runs, task, metric):
    """The best run, the same again, and one with weights that fit nothing."""
    (_, run), *_ = runs.items()
    junk = dataclasses.replace(run.base, variables=jax.tree.map(lambda a: 30 - 7 * a,
                                                                run.base.variables))  # fmt: skip
    parts = [
        Ingredient(pathlib.Path(name), base, judged(base, task, "val")[metric])
        for name, base in (("junk", junk), ("one", run.base), ("same", run.base))
    ]
    found = soup.greedy(parts, task, metric=metric)
    assert set(found.kept) == {pathlib.Path("one"), pathlib.Path("same")}
    assert found.val == pytest.approx(parts[1].val, abs=1e-5)


def test_runs_that_do_not_fit_together_are_refused(runs, base, task, tmp_path):
    first = next(iter(runs))
    with pytest.raises(UserError, match="two runs or more; got 1"):
        soup.ingredients([first], metric="accuracy")
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        soup.ingredients(list(runs), metric="acuracy")
    with pytest.raises(UserError, match="unknown metric on validation"):
        soup.ingredients(list(runs), metric="per_class")
    with pytest.raises(UserError, match="is no finished run"):
        soup.ingredients([first, tmp_path], metric="accuracy")
    options = {"plan": "head_only", "train_head": {"epochs": 1}, "batch_size": 20, "cache": None}
    other = tl_jax.load_task("digits", seed=1, per_class=10)
    base.transfer(other, workdir=tmp_path / "seed", **options)
    with pytest.raises(UserError, match="do not fit together: other splits"):
        soup.ingredients([first, tmp_path / "seed"], metric="accuracy")
    base.transfer(task, workdir=tmp_path / "head", head="concat_pool", **options)
    with pytest.raises(UserError, match="do not fit together: another architecture"):
        soup.ingredients([first, tmp_path / "head"], metric="accuracy")


def test_a_task_that_has_changed_since_is_refused(runs, task):
    first = next(iter(runs))
    several.require_same_data(first, task)
    rows = task.splits["test"]
    moved = dataclasses.replace(task, splits={**task.splits, "test": rows[1:]})
    with pytest.raises(UserError, match=f"other data: test examples: {len(rows)} then"):
        several.require_same_data(first, moved)


def test_an_ensemble_is_the_mean_of_probabilities(runs, task):
    bases = [run.base for run in runs.values()]
    alone, together = ensemble.judged(bases, task, "test")
    assert [one["accuracy"] for one in alone] == [run.test["accuracy"] for run in runs.values()]
    rows = task.splits["test"]
    mean = sum(base.predict([task.image(row) for row in rows]) for base in bases) / 2
    assert together["accuracy"] == (mean.argmax(1) == task.labels[rows]).mean()
    nll = -np.log(mean[np.arange(len(rows)), task.labels[rows]]).mean()
    assert together["loss"] == pytest.approx(nll, rel=1e-5)


@pytest.mark.slow
def test_the_program_of_ensembles(done, tmp_path):
    again = shutil.copytree(done, tmp_path / "again")
    ended = programs.run("ensemble", str(done), str(again))
    assert ended.returncode == 0, ended.stderr
    lines = [line.split("\t")[1:] for line in ended.stdout.splitlines()]
    assert len(lines) == 3 and lines[0] == lines[1] == lines[2]
    accuracy = programs.found(done)[0]["test"]["accuracy"]
    assert lines[0][1] == f"test {100 * accuracy:.1f} %"


def test_the_program_says_that_it_does_not_know_a_task_from_python(runs, tmp_path):
    done = programs.run("soup", f"--out={tmp_path / 'soup.safetensors'}", *runs)
    assert done.returncode == 2
    assert "was made from Python" in programs.error_line(done.stderr)
