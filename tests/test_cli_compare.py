"""Runs side by side: the mean and spread that documents quote."""

import json

import pytest

from experiments import cli, compare
from tl_jax.studies.compare import page, study

SCORES = dict.fromkeys(("accuracy", "f1", "auc", "loss"), 0.5)


def result(seed, weighted, **config):
    scores = SCORES | {"weighted_accuracy": weighted}
    return {"seed": seed, "config": {"seed": seed} | config, "val": scores, "test": scores}


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
    line = next(row for row in rows if row.startswith("test weighted_accuracy"))
    assert line.split()[2:] == ["90.00", "2.00", "88.00", "90.00", "92.00"]


def test_loss_is_not_a_percentage():
    rows = page.table(*study.compare([result(0, 0.9)])).splitlines()
    assert next(r for r in rows if r.startswith("val loss")).split()[2:] == ["0.50", "0.00", "0.50"]


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ([result(0, 0.9)], "a seed is there twice"),
        ([result(1, 0.9, batch_size=8)], "differ in more than the seed"),
    ],
)
def test_what_cannot_be_averaged_is_refused(tmp_path, capsys, others, why):
    runs = list(written(tmp_path, result(0, 0.8), *others))
    assert cli.status(compare.main, ["compare", *runs]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "{", ""])
def test_an_unfinished_run_is_named(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    assert cli.status(compare.main, ["compare", str(tmp_path)]) == 2
    assert f"error: {tmp_path} is not a finished run" in capsys.readouterr().err


def test_no_runs(capsys):
    assert cli.status(compare.main, ["compare"]) == 2
    assert "which runs?" in capsys.readouterr().err
