"""The study of grown networks, from a command."""

import csv
import json

import pytest
from test_report import Page

import tl_jax
from experiments import cli, config_flag
from tl_jax.runs.config import load_config
from tl_jax.studies.grow import STARTS
from tl_jax.studies.grow.page import reached


def done(workdir, **changes):
    """The exit status of such a study in this process, and its result."""
    config, found = load_config("configs/grow_digits.py"), {}
    small = {"seeds": (0,), "teacher.epochs": 2, "student.epochs": 1, "cache": ""}
    small |= {"deeper": ("conv4",)}
    with config.unlocked():
        config.wider = {"conv3": 1.5}
        config.update_from_flattened_dict(small | changes)

    def main(argv):
        with config_flag.naming_flags(config):
            found.update(config_flag.run("grow", config, workdir, "grow"))

    return cli.status(main, []), found


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("grow") / "run"
    status, result = done(workdir)
    assert status == 0
    return workdir, result


@pytest.mark.slow
def test_grown_networks_begin_where_the_teacher_stopped(study):
    workdir, result = study
    cells = {(cell["size"], cell["start"]): cell for cell in result["cells"]}
    assert len(cells) == 2 + 2 * len(STARTS)
    teacher = cells["teacher", ""]
    best = max(teacher["val"])
    for size in ("wider", "deeper"):
        grown, fresh = cells[size, "grown"], cells[size, "from scratch"]
        assert grown["val"][0] == pytest.approx(best, abs=0.02) and fresh["val"][0] < 0.4
        assert grown["parameters"] == fresh["parameters"] > teacher["parameters"]
        assert grown["rate"] == pytest.approx(0.1 * fresh["rate"])
        assert cells[size, "from scratch, low rate"]["rate"] == grown["rate"]
    base = tl_jax.load_base(workdir / "teacher_0.safetensors")
    assert base.layers[-1] == "head" and base.architecture.classes == 10


@pytest.mark.slow
def test_its_page_and_tables(study):
    workdir, result = study
    page = Page((workdir / "report.html").read_text())
    assert "Grown networks" in page.text and "from scratch, low rate" in page.text
    assert "cannot tell" in page.text  # one seed decides nothing
    with open(workdir / "grown.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["start"] for row in rows][:2] == ["fresh weights", "teacher, trained on"]
    assert done(workdir)[0] == 0  # shows the result
    assert json.loads((workdir / "result.json").read_text())["cells"] == result["cells"]


def test_epochs_to_an_accuracy():
    assert reached([0.1, 0.5, 0.9, 0.7], 0.5) == 1
    assert reached([0.1, 0.5], 0.6) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"share": 0.0}, "share= takes a share of the teacher's rate"),
        ({"seeds": (0, 0)}, "seed"),
        ({"deeper": ("conv9",)}, "unknown layer 'conv9'"),
        ({"noise": -1.0}, "noise= takes a share of a kernel's deviation"),
        ({"noise": 2.0}, "noise= takes a share of a kernel's deviation"),
        ({"deeper": ("pool2",)}, "'pool2' has no parameters: deepen another layer"),
        ({"deeper": ("head",)}, "'head' is the last layer"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path, capsys, changes, why):
    assert done(tmp_path / "run", **changes)[0] == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "run" / "cells.jsonl").exists()
