"""The study of similarity: the maps it gives, and a base of which only the top was changed."""

import csv

import jax
import numpy as np
import pytest

from experiments import cli, config_flag
from tl_jax.base.load import load_base
from tl_jax.data.tasks import load_task
from tl_jax.measure.similarity import svcca
from tl_jax.runs.config import load_config
from tl_jax.studies.similarity import page as study_page

LOWEST = "stage6_block1"  # of the layers that are changed


def config(given, **changes):
    found = load_config("configs/similarity_digits.py")
    with found.unlocked():
        del found.others.random
    changed = {"weights": "random:0", "task.name": "folder", "batch": 32}
    changed |= {key: str(value) for key, value in given.items()}
    found.update_from_flattened_dict(changed | changes)
    return found


def run(config, workdir):
    return config_flag.run("similarity", config, workdir, "name")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """As after a run: the layers from `LOWEST` up are others, and the head has ten classes."""
    base = load_base("efficientnet_lite0", "random:0").resized(32, 1.0).with_head(10)
    rng = np.random.default_rng(0)
    for name in base.layers[base.layers.index(LOWEST) :]:
        base.variables["params"][name] = jax.tree.map(
            lambda a: a + 0.1 * rng.normal(size=a.shape).astype(np.float32),
            base.variables["params"].get(name, {}),
        )
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    base.save(path)
    return path


@pytest.fixture(scope="module")
def done(given, tuned, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study")
    return workdir, run(config(given, tuned=str(tuned)), workdir)


@pytest.mark.slow
def test_a_base_is_like_itself(done):
    own = done[1]["comparisons"][0]
    for name in ("cka", "svcca"):
        found = np.array(own[name], float)
        np.testing.assert_allclose(np.diag(found), 1, atol=1e-6)
        np.testing.assert_allclose(found, found.T, atol=1e-6)
    assert own["layers"] == list(load_base("efficientnet_lite0", "random:0").layers[:-1])


@pytest.mark.slow
def test_what_fine_tuning_left_alone_has_not_moved(done):
    head, *lines = csv.reader((done[0] / "moved.csv").read_text().splitlines())
    assert head[:3] == ["layer", "1 - CKA", "1 - SVCCA"]
    moved = {name: (float(a), float(b)) for name, a, b, *_ in lines}
    names = list(moved)
    frozen, changed = names[: names.index(LOWEST)], names[names.index(LOWEST) :]
    assert max(abs(x) for name in frozen for x in moved[name]) < 1e-6
    assert min(x for name in changed for x in moved[name]) > 1e-4


@pytest.mark.slow
def test_chance_is_what_shuffled_images_give(done, given):
    """So it is said beside every value."""
    own = done[1]["comparisons"][0]
    base = load_base("efficientnet_lite0", "random:0").resized(32, 1.0)
    task = load_task("folder", path=given["task.path"])
    images = base.preprocessing([task.open(i) for i in range(len(task.ids))])
    stem = np.asarray(base(images, layer="stem")).mean((1, 2))
    order = np.random.default_rng(0).permutation(len(stem))
    assert own["svcca_chance"][0][0] == pytest.approx(svcca([stem], [stem[order]])[0, 0], abs=1e-3)
    means = [np.nanmean(np.array(c["svcca_chance"], float)) for c in done[1]["comparisons"]]
    assert 0 < np.mean(means) < 0.9
    page = (done[0] / "report.html").read_text()
    assert f"SVCCA {np.mean(means):.2f}." in page
    first = (done[0] / "svcca_chance_itself.csv").read_text().splitlines()[1].split(",")
    assert (first[0], float(first[1])) == ("stem", own["svcca_chance"][0][0])
    said = study_page.summary(done[1])
    assert f"SVCCA {np.mean(means):.2f}" in said.splitlines()[-1]


def test_a_map_shows_how_far_of_the_way_from_chance_to_one_a_pair_is():
    pairs = {"svcca": [[0.92, 1.0, None]], "svcca_chance": [[0.84, 0.3, None]]}
    np.testing.assert_allclose(study_page.above_chance(pairs, "svcca"), [[0.5, 1, np.nan]])
    filled = {"svcca": [[1.0]], "svcca_chance": [[1.0]]}
    assert np.isnan(study_page.above_chance(filled, "svcca")).all()


@pytest.mark.slow
def test_the_report_shows_the_maps(done):
    page = (done[0] / "report.html").read_text()
    assert "Which layers did fine-tuning move?" in page
    assert page.count("data:image/svg+xml") == 5


@pytest.mark.slow
def test_finished_comparisons_are_not_repeated(given, tuned, done):
    (done[0] / "result.json").unlink()
    before = (done[0] / "cells.jsonl").read_bytes()
    assert run(config(given, tuned=str(tuned)), done[0])["comparisons"] == done[1]["comparisons"]
    assert (done[0] / "cells.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"pool": "max"}, "pool is mean or adaptive"),
        ({"tuned": "nothing.safetensors"}, "nothing.safetensors"),
        ({"batch": 2}, "CKA needs 4 examples"),
        ({"base": "efficientnet_lite00"}, "did you mean 'efficientnet_lite0'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(given, tmp_path, capsys, changes, why):
    wrong = config(given, **changes)
    assert cli.status(lambda argv: run(wrong, tmp_path), []) == 2
    assert why in capsys.readouterr().err
