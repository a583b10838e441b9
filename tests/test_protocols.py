"""Published protocols: each config is checked without data, and runs on a stand-in for its data."""

import json
import pathlib
import re
import urllib.error
import urllib.request

import numpy as np
import PIL.Image
import programs
import pytest
import small
import tensorflow_datasets as tfds

from configs.protocols import cifar10_shifts, kornblith_fine_tune, lp_ft, vtab
from experiments import judge, prepare, transfer
from tl_jax import models
from tl_jax.base.load import load_base
from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Network, chain
from tl_jax.chain.places import Layer
from tl_jax.data.tasks import load_task, prepared
from tl_jax.errors import UserError
from tl_jax.measure.probes import linear
from tl_jax.models.layers import ConvNorm, GlobalPool
from tl_jax.plans.hyper_rule import hyper_rule
from tl_jax.plans.schedules import schedule
from tl_jax.runs import pose, settings, subject
from tl_jax.runs.config import load_config
from tl_jax.runs.judge import elsewhere, judged
from tl_jax.runs.space import candidates
from tl_jax.studies import run as studies
from tl_jax.studies.layer_probes import study as layer_probes
from tl_jax.studies.scenarios import study as scenarios

FOLDER = programs.ROOT / "configs/protocols"
PROTOCOLS = {
    "transfer": ("bit", "cats_and_dogs", "dogs_and_flowers", "lp_ft"),
    "layer_probes": ("flowers_svm", "kornblith_probe"),
    "scenarios": ("kornblith_fine_tune", "vtab"),
}
KINDS = {name: kind for kind, names in PROTOCOLS.items() for name in names}
TINY = {"base": "tiny_net", "weights": "random:0", "size": 8}  # compiled in a second


def protocol(name):
    return load_config(str(FOLDER / f"{name}.py"))


# Without data


def test_every_protocol_is_tested():
    assert {path.stem for path in FOLDER.glob("[a-z]*.py")} == {*KINDS, "cifar10_shifts"}


@pytest.mark.parametrize("name", KINDS)
def test_its_plan_cuts_and_layers_fit_its_base(name):
    config = protocol(name)
    if KINDS[name] == "transfer":
        own = {k: v for k, v in config.to_dict().items() if k in settings.defaults()}
        pose.check(subject.outline_of(config), *settings.divided(own))
    elif KINDS[name] == "layer_probes":
        layer_probes.check(config)
    else:
        scenarios.check(config)


def grid(protocol):
    """The settings that validation chooses among in a config's only plan."""
    config = protocol.get_config()
    ((name, plan),) = config.to_dict()["plans"].items()
    assert name == config.reference
    return candidates(plan["space"], draws=1, seed=0, plan=name)


def test_the_grids_are_those_of_the_papers():
    rates = np.array(kornblith_fine_tune.RATES)
    assert np.allclose(rates, np.logspace(-4, -1, 7))
    assert np.allclose(kornblith_fine_tune.DECAYS[1:], np.logspace(-6, -3, 7))
    tried = [(p["tune.learning_rate"], p["tune.weight_decay"]) for p in grid(kornblith_fine_tune)]
    wanted = {(r, d) for r in range(7) for d in (None, *range(7))}
    found = {
        (round(2 * np.log10(rate) + 8), round(2 * np.log10(rate * decay) + 12) if decay else None)
        for rate, decay in tried
    }
    assert len(tried) == 7 * 8 and found == wanted
    assert np.allclose(linear.L2, np.logspace(5, -6, 45))
    sweep = [(point["tune.learning_rate"], point["tune.epochs"]) for point in grid(vtab)]
    assert sorted(sweep) == [(0.01, 2500), (0.01, 10_000), (0.1, 2500), (0.1, 10_000)]


# By TFDS dataset, what its catalogue says of it
SIZES = {
    "caltech101": {"train": 3059, "test": 6084},
    "cifar100": {"train": 50_000, "test": 10_000},
    "oxford_iiit_pet": {"train": 3680, "test": 3669},
    "svhn_cropped": {"train": 73_257, "test": 26_032},
    "eurosat/rgb": {"train": 27_000},
    "resisc45": {"train": 31_500},
    "clevr": {"train": 70_000, "validation": 15_000},
    "dsprites": {"train": 737_280},
    "smallnorb": {"train": 24_300, "test": 24_300},
}


def rows_of(expression, sizes):
    """The rows that a TFDS expression such as train[80%:] stands for."""
    split, first, last = re.fullmatch(r"(\w+?)(?:\[([\d%]*):([\d%]*)\])?", expression).groups()
    size = sizes[split]

    def bound(text, default):
        share = text and text.endswith("%")
        return round(size * int(text[:-1]) / 100) if share else int(text or default)

    return {(split, row) for row in range(bound(first, 0), bound(last, size))}


@pytest.mark.parametrize("name", vtab.TASKS)
def test_vtab_trains_on_800_and_chooses_by_200(name):
    dataset, *_ = vtab.TASKS[name]
    own = {"train": 1020, "validation": 1020, "test": 2000}  # those with a validation split
    splits = vtab.get_config().tasks[name].splits
    train, val, test = (
        rows_of(splits[k], SIZES.get(dataset, own)) for k in ("train", "val", "test")
    )
    assert (len(train), len(val)) == (800, 200) and len(test) >= 1000
    assert not train & val and not train & test and not val & test


def test_vtab_has_nineteen_tasks():
    groups = (vtab.NATURAL, vtab.SPECIALISED, vtab.STRUCTURED)
    assert [len(group) for group in groups] == [7, 4, 8]
    assert [name for group in groups for name in group] == list(vtab.TASKS)


# BiT's rule


@pytest.mark.parametrize(
    ("examples", "steps", "mixed"),
    [(100, 500, False), (19_999, 500, False), (20_000, 10_000, True), (499_999, 10_000, True),
     (500_000, 20_000, True)],
)  # fmt: skip
def test_hyper_rule_by_the_number_of_examples(examples, steps, mixed):
    rule = hyper_rule(examples, (32, 32))
    epoch = examples // rule["batch_size"]
    assert steps <= rule["tune"]["epochs"] * epoch < steps + epoch
    assert ("mixup(0.1)" in rule["tune"]["augment"]) == mixed
    config = lp_ft.get_config()
    config.update(rule)  # a key that there is not raises, and so does a value below
    own = {k: v for k, v in config.to_dict().items() if k in settings.defaults()}
    assert settings.divided(own)[1]["tune"].learning_rate == 0.003


@pytest.mark.parametrize(("size", "side"), [((95, 96), 128), ((96, 96), 480), ((32, 300), 480)])
def test_hyper_rule_by_the_size_of_images(size, side):
    assert hyper_rule(1000, size)["size"] == side
    with pytest.raises(UserError, match="examples="):
        hyper_rule(0, size)


@pytest.mark.parametrize(
    ("examples", "supports"),
    [(1000, (100, 200, 300, 400, 500)), (10**6, (500, 6000, 12_000, 18_000, 20_000))],
)
def test_hyper_rule_has_bits_schedule(examples, supports):
    rate = schedule(hyper_rule(examples, (32, 32))["tune"]["schedule"], 0.003, supports[-1])
    for step in range(0, supports[-1], 25):
        if step in supports:  # there the two differ by one step
            continue
        wanted = 0.003 * min(1, step / supports[0]) * 0.1 ** sum(s < step for s in supports[1:])
        assert float(rate(step)) == pytest.approx(wanted, rel=1e-5)


# On stand-ins


class CifarLike(tfds.core.GeneratorBasedBuilder):
    """Noise of CIFAR-10's shape and classes; as little data as its splits can be cut from."""

    VERSION = tfds.core.Version("1.0.0")
    names = cifar10_shifts.CIFAR10
    sizes = {"train": 100, "test": 20}
    side = 32

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(self.side, self.side, 3)),
            "label": tfds.features.ClassLabel(names=self.names),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.sizes}

    def _generate_examples(self, split):
        rng = np.random.default_rng([len(split), self.side])
        for i in range(self.sizes[split]):
            pixels = rng.integers(0, 256, (self.side, self.side, 3), np.uint8)
            label = i % len(self.names)
            yield i, {"image": PIL.Image.fromarray(pixels), "label": label}


class StlLike(CifarLike):
    names = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    sizes = {"train": 30, "test": 30}
    side = 48


class FlowersLike(CifarLike):
    names = ("rose", "tulip", "daisy")
    sizes = {"train": 30, "validation": 15, "test": 15}


@pytest.fixture(scope="module", autouse=True)
def tiny_net():
    """A base of one convolution, known by name inside this module alone."""

    def tiny_net(classes):
        trunk = chain("image", conv=ConvNorm(4, 3, 2), pool=GlobalPool())
        return Network((*trunk, Layer("head", Classifier(classes))))

    models.register_base(preprocessing=small.PREPROCESSING)(tiny_net)
    yield
    del models._families()["tiny_net"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Prepared by the program, as the protocols say it."""
    top = tmp_path_factory.mktemp("tfds")
    config = cifar10_shifts.get_config().unlock()
    config.tasks = {
        name: {"name": f"tfds:{name}", "data_dir": str(top)}
        for name in ("cifar_like", "stl_like", "flowers_like")
    }
    prepare.prepare(config, pathlib.Path(), "shifts")
    return str(top)


@pytest.fixture(scope="module")
def cifar(data_dir, tmp_path_factory):
    """The folder of a run of LP-FT on the stand-in for CIFAR-10."""
    config, workdir = lp_ft.get_config(), tmp_path_factory.mktemp("lp_ft")
    changes = {"task.name": "tfds:cifar_like", "task.data_dir": data_dir, "batch_size": 30}
    changes |= {"from_layer": "0", "cache": "", "train_head.epochs": 1, "tune.epochs": 1}
    config.update_from_flattened_dict(TINY | changes)
    transfer.transfer(config, workdir, "lp_ft")
    return workdir


def test_lp_ft_runs_and_is_judged_on_a_shifted_test_set(cifar, data_dir):
    result = json.loads((cifar / "result.json").read_text())
    assert result["task"]["sizes"] == {"train": 90, "val": 10, "test": 20}
    shifts = cifar10_shifts.get_config().unlock()
    stl = shifts.tasks.stl10
    stl.name, stl.data_dir = "tfds:stl_like", data_dir
    shifts.tasks = {"stl10": stl}
    head, row = judge.rows(shifts, [cifar])
    assert head == ["run", "own test", "stl10"]
    base, images = load_base(cifar), StlLike(data_dir=data_dir).as_data_source("test")
    right = [
        base.classes[base.predict([PIL.Image.fromarray(one["image"])])[0].argmax()]
        == StlLike.names[one["label"]].replace("car", "automobile")
        for one in images
        if StlLike.names[one["label"]] != "monkey"
    ]
    assert len(right) == 27 and row[2] == f"{100 * np.mean(right):.1f} %"


def test_a_run_is_judged_on_its_own_data_as_it_was(cifar, data_dir):
    task = load_task("tfds:cifar_like", data_dir=data_dir)
    result = json.loads((cifar / "result.json").read_text())
    base = load_base(cifar)
    assert elsewhere(base, task)["accuracy"] == result["test"]["accuracy"]
    assert judged(base, task, "test")["accuracy"] == result["test"]["accuracy"]


def test_classes_that_the_run_does_not_know_are_refused(cifar, data_dir):
    task = load_task("tfds:stl_like", data_dir=data_dir)
    with pytest.raises(UserError, match="unknown class of 'stl_like' 'car'; did you mean 'cat'"):
        elsewhere(load_base(cifar), task)


def test_the_images_of_the_run_are_refused(cifar, data_dir):
    config = cifar10_shifts.get_config().unlock()
    config.tasks = {"same": lp_ft.get_config().task}
    config.tasks.same.update({"name": "tfds:cifar_like", "data_dir": data_dir, "val": 0.2})
    with pytest.raises(UserError, match="task 'same' has the images that .* was trained on: say"):
        list(judge.rows(config, [cifar]))


def test_what_is_no_run_is_not_judged(tmp_path):
    with pytest.raises(UserError, match="is no finished run of a classification"):
        list(judge.rows(cifar10_shifts.get_config(), [tmp_path]))


@pytest.mark.parametrize("name", PROTOCOLS["layer_probes"])
def test_probes_run_on_a_stand_in(name, data_dir, tmp_path):
    config = protocol(name)
    changes = {"task.name": "tfds:flowers_like", "task.data_dir": data_dir, "layers": ("pool",)}
    config.update_from_flattened_dict(TINY | changes | {"cache": "", "views": "crops"})
    result, _ = studies.run("layer_probes", config, tmp_path, name=name)
    (cell,) = result["cells"]
    assert (cell["train"], cell["val"], *cell["probes"]) == (30, 15, *config.probes)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROTOCOLS["scenarios"])
def test_a_cell_runs_on_a_stand_in(name, data_dir, tmp_path):
    config = protocol(name).unlock()
    config.tasks = {"flowers": {"name": "tfds:flowers_like", "data_dir": data_dir}}
    config.bases = {"tiny": TINY | {"crop": 0.0, "channels": 0}}
    points = config.to_dict()["plans"]["full"]["space"][-2:]
    config.plans.full.space = tuple({"tune": point["tune"] | {"epochs": 1}} for point in points)
    config.settings.batch_size, config.least_steps = 16, 1
    config.cache = str(tmp_path / "cache")
    result, _ = studies.run("scenarios", config, tmp_path / "run", name=name)
    (row,) = result["rows"]
    assert (row["n_train"], row["n_val"], row["n_test"], row["n_classes"]) == (30, 15, 15, 3)
    rates = [draw["settings"]["tune.learning_rate"] for draw in row["tried"]]
    assert rates == [point["tune"]["learning_rate"] for point in points]
    best = max(row["tried"], key=lambda draw: draw["val"])
    assert (row["chosen"], row["val"]) == (best["settings"], best["val"])
    assert "full a grid of 2 settings; the best" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bit", "cats_and_dogs", "dogs_and_flowers"])
def test_a_transfer_runs_on_a_stand_in(name, data_dir, tmp_path):
    config = protocol(name)
    joined = "joined:tfds:cifar_like+tfds:flowers_like"
    task = joined if name == "dogs_and_flowers" else "tfds:cifar_like"
    changes = {"task.name": task, "task.data_dir": data_dir, "batch_size": 16, "cache": ""}
    changes |= {"from_layer": "0", "train_head.epochs": 1, "tune.epochs": 1}
    if config.task.per_class:
        changes["task.per_class"] = 8
    config.update_from_flattened_dict(TINY | changes)
    transfer.transfer(config, tmp_path, name)
    classes = json.loads((tmp_path / "result.json").read_text())["task"]["classes"]
    assert classes == (["cifar_like", "flowers_like"] if task == joined else [*CifarLike.names])


# Preparing


def test_what_is_prepared_stays_as_it_is(data_dir):
    before = programs.contents(pathlib.Path(data_dir))
    assert prepared.prepare("cifar_like", data_dir).endswith("cifar_like/1.0.0")
    assert programs.contents(pathlib.Path(data_dir)) == before


def no_network(*args, **kwargs):
    raise urllib.error.URLError("Name or service not known")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("cats_vs_dogs", "is not there, and there is no network to fetch it .*not known.*copy the"),
        ("cats_vs_dog", "unknown TFDS dataset 'cats_vs_dog'; did you mean 'cats_vs_dogs'"),
        ("no such thing", "cannot be prepared: Parsing builder name string no such thing failed"),
    ],
)
def test_what_cannot_be_prepared_says_why(name, line, tmp_path, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with pytest.raises(UserError, match=line) as caught:
        prepared.prepare(name, tmp_path)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


class OfArrays(CifarLike):
    """TFDS encodes arrays with TensorFlow, which is not here."""

    def _generate_examples(self, split):
        yield 0, {"image": np.zeros((32, 32, 3), np.uint8), "label": 0}


def test_a_dataset_that_needs_tensorflow_says_so(tmp_path):
    with pytest.raises(UserError, match="prepares 'of_arrays' with the package tensorflow: pip in"):
        prepared.prepare("of_arrays", tmp_path)


def test_the_program_goes_on_after_one_that_fails(data_dir, tmp_path, capsys):
    config = cifar10_shifts.get_config().unlock()
    config.tasks.stl10 = {"name": "tfds:of_arrays", "data_dir": str(tmp_path)}
    config.tasks.cifar10_1 = {"name": "joined:tfds:cifar_like+digits", "data_dir": data_dir}
    with pytest.raises(UserError, match="1 of 2 could not be prepared: of_arrays"):
        prepare.prepare(config, pathlib.Path(), "shifts")
    assert "cifar_like/1.0.0" in capsys.readouterr().out
    with pytest.raises(UserError, match="the config 'digits' names no TFDS dataset"):
        prepare.prepare(load_config("configs/digits.py"), pathlib.Path(), "digits")
