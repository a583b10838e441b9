"""The study of scores and accuracies: what it finds, goes on with, and refuses."""

import json
import re
from unittest import mock

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from experiments import cli, config_flag
from tl_jax.base.load import load_base
from tl_jax.data.tasks import load_task
from tl_jax.measure import scores
from tl_jax.runs.config import load_config
from tl_jax.studies.score_vs_accuracy import page
from tl_jax.studies.score_vs_accuracy import study as computed

CUTS = ("stem", "stage1_block1", "stage2_block1")


def config(given, **changes):
    found = load_config("configs/score_vs_accuracy_digits.py")
    with found.unlocked():
        del found.bases.lite0
    found.bases.random.cuts = CUTS
    changed = {"size": 32, "task.per_class": 5, "head.epochs": 2, "tune.epochs": 1}
    changed |= {"batch_size": 16, "from_layer": "stem", "resamples": 20, "task.name": "folder"}
    changed |= {key: str(value) for key, value in given.items()}
    found.update_from_flattened_dict(changed | changes)
    return found


def run(config, workdir):
    return config_flag.run("score_vs_accuracy", config, workdir, "name")


@pytest.fixture(scope="module")
def done(given, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study")
    return workdir, run(config(given), workdir)


@pytest.mark.slow
def test_scores_are_those_of_the_training_images_features(done, photos):
    base = load_base("efficientnet_lite0", "random:0").resized(32, 1.0)
    task = load_task("folder", path=str(photos), seed=0, val=0.05, test=0.25, per_class=5)
    train = task.splits["train"]
    images = base.preprocessing([task.open(i) for i in train])
    labels = task.labels[train]
    for row in done[1]["candidates"]:
        features = np.asarray(base(images, layer=row["cut"])).mean((1, 2))
        assert row["dimensions"] == features.shape[1]
        wanted = scores.logme(features, labels)
        assert row["scores"]["LogME"] == pytest.approx(wanted, rel=1e-3)
        wanted = scores.leep(softmax(np.float64(base(images)), axis=1), labels)
        assert row["scores"]["LEEP"] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
def test_agreement_is_scipys_on_the_candidates(done):
    rows = done[1]["candidates"]
    assert [row["cut"] for row in rows] == list(CUTS)
    found = {(a["score"], a["accuracy"]): a for a in done[1]["agreement"]}
    one = [row["scores"]["TransRate"] for row in rows]
    other = [row["accuracy"]["fine_tuned"] for row in rows]
    wanted = stats.kendalltau(one, other).statistic
    assert found["TransRate", "fine_tuned"]["Kendall"][0] == pytest.approx(wanted)
    assert not any(score in ("LEEP", "NCE") for score, _ in found)  # there is one base


@pytest.mark.slow
def test_the_report_has_the_numbers_to_take_away(done):
    workdir, result = done
    page = (workdir / "report.html").read_text()
    assert "Which score ranks best" in page
    kept = r"of 2 by validation loss(, .* stepped back)?; fine-tuned: epoch 1 of 1, the last"
    assert re.search(kept, page)
    for row in result["candidates"]:
        (head, tuned) = row["epochs"].values()
        assert head["best_epoch"] in (1, 2) and tuned["best_epoch"] == 1
    lines = (workdir / "candidates.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [["random", cut] for cut in CUTS]
    assert len((workdir / "agreement.csv").read_text().splitlines()) == 1 + 2 * 6
    assert not list((workdir / "runs").iterdir())


@pytest.mark.slow
def test_a_finished_candidate_is_not_repeated_and_a_half_written_one_is(
    given, done, tmp_path, monkeypatch
):
    """And what it stores lies in the home folder, where `cache` says so."""
    own = config(given, cache="~/cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    lines = (done[0] / "cells.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cells.jsonl").write_text("".join(lines[:2]) + lines[2][:70])
    (tmp_path / "config.json").write_text((done[0] / "config.json").read_text())
    with mock.patch.object(computed, "transfer", side_effect=computed.transfer) as called:
        result = run(own, tmp_path)
    assert (tmp_path / "cache").is_dir() and not (tmp_path / "~").exists()
    assert [call.kwargs["cut"] for call in called.call_args_list] == [CUTS[2]]
    assert _found(result) == _found(done[1])
    assert json.loads((tmp_path / "result.json").read_text()) == result


def agreed(score, tau, *, best, bases):
    entry = {"score": score, "accuracy": "fine_tuned", "candidates": 3 * bases, "bases": bases}
    return entry | {"best": best, "weighted tau": [tau, tau - 0.2, tau + 0.1]}


@pytest.mark.parametrize(
    ("bases", "share", "said"),
    [
        (6, 0.97, "For fine-tuned accuracy LogME is the best of 2: weighted tau 0.80 (0.60"),
        (6, 0.6, "Which of 2 is the best for fine-tuned accuracy cannot be told: the highest"),
        (4, 0.97, "Which of 2 is the best for fine-tuned accuracy cannot be told: the highest"),
        (1, None, "over 3 candidates of 1 base."),
    ],
)
def test_a_score_is_called_the_best_only_where_it_can_be_told(bases, share, said):
    rest = None if share is None else 1 - share
    rows = [
        agreed("TransRate", 0.5, best=rest, bases=bases),
        agreed("LogME", 0.8, best=share, bases=bases),
        agreed("LEEP", 0.9, best=None, bases=bases),  # of whole bases: another question
    ]
    assert said in page.best(rows)
    assert ("of resamples" in page.best(rows)) == (share is not None)


@pytest.mark.slow
def test_one_base_tells_no_score_from_another(done):
    assert {a["best"] for a in done[1]["agreement"]} == {None}
    said = page.best(done[1]["agreement"])
    assert "cannot be told" in said
    assert said in (done[0] / "report.html").read_text() and said in page.summary(done[1])


def _found(result):
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in result["candidates"]]
    return rows, result["agreement"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"bases.random.cuts": ("stage1_block7",)}, "did you mean 'stage1_block1'"),
        ({"head.learning_rate": float("nan")}, "learning_rate > 0; got"),
        ({"resamples": -1}, "resamples= takes a whole number"),
        ({"from_layer": "pool"}, "from_layer='pool' is above the cut at"),
        ({"from_layer": "stage9"}, "unknown layer 'stage9'"),
        ({"bases.random.weights": "nowhere.pth"}, "nowhere.pth"),
        ({"task.per_class": 4000}, "for the budget"),
        ({"seeds": (-1,)}, "a seed takes a whole number"),
        ({"seeds": (0, 0)}, "seeds= takes a list of one or more, each once"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(given, tmp_path, capsys, changes, why):
    wrong = config(given, **changes)
    assert cli.status(lambda argv: run(wrong, tmp_path), []) == 2
    assert why in capsys.readouterr().err
