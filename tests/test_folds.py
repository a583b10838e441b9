"""Cross-validation: every example is tested once, groups stay whole, and a run for each fold."""

import dataclasses
import json

import numpy as np
import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import folder
from tl_jax.data.folds import in_fold
from tl_jax.data.tasks import load_task
from tl_jax.errors import UserError
from tl_jax.runs import folds as runs
from tl_jax.stats import paired


def held_out(task, folds: int, seed: int = 0) -> list[np.ndarray]:
    return [in_fold(task, folds, fold, seed=seed).splits["test"] for fold in range(folds)]


@settings(max_examples=25)
@given(st.integers(2, 7), st.integers(0, 2**32 - 1), st.booleans())
def test_every_example_is_tested_once(folds, seed, grouped):
    task = small.task()
    if grouped:
        names = np.random.default_rng(seed).integers(0, 25, len(task.ids))
        task = dataclasses.replace(task, groups=tuple(map(str, names)))
    for fold in range(folds):
        one = in_fold(task, folds, fold, seed=seed, val=0.2)
        every = np.concatenate(list(one.splits.values()))
        assert sorted(every) == list(range(len(task.ids)))
        assert abs(len(one.splits["val"]) - 0.2 * len(every)) <= (8 if grouped else 3)
        if grouped:
            of = [{task.groups[row] for row in own} for own in one.splits.values()]
            assert not (of[0] & of[1] or of[0] & of[2] or of[1] & of[2])
        else:
            counts = np.bincount(task.labels[one.splits["test"]], minlength=3)
            assert counts.max() - counts.min() <= 2  # the task has as many of each class
    every = np.concatenate(held_out(task, folds, seed))
    assert sorted(every) == list(range(len(task.ids)))


def test_a_seed_draws_other_folds_and_load_task_knows_them():
    one, other = (held_out(small.task(), 3, seed)[0] for seed in (0, 1))
    assert set(one) != set(other)
    whole = load_task("digits", seed=1, folds=4, fold=2, val=0.2)
    sizes = {split: len(rows) for split, rows in whole.splits.items()}
    assert sum(sizes.values()) == 1797 and sizes["test"] in (449, 450)
    assert abs(sizes["val"] - 0.2 * 1797) < 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"folds": 1}, "folds= takes a whole number, at least 2"),
        ({"folds": 3, "fold": 3}, "fold= takes a whole number, at least 0 and at most 2"),
        ({"folds": 101}, "folds="),
        ({"folds": 3, "per_class": 2}, "folds= divide all examples, and per_class= leaves some"),
    ],
)
def test_folds_that_are_none_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        load_task("digits", **options)


def test_too_few_examples_or_groups_are_said():
    with pytest.raises(UserError, match="class '0' of 'stripes' has 40 examples, too few for 50"):
        in_fold(small.task(), 50, 0, seed=0)
    groups = tuple("ab" * 60)
    with pytest.raises(UserError, match="has 2 groups, too few for 3 folds"):
        in_fold(dataclasses.replace(small.task(), groups=groups), 3, 0, seed=0)


def test_a_run_for_each_fold_and_their_mean(photos, tmp_path):
    config = folder.get_config()
    config.task.path, config.cache = str(photos), ""
    config.base, config.weights, config.size = "alexnet_small", "random:0", 24
    config.plan, config.train_head.epochs = "head_only", 1
    outcome = runs.by_config(config, tmp_path, 3, name="mine")
    sizes = []
    for fold in range(3):
        result = json.loads((tmp_path / f"fold_{fold}" / "result.json").read_text())
        assert result["config"]["task"]["fold"] == fold
        assert outcome["rows"][fold]["accuracy"] == result["test"]["accuracy"]
        sizes.append(result["task"]["sizes"])
    figures = [row["accuracy"] for row in outcome["rows"]]
    mean = outcome["means"]["accuracy"]
    assert mean["mean"] == pytest.approx(np.mean(figures))
    assert {(n["train"], n["test"]) for n in sizes} == {(31, 20)}
    wanted = paired.corrected(figures, ratio=20 / 31)
    assert mean["high"] - mean["low"] == pytest.approx(wanted.high - wanted.low)
    assert json.loads((tmp_path / runs.NAME).read_text()) == outcome
    said = runs.said(outcome)
    assert "accuracy" in said and "weighted" not in said and len(said.splitlines()) == 7
    again = runs.by_config(config, tmp_path, 3, name="mine")  # nothing is repeated
    assert again == outcome
