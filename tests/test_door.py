"""The door: what a user of the installed package meets, as the README says it."""

import dataclasses
import pathlib
import re

import jax
import numpy as np
import optax
import pytest

import tl_jax
from tl_jax import models
from tl_jax.data import tasks
from tl_jax.errors import UserError
from tl_jax.plans import strategies as plans
from tl_jax.weights.torch_file import sha256

ROOT = pathlib.Path(__file__).parent.parent


def blocks(document: str) -> list[str]:
    """The Python blocks of a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), flags=re.DOTALL)


@pytest.fixture(scope="module")
def quickstart(photos, tmp_path_factory):
    """What the README's first block leaves, run in a folder that has my_photos/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("newcomer"))
        pathlib.Path("my_photos").symlink_to(photos)
        names: dict = {}
        exec(blocks("README.md")[0], names)
        yield names


def test_the_quickstart_of_the_readme_runs(quickstart):
    run, task = quickstart["run"], quickstart["task"]
    test = task.splits["test"]
    assert run.report.read_text().startswith("<!doctype html>") and run.workdir.name == "mine"
    found = run.base.predict(quickstart["images"])
    assert found.shape == (len(test), 3) and run.base.classes == ("bar", "disc", "square")
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    assert np.mean(found.argmax(1) == task.labels[test]) == run.test["accuracy"]
    assert [row["phase"] for row in run.history] == ["head"] * 10 + ["fine_tune"] * 10


def test_the_same_call_gives_the_finished_run(quickstart):
    base, task, run = (quickstart[name] for name in ("base", "task", "run"))
    same = tl_jax.transfer(base, task, from_layer=0.7, workdir="runs/mine")
    assert same.result == run.result
    with pytest.raises(UserError, match="belongs to another config .*seed 0, not 1"):
        tl_jax.transfer(base, task, from_layer=0.7, workdir="runs/mine", seed=1)


def small(seed: int = 0) -> tl_jax.Base:
    """A base that compiles in a second."""
    base = tl_jax.load_base("efficientnet_lite0", f"random:{seed}")
    return base.cut("stage1_block1").resized(32)


def settings(**changes):
    """Short phases on it."""
    phase = {"epochs": 1, "learning_rate": 1e-2, "views": "none"}
    usual = {"train_head": phase, "tune": phase, "batch_size": 8, "cache": None}
    return {"from_layer": "stage1_block1", **usual, **changes}


@pytest.fixture(scope="module")
def task(photos):
    return tl_jax.load_task(photos, seed=0, val=0.2, test=0.2)


@pytest.mark.slow
def test_a_finished_run_can_be_transferred_again(task, tmp_path):
    first = tl_jax.transfer(small(), task, **settings(), workdir=tmp_path / "a")
    second = first.base.transfer(task, **settings(plan="head_only"), workdir=tmp_path / "b")
    third = second.base.transfer(task, **settings(plan="fine_tune_top"))
    assert third.base.architecture.cut == "stage1_block1" and third.base.classes == task.classes
    assert first.result["base"]["digest"] == ""  # of random weights
    assert third.result["base"]["digest"] == sha256(tmp_path / "b" / "model.safetensors")
    frozen = [run.base.variables["params"]["stem"] for run in (first, third)]
    jax.tree.map(np.testing.assert_array_equal, *frozen)
    again = tl_jax.load_base(tmp_path / "b")
    images = [task.open(0)]
    np.testing.assert_array_equal(again.predict(images), second.base.predict(images))


def test_every_setting_of_a_config_is_a_keyword():
    from configs import defaults
    from tl_jax.runs.settings import signature

    config = set(defaults.get_config()) - set(defaults.subject()) | {"cache"}
    config -= {"language"}  # of the base, which Python is given ready
    assert config == set(signature().parameters) - {"base", "task", "workdir", "sources"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"from_layr": 0.5}, "unknown setting 'from_layr'; did you mean 'from_layer'"),
        ({"tune": {"epoch": 3}}, "unknown option of tune 'epoch'; did you mean 'epochs'"),
        ({"plan": "head_onli"}, "unknown plan 'head_onli'; did you mean 'head_only'"),
        ({"head": "lineal"}, "unknown head 'lineal'; did you mean 'linear'"),
        ({"objective": "cross_entropi"}, "unknown objective 'cross_entropi'; did you mean"),
        ({"objective": "cross_entropy(smoothin=1)"}, "did you mean 'smoothing'"),
        ({"tune": {"best_by": "val_acuracy"}}, "unknown best_by 'val_acuracy'; did you mean"),
        ({"tune": {"schedule": "cosin"}}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"tune": {"augment": "flipp"}}, "unknown augmentation 'flipp'; did you mean 'flip'"),
        ({"from_layer": "stage1_block2"}, "unknown layer 'stage1_block2'; did you mean"),
        ({"from_layer": True}, "from_layer= takes text or a number; got True"),
        ({"seed": "0"}, "seed= takes a whole number; got '0'"),
        ({"batch_size": 2.5}, "batch_size= takes a whole number; got 2.5"),
        ({"batch_size": 0}, "batch_size= takes a whole number, at least 1 .*; got 0"),
        ({"head": None}, "head= takes text; got None"),
        ({"cache": 3}, "cache= takes text or a path or None; got 3"),
        ({"train_head": {"epochs": 1.5}}, "epochs= takes a whole number; got 1.5"),
        ({"train_head": 3}, "train_head= takes Settings, or a mapping"),
        ({"tune": {"learning_rate": None}}, "learning_rate= takes a number; got None"),
        ({"tune": {"views": 3}}, "views= takes text; got 3"),
        ({"tune": {"optimizer": 3}}, "optimizer= takes a name, or name.option=value, ....; got 3"),
        ({"tune": {"schedule": None}}, "schedule= takes a name"),
        ({"tune": {"augment": None}}, "augment= takes text"),
        ({"plan": 3}, "plan= takes a name, a Plan or a function that makes one; got 3"),
        ({"objective": None}, "objective= takes a name"),
        ({"sources": {"a": 3}}, "transfer takes a task, as load_task gives one; got 3"),
        ({"workdir": ""}, "workdir= takes a folder, or None for a temporary one; got ''"),
    ],
)  # fmt: skip
def test_wrong_settings_are_one_line(task, tmp_path, changes, said):
    with pytest.raises(UserError, match=said) as caught:
        tl_jax.transfer(small(), task, **{"workdir": tmp_path} | settings(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", [None, 3, ("images",), {"a": "b"}, b"photos"])
def test_what_is_no_task_is_said(what):
    with pytest.raises(UserError, match="load_task takes a name, the path of a folder, a pair"):
        tl_jax.load_task(what)


def test_a_function_that_makes_no_task_is_said(task):
    with pytest.raises(UserError, match="is a function without a seed: give it"):
        tl_jax.load_task(lambda: task)
    with pytest.raises(UserError, match="takes a function that gives a Task; got None"):
        tl_jax.load_task(lambda *, seed: None)


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"steem": 1.0}, "unknown layer of phase 'tune' 'steem'; did you mean 'stem'"),
        ({"stem": None}, "phase 'tune' has no multiplier for stem"),
        ({"head": 0.0}, "phase 'tune' trains no layer"),
        ({"stem": -1.0}, "the multiplier of 'stem' takes a number from 0 on; got -1.0"),
        ({"stem": float("nan")}, "the multiplier of 'stem' takes a number from 0 on; got nan"),
        ({"stem": "1"}, "the multiplier of 'stem' takes a number; got '1'"),
    ],
)
def test_a_plan_of_ones_own_fits_the_layers(task, rates, said):
    """Else nothing would learn, and the result would say nothing of it."""
    usual = {"stem": 0.0, "stage1_block1": 0.0, "head": 1.0}
    rates = {name: rate for name, rate in (usual | rates).items() if rate is not None}
    with pytest.raises(UserError, match=said):
        phase = tl_jax.Phase("tune", rates, tl_jax.Settings(epochs=1))
        small().transfer(task, **settings(plan=tl_jax.Plan("mine", (phase,))))


def test_what_is_no_plan_is_said(task):
    with pytest.raises(UserError, match="a phase's settings= takes Settings; got {'epochs': 1}"):
        tl_jax.Phase("tune", {}, {"epochs": 1})
    with pytest.raises(UserError, match="phases= takes a tuple of phases"):
        tl_jax.Plan("mine", tl_jax.Phase("tune", {}, tl_jax.Settings()))
    with pytest.raises(UserError, match="plan= takes a function that gives a Plan; got None"):
        small().transfer(task, **settings(plan=lambda names: None))


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_task_has_examples_to_judge_by(task, split):
    without = {name: rows for name, rows in task.splits.items() if name != split}
    with pytest.raises(UserError, match=f"has no split {split}"):
        dataclasses.replace(task, splits=without)
    empty = dataclasses.replace(task, splits=without | {split: np.array([], np.int64)})
    with pytest.raises(UserError, match=f"has no examples to judge by in {split}"):
        small().transfer(empty, **settings())


def test_a_base_and_a_task_are_not_mistaken(task):
    for given in ((task, small()), ("resnet18", task), (None, task), (small(), "digits")):
        with pytest.raises(UserError, match="transfer takes a (base|task), as load_"):
            tl_jax.transfer(*given)


def test_what_is_handed_in_from_python_is_used_and_named(task, tmp_path):
    tune = {"epochs": 1, "optimizer": optax.lion(1e-2), "learning_rate": 1.0,
            "schedule": lambda peak, steps: optax.constant_schedule(peak)}  # fmt: skip
    run = tl_jax.transfer(small(), task, **settings(tune=tune), workdir=tmp_path)
    phase = run.result["plan"]["phases"][1]
    assert "GradientTransformation" in phase["optimizer"] and "<lambda>" in phase["schedule"]


def test_tasks_come_in_many_forms(photos):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (30, 8, 8), np.uint8), np.arange(30) % 3
    arrays = tl_jax.load_task((images, labels), seed=1)
    own = tl_jax.load_task(lambda *, seed: tl_jax.load_task((images, labels), seed=seed), seed=1)
    assert arrays.fingerprint == own.fingerprint and len(arrays.classes) == 3
    folders = [tl_jax.load_task(x, seed=0) for x in (f"folder:{photos}", str(photos), photos)]
    assert len({task.fingerprint for task in folders}) == 1
    with pytest.raises(UserError, match="unknown task 'digit'; did you mean 'digits'"):
        tl_jax.load_task("digit")


def test_probes_by_layer(task, tmp_path):
    table = small().probe(task, probes=("ridge", "class_means"), cache=tmp_path)
    assert [row.layer for row in table.rows[::2]] == ["stem", "stage1_block1"]
    assert table.best().val == max(row.val for row in table.rows)
    assert re.search(r"stage1_block1 .* none .* %", str(table))
    (row,) = small().probe(task, layers=["stem"], probes=("ridge",), views="flip", cache="").rows
    assert (row.views, row.dimensions) == ("flip", table.rows[0].dimensions)
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = np.uint8(rng.integers(0, 100, (60, 8, 8)) + 100 * labels[:, None, None])
    rows = small().probe(images, labels, layers=["stem"], probes=("ridge",), cache=tmp_path).rows
    assert rows[0].test == 1.0
    with pytest.raises(UserError, match="a task, or images and their labels"):
        small().probe(images)
    for name in ("flop", ["flip"], 2):
        with pytest.raises(UserError, match="unknown views .*flip"):
            small().probe(images, labels, views=name, cache=tmp_path)
    for wrong in ({"probes": ()}, {"probes": "ridge"}, {"layers": []}, {"layers": "stem"}):
        with pytest.raises(UserError, match="takes a list of one or more"):
            small().probe(images, labels, **{"cache": tmp_path, **wrong})


def test_the_door_shows_what_is_behind_it():
    for name in dir(tl_jax):
        assert getattr(tl_jax, name) is not None
    assert {"transfer", "load_base", "load_task", "probe", "Objective"} <= set(dir(tl_jax))
    assert set(dir(tl_jax)) == set(tl_jax.__all__)
    with pytest.raises(AttributeError, match="no attribute 'transfr'"):
        _ = tl_jax.transfr


@pytest.mark.slow
def test_the_recipes_of_the_document_run(task, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # What is registered here is gone with the test.
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    monkeypatch.setattr(plans, "STRATEGIES", dict(plans.STRATEGIES))
    families = dict(models._families())
    monkeypatch.setattr(models, "_families", lambda: families)
    images = np.stack([np.asarray(task.open(i).convert("L")) for i in range(len(task.ids))])
    names = {"tl_jax": tl_jax, "images": images, "labels": task.labels, "base": small()}
    imports, register, plan, own_base, objective = blocks("docs/extending.md")
    exec(imports, names)
    exec(register, names)
    assert names["task"].classes == ("0", "1", "2")
    exec(plan, names)
    assert names["run"].result["plan"]["name"] == "last_two"
    exec(objective, names)
    assert "train_entropy" in names["run"].history[0]
    exec(own_base, names)
    assert names["base"].layers == ("conv", "head")
    last = names["base"].transfer(task, **settings(from_layer="conv", cut="conv"))
    assert last.base.classes == task.classes
