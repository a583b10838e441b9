"""Simulation to reality: what a curve says in labels, and the study of it."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_report import Page

from experiments import cli, config_flag
from tl_jax.base.load import load_base
from tl_jax.data.tasks import load_task
from tl_jax.errors import UserError
from tl_jax.runs.config import load_config
from tl_jax.stats.equivalents import labels_for
from tl_jax.studies.simulation import page
from tl_jax.studies.simulation import study as module

BUDGETS, CURVE = (1, 10, 100), (0.4, 0.6, 0.9)


@pytest.mark.parametrize(
    ("accuracy", "labels"),
    [
        (0.05, 0.0),
        (0.25, 0.5),  # half the way from chance to one label
        (0.4, 1.0),
        (0.5, np.sqrt(10)),
        (0.7, 10 ** (4 / 3)),
        (0.9, 100.0),
        (0.91, np.inf),
    ],
)
def test_labels_are_read_off_the_curve_by_hand(accuracy, labels):
    assert labels_for(accuracy, BUDGETS, CURVE, chance=0.1) == pytest.approx(labels)


@given(
    curve=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    wanted=st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted),
)
def test_higher_accuracy_is_worth_as_many_labels_or_more(curve, wanted):
    budgets = [2**k for k in range(len(curve))]
    less, more = (labels_for(a, budgets, curve, chance=0.1) for a in wanted)
    assert 0 <= less <= more
    own = labels_for(max([0.1, *curve]), budgets, curve, chance=0.1)
    assert own in (0, *budgets)


def test_a_curve_that_is_none_is_refused():
    for budgets in ((), (1, 1), (2, 1), (1, 2, 3)):
        with pytest.raises(UserError, match="ascending budgets"):
            labels_for(0.5, budgets, (0.4, 0.5), chance=0.1)


def study(workdir, **changes):
    """The exit status of a small study in this process, and its result."""
    config, found = load_config("configs/simulation_digits.py"), {}
    with config.unlocked():
        del config.simulations.plain, config.simulations.wide
    small = {"budgets": (1, 20), "seeds": (0, 1), "pretrain.steps": 60, "train.steps": 30}
    small |= {"simulations.half.count": 400, "cache": ""}
    config.update_from_flattened_dict(small | changes)

    def main(argv):
        with config_flag.naming_flags(config):
            found.update(config_flag.run("simulation", config, workdir, "simulation"))

    return cli.status(main, []), found


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("simulation") / "run"
    status, result = study(workdir)
    assert status == 0
    return workdir, result


@pytest.mark.slow
def test_simulation_alone_beats_chance_and_its_worth_is_on_the_page(done):
    workdir, result = done
    found = {row[:2]: row for row in page.rows(result)}
    assert list(found) == [("none", 1), ("none", 20), ("half", 0), ("half", 1), ("half", 20)]
    alone = found["half", 0]
    assert alone.accuracy > 0.2 and alone.gain == pytest.approx(alone.accuracy - 0.1)
    assert found["none", 20].accuracy > found["none", 1].accuracy
    by_seed = dict(((c["simulation"], c["budget"]), c["test"]) for c in result["cells"])
    curves = zip(by_seed["none", 1], by_seed["none", 20], strict=True)
    pairs = zip(by_seed["half", 0], curves, strict=True)
    each = [labels_for(a, (1, 20), curve, chance=0.1) for a, curve in pairs]
    assert alone[6:] == (np.median(each), min(each), max(each))
    text = Page((workdir / "report.html").read_text()).text
    assert "Simulation 'half' alone" in text
    lines = list(csv.DictReader((workdir / "simulation.csv").read_text().splitlines()))
    assert [float(line["accuracy"]) for line in lines] == [r.accuracy for r in page.rows(result)]


@pytest.mark.slow
def test_what_is_finished_is_not_repeated_and_gives_the_same(done):
    workdir, result = done
    lines = (workdir / "cells.jsonl").read_text().splitlines(keepends=True)
    (workdir / "result.json").unlink()
    (workdir / "cells.jsonl").write_text("".join(lines[:-1]))
    status, again = study(workdir)
    assert status == 0 and again["cells"] == result["cells"]


@pytest.mark.slow
def test_accuracy_is_what_the_base_predicts():
    """The program's count on the test images beside `Base.predict` with the same variables."""
    config = load_config("configs/simulation_digits.py")
    with config.unlocked():
        config.cache, config.seeds, config.pretrain.steps = "", (3,), 30
    task = load_task("digits")
    base = load_base("alexnet_small", "random:0").with_head(10)
    images = module._images(config, base, task)
    rows = [task.splits["train"][:200]]
    test = module._rows(images, task.splits["test"])
    (found,), (share,) = module._trained(
        config, "pretrain", base, [base.variables], images, rows, test
    )
    base.variables.update(found)
    answers = base.predict([task.open(int(row)) for row in task.splits["test"]]).argmax(1)
    assert share == pytest.approx((answers == task.labels[task.splits["test"]]).mean())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"budgets": (20, 1)}, "ascend"),
        ({"budgets": (1, 500)}, "but 500 are needed for the budget"),
        ({"simulations.half.nuisance": 2.0}, "--config.simulations.half.nuisance= takes a number"),
        ({"task.only": ("0", "1")}, "they must be the same, in order"),
        ({"start": "frsh"}, "unknown start 'frsh'; did you mean 'fresh'"),
        ({"train.optimizer": "sgdd"}, "unknown optimizer 'sgdd'; did you mean 'sgd'"),
        ({"seeds": (1, 1)}, "each once"),
        ({"train.weight_decay": float("nan")}, "weight_decay, clip and patience must not be"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path, capsys, changes, why):
    assert study(tmp_path / "run", **changes)[0] == 2
    assert why in capsys.readouterr().err
