"""What a results folder and its checkpoints belong to: a config, and the data as they were."""

import dataclasses
import functools
import importlib
import json
import shutil
import signal

import numpy as np
import optax
import PIL.Image
import programs
import pytest
import small
from hypothesis import given as given_any
from hypothesis import strategies as st
from test_train import run

import tl_jax
from tl_jax.chain.variables import select
from tl_jax.engine import checkpoint
from tl_jax.errors import UserError
from tl_jax.report.text import MISSING
from tl_jax.runs.config import load_config
from tl_jax.runs.results import write_json
from tl_jax.studies import run as studies
from tl_jax.train import identity
from tl_jax.train.identity import plain
from tl_jax.train.saving import Saver


@pytest.fixture
def moved(given, photos, tmp_path):
    """Settings of a run on a copy of the photos, and the copy."""
    copy = shutil.copytree(photos, tmp_path / "photos")
    return given | {"task.path": copy}, copy


STUDIES = ("layer_probes", "layer_transfer", "look", "score_vs_accuracy", "similarity")


def removed(folder):
    (folder / "bar" / "3.png").unlink()


def added(folder):
    PIL.Image.new("RGB", (24, 24), (1, 2, 3)).save(folder / "disc" / "new.png")


def relabelled(folder):
    (folder / "bar" / "3.png").rename(folder / "disc" / "moved.png")


def with_a_class(folder):
    shutil.copytree(folder / "bar", folder / "rod")


def repainted(folder):
    PIL.Image.new("RGB", (24, 24), (1, 2, 3)).save(folder / "bar" / "3.png")


CHANGES = [
    (removed, "class 'bar': 20 then, 19 now"),
    (added, "class 'disc': 20 then, 21 now"),
    (relabelled, "class 'bar': 20 then, 19 now; class 'disc': 20 then, 21 now"),
    (with_a_class, "class 'rod': 0 then, 20 now"),
    (repainted, "(other inputs or their names)"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
@pytest.mark.parametrize("state", ["done", "stopped"])
def test_changed_data_are_refused(request, moved, tmp_path, capsys, state, change, said):
    """By a finished run and by one that was stopped, both of which keep what they have."""
    settings, copy = moved
    workdir = shutil.copytree(request.getfixturevalue(state), tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    config["task"]["path"] = str(copy)
    (workdir / "config.json").write_text(json.dumps(config))
    before = programs.contents(workdir)
    change(copy)
    assert programs.transferred(settings, workdir) == 2
    line = programs.error_line(capsys.readouterr().err)
    assert line.startswith(f"{workdir} belongs to other data (") and said in line
    assert programs.contents(workdir) == before


def test_the_result_of_data_that_are_gone_is_shown(moved, done, tmp_path, capsys, caplog):
    settings, copy = moved
    workdir = shutil.copytree(done, tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    config["task"]["path"] = str(copy)
    (workdir / "config.json").write_text(json.dumps(config))
    shutil.rmtree(copy)
    assert programs.transferred(settings, workdir) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("done before: ")
    assert f"the data of this result could not be looked at: '{copy}'" in caplog.text


def same(told):
    pass


def fewer_then(told):
    told[""]["examples"]["train"] += 1


def another_source(told):
    told["A"]["truth"] = "another"


@pytest.mark.parametrize(
    ("study", "change", "said"),
    [(name, same, "") for name in STUDIES]
    + [(name, fewer_then, "train examples: ") for name in STUDIES]
    + [("layer_transfer", another_source, "source 'A': other labels")],
)
def test_the_folder_of_every_study_belongs_to_its_data(tmp_path, study, change, said):
    """A result is shown as long as the data, of which a study may have two, are what they were."""
    config = load_config(str(programs.ROOT / f"configs/{study}_digits.py"))
    config.cache = str(tmp_path / "cache")
    if study == "layer_transfer":
        config.arms, config.source.name = ("tasks",), "digits"
    part = importlib.import_module(f"tl_jax.studies.{study}.study")
    told = identity.of_tasks(part.data(config))
    change(told)
    for name, content in (("config", config.to_dict()), ("data", told), ("result", {"x": 1})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    if said:
        with pytest.raises(UserError, match="belongs to other data") as error:
            studies.run(study, config, tmp_path, name="name")
        assert said in str(error.value)
    else:
        assert studies.run(study, config, tmp_path, name="name") == ({"x": 1}, True)


def test_from_python_labels_count_as_well(tmp_path):
    base = tl_jax.load_base("efficientnet_lite0", "random:0").cut("stage1_block1").resized(32)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (40, 32, 32, 3), np.uint8), np.arange(40) % 2
    phase = {"epochs": 1, "views": "none"}
    settings = {"plan": "head_only", "train_head": phase, "batch_size": 8, "cache": None}

    def again(labels):
        task = tl_jax.load_task((images, labels), seed=0)
        return tl_jax.transfer(base, task, workdir=tmp_path / "run", **settings)

    first = again(labels)
    assert again(labels).result == first.result
    with pytest.raises(UserError, match=r"other data \(other labels"):
        again(labels[::-1])


# A checkpoint, whoever calls the loop.


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The folder of a run of both phases that ended."""
    folder = tmp_path_factory.mktemp("begun")
    run(small.problem("head_then_fine_tune"), folder)
    return folder


def fewer():
    task = small.task()
    own = {**task.splits, "train": task.splits["train"][:-8]}
    return {"task": dataclasses.replace(task, splits=own)}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda: {"seed": 1}, "seed 0 then, 1 now"),
        (lambda: {"batch_size": 8}, "batch_size 16 then, 8 now"),
        (lambda: {"tune": small.settings(epochs=3)}, "another plan"),
        (fewer, "train examples: 72 then, 64 now"),
        (lambda: {"task": small.task(123)}, "class '0': 40 then, 41 now"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(begun, tmp_path, changed, said):
    folder = shutil.copytree(begun, tmp_path / "run")
    before = programs.contents(folder)
    with pytest.raises(UserError) as error:
        run(small.problem("head_then_fine_tune", **changed()), folder)
    assert "are of another run (" in str(error.value) and said in str(error.value)
    assert "\n" not in str(error.value)
    assert programs.contents(folder) == before


def test_other_weights_to_begin_with_are_refused(begun, tmp_path, monkeypatch):
    folder, others = shutil.copytree(begun, tmp_path / "run"), small.variables(1)
    monkeypatch.setattr(small, "variables", lambda: others)
    with pytest.raises(UserError, match="other weights"):
        run(small.problem("head_then_fine_tune"), folder)


def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path):
    progress = {"phase": 0, "epoch": 0, "batch": 1, "history": [], "inputs": []}
    checkpoint.save(tmp_path / "checkpoints", 1, {"variables": np.zeros(3)}, progress)
    with pytest.raises(UserError, match="are of an earlier version: take another folder"):
        run(small.problem("head_only"), tmp_path)


def test_a_checkpoint_holds_what_training_has_changed(begun):
    """And nothing of the frozen layers; of a head alone no variables but the state's."""
    newest, oldest = (
        json.loads((folder / "record.json").read_text())["leaves"]
        for folder in reversed(programs.checkpoints(begun))
    )
    assert not [path for path in oldest if path.startswith("variables/")]
    kept = {path.split("/")[2] for path in newest if path.startswith("variables/")}
    assert kept == {"head"}  # the phase before trained it
    state = {path.split("/")[2] for path in newest if path.startswith("state/params/")}
    assert state == {"stage2_block1", "head"} and select(small.variables(), ["stem"])["params"]


def test_a_run_stopped_behind_its_only_epochs_last_batch_is_finished(
    given, tmp_path, monkeypatch, capsys
):
    """No step is left to be timed; the metrics are those of a run that nothing stopped."""
    settings = given | {"plan": "head_only", "train_head.epochs": 1}
    assert programs.transferred(settings, tmp_path / "whole") == 0
    offer = Saver.offer

    def signalled(self, progress, *args, **options):
        if progress.batch == 5:  # 42 examples, 8 a batch
            signal.raise_signal(signal.SIGTERM)
        offer(self, progress, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Saver, "offer", signalled)
        assert programs.transferred(settings, tmp_path / "run") == 128 + signal.SIGTERM
    meta = checkpoint.latest_meta(tmp_path / "run" / "checkpoints")
    assert meta is not None and (meta["epoch"], meta["batch"]) == (0, 5)
    capsys.readouterr()
    assert programs.transferred(settings, tmp_path / "run") == 0
    assert programs.found(tmp_path / "run") == programs.found(tmp_path / "whole")
    cost = json.loads((tmp_path / "run" / "result.json").read_text())["cost"]
    assert (cost["step_ms"], cost["images_per_second"]) == (None, None)
    assert f"{MISSING} ms a step" in capsys.readouterr().out


def test_settings_are_told_without_addresses():
    """Of two functions that are called the same the same is said, in any process."""

    @dataclasses.dataclass(frozen=True)
    class Made:
        loss: object
        factor: float = 2.0

    def squared(x):
        return x

    name = squared.__qualname__
    assert f"Made(loss='{name} " in plain(Made(squared)) and "factor=2.0)" in plain(Made(squared))
    assert "0x" not in plain(Made(squared))


def test_settings_that_compute_otherwise_are_told_apart():
    """Two functions, or two of optax's optimizers, may have the same names."""

    def power(of):
        return lambda step: step**of

    def forever(step):
        return forever(step)

    different = [
        *(optax.sgd(1.0), optax.sgd(0.5), optax.adam(1.0)),
        *(power(2), power(3), lambda step: np.sin(step), lambda step: np.cos(step), forever),
        *(functools.partial(small.settings, epochs=1), functools.partial(small.settings, epochs=2)),
        *({"head": 1.0}, {"head": 0.5}, np.zeros(2), np.ones(2), np.float32(1.5)),
    ]
    told = [json.dumps(plain(value)) for value in different]
    assert len(set(told)) == len(told)
    assert plain(optax.adam(1.0)) == plain(optax.adam(1.0)) and plain(power(2)) == plain(power(2))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
)


@given_any(tree=JSON)
def test_records_say_what_they_were_given(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("record") / "a.json"
    write_json(path, tree)
    assert json.loads(path.read_text()) == tree


def test_a_record_has_a_line_a_row(tmp_path):
    write_json(tmp_path / "a.json", {"b": {"confusion": [[1, 2], [3, 4]], "n": 5}})
    lines = (tmp_path / "a.json").read_text().splitlines()
    assert lines[2:6] == ['  "confusion": [', "   [1, 2],", "   [3, 4]", "  ],"]
