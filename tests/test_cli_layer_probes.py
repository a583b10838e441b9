"""The study of probes at every layer: what it finds, goes on with, and refuses."""

import json
import shutil
from unittest import mock

import numpy as np
import pytest
from sklearn import neighbors

from experiments import cli, config_flag
from tl_jax.base.load import load_base
from tl_jax.data.tasks import load_task
from tl_jax.interrupt import Interrupted
from tl_jax.measure.features import of_layers
from tl_jax.measure.probes import linear, protocol
from tl_jax.runs.config import load_config
from tl_jax.studies.layer_probes import METRICS, page
from tl_jax.studies.layer_probes.grid import ProbeGrid
from tl_jax.studies.layer_probes.study import best_layers

LAYERS = ("stem", "stage1_block1", "stage2_block1")
SMALL = {
    "weights": "random:0",
    "size": 32,
    "layers": LAYERS,
    "task.name": "folder",
    "task.val": 0.2,
    "budgets": (0.5, 1.0),
    "seeds": (0, 1),
    "probes": ("ridge", "logistic", "class_means"),
}


def config(given, **changes):
    found = load_config("configs/layer_probes_digits.py")
    changed = SMALL | {key: str(value) for key, value in given.items()} | changes
    with found.unlocked():
        found.update_from_flattened_dict({k: v for k, v in changed.items() if k not in TUPLES})
        for key in TUPLES:
            found[key] = changed[key]
    return found


EDGES = (linear.L2[0], linear.L2[-1])
TUPLES = ("layers", "budgets", "seeds", "probes")


def run(config, workdir):
    return config_flag.run("layer_probes", config, workdir, "name")


@pytest.fixture(scope="module")
def done(given, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study")
    return workdir, run(config(given), workdir)


def cell(result, **key):
    (found,) = [row for row in result["cells"] if key.items() <= row.items()]
    return found


def test_a_cell_is_the_probe_on_that_layers_features(done, photos):
    base = load_base("efficientnet_lite0", "random:0").resized(32, 1.0)
    task = load_task("folder", path=str(photos), seed=1, val=0.2, test=0.25)
    images = base.preprocessing([task.open(i) for i in range(len(task.ids))])
    x = np.asarray(base(images, layer="stage1_block1")).mean((1, 2))
    both = np.concatenate([task.splits["train"], task.splits["val"]])
    model = neighbors.NearestCentroid().fit(x[both], task.labels[both])
    test = task.splits["test"]
    wanted = np.mean(model.predict(x[test]) == task.labels[test])
    row = cell(done[1], layer="stage1_block1", budget=1.0, seed=1)
    assert row["probes"]["class_means"]["test"] == pytest.approx(wanted)
    assert (row["train"], row["val"]) == (len(task.splits["train"]), len(task.splits["val"]))


def test_the_layer_to_choose_is_that_of_the_best_validation(done):
    result = done[1]
    for row in result["best"]:
        key = {"budget": row["budget"]}
        means = {
            layer: np.mean(
                [
                    cell(result, layer=layer, seed=seed, **key)["probes"][row["probe"]]["val"]
                    for seed in (0, 1)
                ]
            )
            for layer in LAYERS
        }
        assert row["val"] == pytest.approx(max(means.values())) == means[row["layer"]]
        tests = [
            cell(result, layer=row["layer"], seed=seed, **key)["probes"][row["probe"]]["test"]
            for seed in (0, 1)
        ]
        assert row["test"] == pytest.approx(np.mean(tests))
        assert row["test_sd"] == pytest.approx(np.std(tests, ddof=1))


def test_a_best_layer_says_in_how_many_seeds_it_is_and_how_many_penalties_are_at_an_edge(done):
    for row in done[1]["best"]:
        cells = [
            cell(done[1], layer=name, seed=seed, budget=row["budget"])["probes"][row["probe"]]
            for name in LAYERS
            for seed in (0, 1)
        ]
        vals = np.array([own["val"] for own in cells]).reshape(3, 2)
        top = vals == vals.max(0)
        assert row["seeds"] == pytest.approx((top[LAYERS.index(row["layer"])] / top.sum(0)).sum())
        assert row["test_above"] == row["test_below"] == []  # of two seeds
        edges = [sum(own["setting"] == end for own in cells) for end in EDGES]
        none = row["probe"] == "class_means"
        assert [row["strongest"], row["weakest"]] == ([None] * 2 if none else edges)
        assert row["cells"] == 6


def grid(seeds, *, gap, noise):
    """Cells of four layers: b and d are `gap` above a, b by a hair more."""
    rng = np.random.default_rng(0)
    level = dict(zip("abcd", (0.7, 0.7 + gap, 0.6, 0.7 + gap), strict=True))
    rows = [
        {"layer": name, "budget": 1.0, "seed": seed, "train": 60, "val": 20}
        | {"probes": {"ridge": dict.fromkeys(METRICS, x) | {"val": x, "setting": linear.L2[0]}}}
        for name, mean in level.items()
        for seed in range(seeds)
        for x in [mean + noise * rng.normal() + 1e-4 * (name == "b")]
    ]
    study_of = {"budgets": [1.0], "probes": ["ridge"], "seeds": list(range(seeds))}
    return ProbeGrid(study_of, level, rows)


@pytest.mark.parametrize(
    ("seeds", "noise", "above", "said"),
    [
        (5, 1e-5, ["a", "c", "d"], "better than all 3 other layers"),
        (6, 0.02, ["c"], "not told apart from 2 of 3 other layers"),
        (4, 1e-5, [], "it takes 5 seeds to tell layers apart"),
    ],
)
def test_a_layer_is_called_the_best_only_where_it_can_be_told(seeds, noise, above, said):
    own = grid(seeds, gap=0.02, noise=noise)
    (row,) = best_layers(own, ratio=25 / 60)
    assert (row["layer"] == "b" and row["seeds"] == seeds) or noise > 1e-3
    assert row["test_above"] == above and row["strongest"] == row["cells"] == 4 * seeds
    assert said in page._sure(row, own, "test")
    cells = 4 * seeds
    assert f"Of {cells} chosen penalties {cells} are the strongest" in page._at_edges([row])[0]


def test_the_report_has_the_numbers_to_take_away(done):
    workdir, result = done
    assert "Accuracy against depth" in (workdir / "report.html").read_text()
    lines = (workdir / "layers.csv").read_text().splitlines()
    assert lines[1].startswith("stem,16 × 16 × 32,1 × 1 × 32,32,")
    assert [line.split(",")[0] for line in lines[1:]] == list(LAYERS)
    assert len((workdir / "budgets.csv").read_text().splitlines()) == 1 + 2 * len(LAYERS)
    assert len((workdir / "how_sure.csv").read_text().splitlines()) == 1 + len(result["best"])
    assert (workdir / "depth.svg").exists() and (workdir / "depth.pdf").exists()
    assert json.loads((workdir / "result.json").read_text()) == result


def test_finished_cells_are_not_repeated_and_a_half_written_one_is(given, done, tmp_path):
    lines = (done[0] / "cells.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cells.jsonl").write_text("".join(lines[:9]) + lines[9][:70])
    (tmp_path / "config.json").write_text((done[0] / "config.json").read_text())
    with mock.patch.object(protocol, "examine", side_effect=protocol.examine) as called:
        result = run(config(given), tmp_path)
    assert sum(len(call.args[1]) for call in called.call_args_list) == len(lines) - 9
    key = "{layer} {budget} {seed}".format_map
    assert sorted(result["cells"], key=key) == sorted(done[1]["cells"], key=key)
    assert result["best"] == done[1]["best"]


def test_a_signal_leaves_what_is_finished(given, done, tmp_path):
    def stop() -> None:
        if (tmp_path / "cells.jsonl").exists():  # while images are read it is looked at too
            raise Interrupted(15)

    with mock.patch("tl_jax.interrupt.check", stop), pytest.raises(Interrupted):
        run(config(given), tmp_path)
    kept = (tmp_path / "cells.jsonl").read_text().splitlines()
    assert 0 < len(kept) < len(done[1]["cells"])
    assert run(config(given), tmp_path)["best"] == done[1]["best"]


def test_a_study_does_not_go_on_with_other_data(given, photos, done, tmp_path, capsys):
    """Neither shown nor gone on with once an image is another; its copy, unchanged, is shown."""
    copy = shutil.copytree(photos, tmp_path / "photos")
    workdir = shutil.copytree(done[0], tmp_path / "run")
    moved = given | {"task.path": copy}
    kept = json.loads((workdir / "config.json").read_text())
    kept["task"]["path"] = str(copy)
    (workdir / "config.json").write_text(json.dumps(kept))
    assert run(config(moved), workdir) == done[1]
    (copy / "bar" / "0.jpg").rename(copy / "disc" / "bar.jpg")
    for _ in range(2):  # finished, then with its cells alone
        assert cli.status(lambda argv: run(config(moved), workdir), []) == 2
        said = "class 'bar': 20 then, 19 now; class 'disc': 20 then, 21 now"
        assert said in capsys.readouterr().err
        (workdir / "result.json").unlink(missing_ok=True)


def test_a_study_says_in_which_views_its_probes_saw_the_images(given, photos, done, tmp_path):
    small = {"seeds": (0,), "budgets": (1.0,), "probes": ("class_means",), "layers": LAYERS[:1]}
    result = run(config(given, views="crops", **small), tmp_path)
    said = "10 of each image (crops), the decision is their mean"
    assert f"views: {said}" in page.summary(result)
    assert said in (tmp_path / "report.html").read_text()
    assert ",stem," in (tmp_path / "best_layers.csv").read_text()
    assert "all views of an image" in (tmp_path / "report.html").read_text()
    assert ",stem," in (done[0] / "best_layers.csv").read_text()
    assert "views: " not in page.summary(done[1])
    base = load_base("efficientnet_lite0", "random:0").resized(32, 1.0)
    task = load_task("folder", path=str(photos), seed=0, val=0.2, test=0.25)
    x = of_layers(base, task, layers=LAYERS[:1], views="crops", cache=given["cache"])["stem"].rows
    both, test = np.concatenate([task.splits[s] for s in ("train", "val")]), task.splits["test"]
    model = neighbors.NearestCentroid()
    model.fit(np.concatenate(x[:, both]), np.tile(task.labels[both], 10))
    votes = sum(np.eye(len(task.classes))[model.predict(view)] for view in x[:, test])
    right = np.mean(votes.argmax(1) == task.labels[test])
    assert cell(result)["probes"]["class_means"]["test"] == pytest.approx(right)


def test_one_seed_and_one_budget_have_no_spread(given, tmp_path):
    one = config(given, seeds=(0,), budgets=(1.0,), probes=("class_means",), layers=LAYERS[:1])
    result = run(one, tmp_path)
    assert [row["test_sd"] for row in result["best"]] == [None]
    assert "±" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"layers": ("stage1_block7",)}, "did you mean 'stage1_block1'"),
        ({"probes": ("logistik",)}, "did you mean 'logistic'"),
        ({"probes": ()}, "probes= takes a list of one or more, each once; got ()"),
        ({"probes": ("ridge", "ridge")}, "probes= takes a list of one or more, each once"),
        ({"budgets": (1.0, 1.0)}, "budgets= takes a list of one or more, each once"),
        ({"budgets": ("nan",)}, "a budget is a share up to 1"),
        ({"budgets": (float("nan"),)}, "a budget is a share up to 1"),
        # one split would count as five, and tell layers apart
        ({"seeds": (0,) * 5}, "seeds= takes a list of one or more, each once"),
        ({"seeds": ("a",)}, "a seed takes a whole number"),
        ({"budgets": (400.0,)}, "but the budget asks for 400: take a smaller budget"),
        ({"budgets": (1.5,)}, "a budget is a share up to 1"),
        ({"seeds": (-1,)}, "a seed takes a whole number"),
        ({"pool": "max"}, "pool is mean or adaptive"),
        ({"views": "crop"}, "unknown views 'crop'; did you mean 'crops'"),
        ({"weights": "nowhere.pth"}, "nowhere.pth"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(given, tmp_path, capsys, changes, why):
    wrong = config(given, **changes)
    assert cli.status(lambda argv: run(wrong, tmp_path), []) == 2
    assert why in capsys.readouterr().err
