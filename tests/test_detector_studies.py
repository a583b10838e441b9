"""The studies of detectors: pages of rows made up, whose figures are known, and wrong configs."""

import csv
import json

import numpy as np
import PIL.Image
import pytest

from configs import detectors_small, lsda
from tl_jax.errors import UserError
from tl_jax.runs.results import provenance
from tl_jax.studies.detectors import page, study
from tl_jax.studies.lsda import WAYS
from tl_jax.studies.lsda import page as lsda_page
from tl_jax.studies.lsda import study as lsda_study


def result_of(config, **found):
    return {"config": config.to_dict(), **found, **provenance("detectors")}


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def compared():
    """Transfer is 10 points better at each budget, with five seeds."""
    config = detectors_small.get_config().unlock()
    config.seeds, config.budgets = (0, 1, 2, 3, 4), (16, 48)
    cells = [
        {"seed": seed, "budget": budget, "detector": "fcos", "plan": plan, "seconds": 1.0,
         "map": 0.2 + 0.001 * seed + (0.1 + 0.0001 * seed) * (plan == "head_only"), "ap50": 0.5,
         "recall_of_proposals": None}
        for seed in config.seeds for budget in config.budgets for plan in config.plans
    ]  # fmt: skip
    sizes = [{"budget": b, "train": b, "val": b // 4, "test": 40} for b in config.budgets]
    return result_of(config, cells=cells, sizes=sizes, overlap=0.5)


def test_the_page_of_budgets(compared, tmp_path):
    page.write(tmp_path, compared)
    shown = {(r["plan"], r["images"]): r for r in rows(tmp_path / "detectors.csv")}
    np.testing.assert_allclose(float(shown["from_scratch", "20"]["mAP"]), 0.202)
    np.testing.assert_allclose(float(shown["head_only", "60"]["mAP"]), 0.3022)
    differences = rows(tmp_path / "differences.csv")
    assert [row["verdict"] for row in differences] == ["helps", "helps"]
    np.testing.assert_allclose([float(row["difference"]) for row in differences], 0.1002)
    assert "from_scratch" in page.summary(compared) and (tmp_path / "budgets.svg").exists()
    every = [row["mAP"] for row in rows(tmp_path / "cells.csv") if row["plan"] == "from_scratch"]
    assert np.mean(np.float64(every)) == pytest.approx(0.202) and len(every) == 10


def test_the_page_of_shifted_tasks(compared, tmp_path):
    compared["config"]["shifts"] = {"drawings": {"name": "composed:digits"}}
    for cell in compared["cells"]:
        cell["shifts"] = {"drawings": {"map": cell["map"] / 2, "ap50": 0.25}}
    page.write(tmp_path, compared)
    (row,) = [
        row
        for row in rows(tmp_path / "shifts.csv")
        if (row["plan"], row["images"]) == ("from_scratch", "20")
    ]
    np.testing.assert_allclose(float(row["mAP"]), 0.101)
    np.testing.assert_allclose(float(row["mAP of the task"]), 0.202)


def test_a_shift_to_the_same_task_shifts_nothing(tmp_path):
    config = detectors_small.get_config().unlock()
    config.task.update({"count": 60, "size": 96})  # boxes are resized to the input
    config.shifts.same = config.task.to_dict()
    config.update({"size": 64, "seeds": (0,), "budgets": (0,), "cache": ""})
    config.least_steps = 30
    del config.plans.from_scratch
    config.reference = "head_only"
    (cell,) = study.compute(config, tmp_path)["cells"]
    assert cell["shifts"]["same"] == {name: cell[name] for name in ("map", "ap50")}
    assert cell["ap50"] > 0.02


def test_a_shift_to_other_classes_is_refused(tmp_path):
    images = [{"id": n, "file_name": f"{n}.png", "width": 32, "height": 32} for n in range(8)]
    for image in images:
        PIL.Image.new("RGB", (32, 32)).save(tmp_path / image["file_name"])
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [4, 4, 9, 9], "area": 81, "iscrowd": 0}
        for n in range(8)
    ]
    told = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "crown"}]}
    (tmp_path / "crowns.json").write_text(json.dumps(told))
    config = detectors_small.get_config().unlock()
    config.shifts.crowns = {"name": f"coco:{tmp_path / 'crowns.json'}"}
    with pytest.raises(UserError, match="'crowns' has the classes crown, and the task 0, 1"):
        study.data(config)


def test_the_page_of_classes_without_boxes(tmp_path):
    config = lsda.get_config()
    aps = dict(zip(WAYS, (0.1, 0.2, 0.4, 0.6), strict=True))
    by_way = {w: {str(c): ap + 0.1 * (c % 2 == 0) for c in range(10)} for w, ap in aps.items()}
    cells = [{"seed": seed, **by_way} for seed in range(3)]
    found = {"cells": cells, "classes": list("0123456789")}
    sizes = {"train": 200, "val": 20, "test": 80}
    lsda_page.write(tmp_path, result_of(config, **found, sizes=sizes, overlap=0.4))
    shown = rows(tmp_path / "lsda.csv")
    held = [float(row["AP without boxes"]) for row in shown]
    np.testing.assert_allclose(held, list(aps.values()))
    np.testing.assert_allclose([float(r["AP with boxes"]) for r in shown], np.add(held, 0.1))
    differences = {r["way"]: r for r in rows(tmp_path / "differences.csv")}
    np.testing.assert_allclose(float(differences["oracle"]["difference"]), 0.2)
    assert {row["verdict"] for row in differences.values()} == {"cannot tell"}  # of three seeds


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budgets": ()}, "budgets= is empty"),
        ({"reference": "scratch"}, "did you mean 'from_scratch'"),
        ({"seeds": (1, 1)}, "seed"),
    ],
)
def test_studies_that_cannot_be(changes, said):
    config = detectors_small.get_config().unlock()
    config.update(changes)
    with pytest.raises(UserError, match=said):
        study.check(config)


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ("fcos", "is of a detector of proposals"),
        ("fast_rcnn(proposals='wndows')", "did you mean 'windows'"),
    ],
)
def test_lsda_is_of_a_detector_of_proposals(objective, said):
    config = lsda.get_config().unlock()
    config.objective = objective
    with pytest.raises(UserError, match=said):
        lsda_study.check(config)


@pytest.mark.parametrize(
    ("held_out", "said"),
    [(("3", "elven"), "unknown class held out 'elven'"), ("0123456789", "leaves no class")],
)
def test_classes_held_out_are_checked_before_anything_is_trained(
    held_out, said, monkeypatch, tmp_path
):
    config = lsda.get_config().unlock()
    config.held_out, config.cache = tuple(held_out), None
    monkeypatch.setattr(lsda_study, "trained", lambda *_, **__: pytest.fail("it trains"))
    with pytest.raises(UserError, match=said):
        lsda_study.compute(config, tmp_path)
