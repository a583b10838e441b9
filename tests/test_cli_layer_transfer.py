"""The study of layer transfer as a user meets it, with a tiny net on scikit-learn's digits."""

import dataclasses
import json
import logging
import pathlib

import jax
import numpy as np
import PIL.Image
import pytest
from programs import ROOT

from experiments import cli, config_flag
from tl_jax import interrupt
from tl_jax.base.load import load_base
from tl_jax.data.tasks import load_task
from tl_jax.errors import UserError
from tl_jax.models import alexnet_small
from tl_jax.runs.config import load_config
from tl_jax.studies.layer_transfer import resident, streamed, study
from tl_jax.studies.layer_transfer.net import Net
from tl_jax.studies.layer_transfer.subsets import arms
from tl_jax.studies.layer_transfer.training import Training
from tl_jax.studies.layer_transfer.treatments import TREATMENTS

SMALL = {"seeds": 2, "budgets": (0, 10), "epochs": (1, 2), "layers": ("conv2",)}


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """Two convolutions, so that a program is compiled in a second or two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alexnet_small, "CONVOLUTIONS", ((4, 5, 4), (4, 3, 1)))
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("cache")


def configured(cache, name: str = "layer_transfer_digits", **changes):
    config = load_config(str(ROOT / f"configs/{name}.py"))
    config.update_from_flattened_dict(SMALL | {"cache": str(cache)} | changes)
    return config


def studied(config, workdir) -> dict:
    before = jax.config.jax_compilation_cache_dir
    try:
        return config_flag.run("layer_transfer", config, workdir, "tiny")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def done(cache, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("done")
    studied(configured(cache), workdir)
    return workdir


def cells(workdir) -> list[dict]:
    return json.loads((workdir / "result.json").read_text())["cells"]


def test_every_treatment_is_there_for_every_n_budget_and_seed(done):
    found = cells(done)
    trained = {(c["arm"], c["budget"], c["treatment"], c["n"], c["seed"]) for c in found}
    expected = {
        ("random A:random B" if how.donor == "A" else "random B", b, name, 2, s)
        for b in (0, 10)
        for name, how in TREATMENTS.items()
        for s in (0, 1)
    }
    bases = {("random A", 0), ("random B", 0), ("random B", 10)}
    expected |= {(half, b, "base", 0, s) for half, b in bases for s in (0, 1)}
    assert trained == expected and len(found) == len(expected)
    assert all(0 <= cell["test"] <= 1 for cell in found)


def test_the_report_has_the_figures_and_the_tables(done):
    page = (done / "report.html").read_text()
    for title in ("random A to random B", "Beside the published curves", "With fewer labels"):
        assert title in page
    rows = (done / "decomposition.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 3  # budgets, parts
    base = [c["test"] for c in cells(done) if c["treatment"] == "base" and c["budget"] == 10]
    bnb = [
        c["test"] for c in cells(done) if (c["treatment"], c["budget"], c["n"]) == ("BnB", 10, 2)
    ]
    said = next(r for r in rows if r.startswith("random A to random B,10,co-adaptation,2 conv2,"))
    assert float(said.split(",")[4]) == pytest.approx(np.mean(base) - np.mean(bnb))


def shots(folder: pathlib.Path, classes: str) -> pathlib.Path:
    """Small grey images, a row of which says the class; whatever lies above it is called shots."""
    rng = np.random.default_rng(len(classes))
    for row, name in enumerate(classes):
        (folder / "shots" / name).mkdir(parents=True)
        for number in range(16):
            pixels = rng.integers(0, 120, (28, 28), np.uint8)
            pixels[4 * row : 4 * row + 4] += 120
            PIL.Image.fromarray(pixels).save(folder / "shots" / name / f"{number}.png")
    return folder / "shots"


@pytest.fixture(scope="module")
def between_namesakes(cache, tmp_path_factory):
    """The settings and the folder of a study from one folder to another of the same name."""
    top = tmp_path_factory.mktemp("namesakes")
    given = {"task.name": "folder", "task.path": str(shots(top / "new", "xy")), "task.per_class": 0}
    given |= {"source.name": "folder", "source.path": str(shots(top / "old", "abc"))}
    given |= {"arms": ("tasks",), "seeds": 1, "budgets": (0,), "epochs": (1,), "batch_size": 8}
    log = logging.getLogger("tl_jax")
    lines, handler = [], logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        studied(configured(cache, **given), top / "study")
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    return given, top / "study", lines


@pytest.mark.slow
def test_folders_of_the_same_name_are_told_apart(between_namesakes):
    _, workdir, _ = between_namesakes
    result = json.loads((workdir / "result.json").read_text())
    assert result["arms"] == [["shots A", "shots B"]]
    assert {cell["arm"] for cell in cells(workdir)} == {"shots A", "shots B", "shots A:shots B"}
    for name, classes in (("shots A", 3), ("shots B", 2)):
        ((_, kernel),) = (
            (path, leaf)
            for path, leaf in np.load(workdir / "bases" / f"{name} 0.npz").items()
            if path.startswith("0/params/head/") and path.endswith("kernel")
        )
        assert kernel.shape[-1] == classes
    assert "shots A to shots B" in (workdir / "report.html").read_text()


@pytest.mark.slow
def test_each_task_is_told_before_the_first_training(between_namesakes):
    *_, lines = between_namesakes
    told = [line for line in lines if line.startswith("shots: ")]
    assert told == [  # 32 and 48 images, a tenth for val, a quarter for test
        "shots: 2 classes (x, y); train 21, val 3, test 8",
        "shots: 3 classes (a, b, c); train 31, val 5, test 12",
    ]


@pytest.mark.slow
def test_a_study_belongs_to_the_data_of_both_sides(between_namesakes, cache, capsys):
    given, workdir, _ = between_namesakes
    some = pathlib.Path(given["source.path"]) / "a" / "0.png"
    kept = some.read_bytes()
    PIL.Image.fromarray(np.zeros((28, 28), np.uint8)).save(some)
    try:
        config = configured(cache, **given)
        assert cli.status(lambda argv: studied(config, workdir), []) == 2
    finally:
        some.write_bytes(kept)
    assert "belongs to other data (source 'A': other inputs" in capsys.readouterr().err


def given_bases(cache, workdir, **weights) -> list[dict]:
    """The cells of a study of given bases A; B is digits."""
    config = configured(cache, arms=tuple(weights), budgets=(0,), epochs=(1,))
    with config.unlocked():
        config.bases.update(weights)
    studied(config, workdir)
    return cells(workdir)


def test_layers_of_base_b_from_files_give_what_base_b_gives(cache, tmp_path):
    given_bases(cache, tmp_path / "random", fresh="random:{seed}")
    for seed, variables in enumerate(study.load(tmp_path / "random/bases/digits 0.npz")):
        base = load_base("alexnet_small", "random:0").with_head(10)
        dataclasses.replace(base, variables=variables).save(tmp_path / f"{seed}.safetensors")
    found = given_bases(cache, tmp_path / "own", own=f"{tmp_path}/{{seed}}.safetensors")
    test = {(c["arm"], c["treatment"], c["seed"]): c["test"] for c in found}
    for treatment in ("", "+"):
        for seed in (0, 1):
            same = test["own:digits", f"AnB{treatment}", seed]
            assert same == test["digits", f"BnB{treatment}", seed]
    assert len(found) == 2 * (1 + 5)


def test_several_given_bases_share_what_is_of_b_alone(cache, tmp_path):
    found = given_bases(cache, tmp_path, one="random:{seed}", other="random:9")
    shared = [c["treatment"] for c in found if c["arm"] == "digits" and c["seed"] == 0]
    assert sorted(shared) == ["BnB", "BnB+", "base", "random"]
    rows = (tmp_path / "sources.csv").read_text().splitlines()
    assert {row.split(",")[2] for row in rows[1:]} == {"one", "other", "random", "BnB+"}


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("none.safetensors", "none.safetensors: does not exist or is no"),
        ("cut.safetensors", "up to pool2 as the study builds them: it has conv1; one that is cut"),
        ("wide.safetensors", "reads other images than the study"),
        ("deep.safetensors", "one that has grown cannot be compared"),
    ],
)
def test_given_bases_that_do_not_fit_are_refused_in_one_line(cache, tmp_path, capsys, file, said):
    base = load_base("alexnet_small", "random:0")
    base.cut("conv1").save(tmp_path / "cut.safetensors")
    base.deepened("conv2").save(tmp_path / "deep.safetensors")
    other = dataclasses.replace(base.preprocessing, mean=1.0)
    dataclasses.replace(base, preprocessing=other).save(tmp_path / "wide.safetensors")

    def program(argv):
        given_bases(cache, tmp_path / "study", mine=str(tmp_path / file))

    assert cli.status(program, []) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bases", "said"),
    [
        ({"mine": ""}, "bases.mine= takes a file, the folder of a run, or the name of weights"),
        ({"mine": 5}, "bases.mine= takes a file"),
        ({"random": "random:0"}, "bases= takes names of their own; got 'random'"),
        ({"BnB+": "random:0"}, "bases= takes names of their own; got 'BnB+'"),
    ],
)
def test_names_and_weights_of_given_bases_are_checked(cache, tmp_path, capsys, bases, said):
    config = configured(cache, arms=("random",))
    with config.unlocked():
        config.bases.update(bases)
    assert cli.status(lambda argv: studied(config, tmp_path), []) == 2
    assert said in capsys.readouterr().err


def test_a_folder_belongs_to_the_given_bases_that_it_began_with(cache, tmp_path, capsys):
    for seed in (0, 1):
        load_base("alexnet_small", f"random:{seed}").save(tmp_path / f"{seed}.safetensors")
    config = configured(cache, arms=("mine",), seeds=1)
    with config.unlocked():
        config.bases.mine = str(tmp_path / "0.safetensors")
    net = study.Study(config, Net(config), tmp_path)
    ((given, _),) = arms(config)
    net.require_given([given])
    net.require_given([given])
    (tmp_path / "1.safetensors").replace(tmp_path / "0.safetensors")
    with pytest.raises(UserError, match="the bases 'mine' were others when"):
        net.require_given([given])


def test_interrupted_and_gone_on_with_is_uninterrupted(done, cache, tmp_path, monkeypatch):
    check, calls = interrupt.check, []

    def stop_at_the_fifth():
        calls.append(check())
        if len(calls) == 5:
            raise interrupt.Interrupted(15)

    monkeypatch.setattr(interrupt, "check", stop_at_the_fifth)
    with pytest.raises(interrupt.Interrupted):
        studied(configured(cache), tmp_path)
    kept = (tmp_path / "cells.jsonl").read_text()
    assert len(kept.splitlines()) == 10  # five groups of two seeds
    studied(configured(cache), tmp_path)
    assert (tmp_path / "cells.jsonl").read_text().startswith(kept)
    assert cells(tmp_path) == cells(done)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder, in which the program works as well."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_streamed_from_disk_what_is_frozen_stays_to_the_bit(home):
    config = configured("~/cache", together=False, seeds=1, epochs=(1,), budgets=(10,))
    net = Net(config)
    ((_, (_, subsets, _)),) = arms(config)
    begun = [net.fresh(5, 1)]
    train = streamed.trainer(config, net, home / "training")
    for stop, frozen in (("pool2", True), (None, False)):
        ((variables, row),) = train(Training(subsets, begun, stop, 10, 1, "fresh"))
        assert 0 <= row["test"] <= 1
        for layer, own in variables["params"].items():
            same = np.array_equal(
                jax.tree.leaves(own)[-1], jax.tree.leaves(begun[0]["params"][layer])[-1]
            )
            assert same == (frozen and layer in ("conv1", "conv2")), layer
    assert [path.name for path in home.iterdir()] == ["cache"]


def test_images_on_the_device_are_kept_in_the_home_folder(home):
    config = configured("~/cache")
    resident._images(config, Net(config), load_task("digits"))
    assert [path.name for path in home.iterdir()] == ["cache"]


def test_a_step_is_compiled_for_its_shapes_without_data_and_costs_less_where_more_is_frozen(cache):
    config = configured(cache)
    net = Net(config)
    whole, suffix = (streamed.step_flops(config, net, 5, s) for s in (None, "pool2"))
    assert 0 < suffix < whole


@pytest.mark.slow
def test_the_steps_on_imagenet_are_compiled_for_their_real_shapes():
    config = load_config(str(ROOT / "configs/layer_transfer_imagenet.py"))
    net = Net(config)
    assert list(net.cuts) == [1, 2, 3, 4, 5, 6, 7]
    macs = 0.714e9 * config.batch_size  # as torchvision counts the forward pass
    whole, suffix = (streamed.step_flops(config, net, 500, s) for s in (None, "fc7"))
    assert 4 * macs < whole < 7 * macs  # two operations each, three passes, none below conv1
    assert 2 * macs * 0.8 < suffix < 2.5 * macs


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"layers": ("conv9",)}, "unknown layer with parameters below the classifier 'conv9'"),
        ({"arms": ("clothes:digits",)}, "unknown group of classes 'clothes'"),
        ({"arms": ("tasks",)}, "the arm 'tasks' needs the task of base A"),
        ({"arms": ("random", "random")}, "arms= takes a list of one or more, each once"),
        ({"arms": ("random:random",)}, "unknown group of classes 'random'; known:"),
        ({"budgets": (-1, 30)}, "a budget takes a whole number"),
        ({"budgets": (30, 30)}, "budgets= takes a list of one or more, each once"),
        ({"train.learning_rate": float("nan")}, "learning_rate > 0; got"),
        ({"train.optimizer": "sgdd"}, "did you mean 'sgd'"),
        ({"epochs": (1,)}, "as many epochs as budgets"),
        ({"task.per_class": 1000}, "has 113 examples, but 1000 are needed for the budget"),
        ({"base": "alexnit"}, "unknown base 'alexnit'; did you mean 'alexnet'"),
    ],
)
def test_what_makes_no_study_is_refused_in_one_line(cache, tmp_path, capsys, changed, said):
    config = configured(cache, **changed)
    assert cli.status(lambda argv: studied(config, tmp_path), []) == 2
    assert said in capsys.readouterr().err


def test_a_loss_that_is_not_finite_ends_the_study(cache, tmp_path, capsys):
    config = configured(cache, **{"train.learning_rate": 1e30})
    assert cli.status(lambda argv: studied(config, tmp_path), []) == 2
    assert "the loss is not finite: try a smaller" in capsys.readouterr().err
    assert not (tmp_path / "result.json").exists()


def test_groups_that_overlap_or_name_what_is_not_there_are_refused(cache, tmp_path):
    for one, other, said in (
        (("0", "1"), ("1", "2"), "without a common class"),
        (("0", "1"), ("2", "ten"), "unknown class 'ten'"),
    ):
        config = configured(cache, arms=("low:high",))
        with config.unlocked():
            config.groups.low, config.groups.high = one, other
        with pytest.raises(UserError, match=said):
            studied(config, tmp_path)
