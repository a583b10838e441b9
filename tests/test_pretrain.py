"""Pretraining from a config: resumed and uninterrupted, labels unread, and a base that it gives."""

import dataclasses
import json
import logging

import jax
import ml_collections
import numpy as np
import PIL.Image
import programs
import pytest
from test_train import TIMES, Killed, ended

import tl_jax
from configs import pretrain_digits
from experiments import cli, config_flag
from experiments import pretrain as program_of_pretrain
from tl_jax.base.load import load_base
from tl_jax.errors import UserError
from tl_jax.measure import features
from tl_jax.models import alexnet_small
from tl_jax.runs import pretrain, subject
from tl_jax.stats import representation
from tl_jax.train import objectives
from tl_jax.train.objective import Loss, Term
from tl_jax.train.objectives.byol import cosine
from tl_jax.train.objectives.common import jointly
from tl_jax.train.objectives.self_supervised import JointEmbedding, spread

FEW = ((4, 5, 2), (8, 3, 1), (8, 3, 1), (8, 3, 1))


@pytest.fixture(scope="module", autouse=True)
def smaller():
    """The small AlexNet has fewer channels yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alexnet_small, "CONVOLUTIONS", FEW)
        yield


def config(**changes):
    """A smaller one than pretrain_digits', without a cache."""
    found = pretrain_digits.get_config().unlock()
    found.objective = "simclr(hidden=32, width=16)"
    found.size, found.images, found.cache = 16, 300, ""
    found.batch_size, found.tune.epochs = 64, 2
    found.update_from_flattened_dict(changes)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    result, before = pretrain.by_config(config(), folder, name="simclr")
    assert not before
    return result, folder


def rows(result):
    """The epochs, without what they cost."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in result["history"]]


def test_it_gives_a_base_that_is_read_by_its_folder_and_as_weights(trained):
    result, folder = trained
    assert json.loads((folder / "result.json").read_text()) == json.loads(json.dumps(result))
    base, same = load_base(folder), load_base("alexnet_small", folder / "model.safetensors")
    assert base.layers == tuple(result["base"]["layers"]) and base.layers[-1] == "fc5"
    task = tl_jax.load_task("digits", val=0.15, test=0.15)
    images = base.preprocessing([task.open(0), task.open(1)])
    np.testing.assert_array_equal(base(images), same(images))
    fresh = load_base("alexnet_small", "random:0").resized(16).cut("fc5")
    assert not np.allclose(base(images), fresh(images))
    found = features.of_layers(base, task, layers=["fc5"], cache=None)["fc5"].rows
    after, val = result["after"], task.splits["val"]
    assert after["rank"] == pytest.approx(representation.effective_rank(found[val]), rel=1e-4)
    assert {n: result["history"][-1][f"val_{n}"] for n in after} == after
    assert result["before"] != after and not result["collapsed"]
    assert result["task"]["images"]["train"] == 300


def test_the_page_shows_curves_and_neighbours(trained):
    result, folder = trained
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"the class of {100 * result['after']['knn']:.1f} % of the images" in page
    assert "have not collapsed" in page
    for name in ("curve_train_loss", "curve_spread", "curve_rank", "curve_knn"):
        assert (folder / f"{name}.svg").exists()
    with PIL.Image.open(folder / "neighbours.png") as sheet:
        width, height = sheet.size
    assert width > height > 6 * 60


def test_a_killed_run_goes_on_where_it_was(trained, tmp_path, monkeypatch):
    whole, folder = trained
    mine = config(checkpoint_seconds=0.0)
    for offers in (2, 3):
        with monkeypatch.context() as patch:
            ended(patch, offers, "killed")
            with pytest.raises(Killed):
                pretrain.by_config(mine, tmp_path, name="simclr")
    again, before = pretrain.by_config(mine, tmp_path, name="simclr")
    assert not before and rows(again) == rows(whole) and again["after"] == whole["after"]
    bases = (load_base(f).variables for f in (folder, tmp_path))
    jax.tree.map(np.testing.assert_array_equal, *bases)
    assert pretrain.by_config(mine, tmp_path, name="simclr") == (again, True)
    with pytest.raises(UserError, match="another config .batch_size 64, not 32"):
        other = ml_collections.ConfigDict({**mine.to_dict(), "batch_size": 32})
        pretrain.by_config(other, tmp_path, name="simclr")


def test_labels_enter_no_weight(trained, tmp_path):
    mine = config()
    task = subject.task_of(mine, mine.seed)
    mixed = np.random.default_rng(0).permutation(task.labels)
    task = task.with_truth(labels=mixed, targets=np.eye(10, dtype=np.float32)[mixed])
    result = pretrain.work(subject.base_of(mine), task, tmp_path, mine, name="mixed")
    bases = (load_base(f).variables for f in (trained[1], tmp_path))
    jax.tree.map(np.testing.assert_array_equal, *bases)
    assert result["after"]["knn"] < 0.3 < trained[0]["after"]["knn"]  # which is all that reads them


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attracted(JointEmbedding):
    """Nothing keeps the two views of different images apart."""

    def loss(self, net, batch, memory, now):
        """The cosine of the embeddings, through both of which gradients flow."""
        a, b = jointly(net, (batch["a"], batch["b"]), "projected")
        return Loss({"loss": Term(-cosine(a, b).mean())}, memory, {"spread": spread(a)})


@pytest.mark.slow
def test_a_collapse_is_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(objectives.OBJECTIVES, "attracted", Attracted)
    mine = config(objective="attracted(hidden=32, width=16)", **{"tune.learning_rate": 3e-2})
    mine.tune.epochs = 4
    with caplog.at_level(logging.WARNING, "tl_jax"):
        result, _ = pretrain.by_config(mine, tmp_path, name="collapsed")
    assert result["collapsed"] and result["collapsed"] in pretrain.said(result)
    assert len([said for said in caplog.messages if "have collapsed" in said]) == 1
    assert result["collapsed"] in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"train_spread": 0.05, "val_spread": 0.3}, "embeddings have collapsed: spread 0.05"),
        ({"val_spread": 0.005, "val_rank": 9.0}, "features have collapsed: spread 0.005"),
        ({"val_spread": 0.3, "val_rank": 1.2}, "features have collapsed: rank 1.2, below 1.5"),
        ({"train_spread": 0.9, "val_spread": 0.3, "val_rank": 9.0}, ""),
    ],
)
def test_what_is_a_collapse(row, said):
    found = pretrain.collapse(row)
    assert said in found and bool(found) == bool(said)


@pytest.mark.slow
def test_images_that_lie_anywhere_are_enough(photos, tmp_path):
    """The folder of three shapes, whose sub-folders say nothing here."""
    task = tl_jax.load_task(f"images:{photos}")
    assert not task.classes and not task.truth and task.folder == str(photos)
    assert {split: len(r) for split, r in task.splits.items()} == {"train": 48, "val": 6, "test": 6}
    mine = config(**{"task.name": "images", "task.path": str(photos), "tune.epochs": 1})
    mine.tune.augment = "flip"
    mine.channels, mine.batch_size = 3, 16
    result, _ = pretrain.by_config(mine, tmp_path, name="photos")
    assert "knn" not in result["after"] and result["task"]["classes"] == []
    base = load_base(tmp_path)
    assert base.preprocessing.channels == 3
    few = tmp_path / "few"
    few.mkdir()
    task.open(0).save(few / "one.png")
    (few / "notes.txt").write_text("not an image")
    with pytest.raises(UserError, match="'.*few' has 1 images, and three splits need three"):
        tl_jax.load_task(f"images:{few}")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "cross_entropy"}, "does not learn from images alone: take one of barlow"),
        ({"objective": "simclrr"}, "unknown objective 'simclrr'; did you mean 'simclr'"),
        ({"objective": "moco(queue=301)"}, "a queue of 301 is longer than an epoch of 300 images"),
        ({"tune.augment": ""}, "SimCLR learns what random augmentation leaves as it is"),
        (
            {"batch_size": 1, "tune.batch_norm": "frozen"},
            "SimCLR compares the images of a batch, and batch_size=1 has one",
        ),
        ({"tune.augment": "crop+mixup"}, "SimCLR takes each view for its image, and this augment"),
        ({"objective": "simclr(output='conv2')"}, "output='conv2' is what cut= says: leave it out"),
        ({"objective": "slowness(step=16)"}, "moves by 16 pixels leaves an image of 16"),
        ({"objective": "masked(patch=16)"}, "one patch of 16 is the whole image of 16 x 16"),
        ({"cut": "conv9"}, "unknown layer 'conv9'; did you mean 'conv1'"),
        ({"objective": "masked(patch=3)"}, "16 x 16 pixels are not made of patches of 3"),
        ({"objective": "jigsaw(grid=3)"}, "Jigsaw cuts images of 16 x 16 .* take a larger size="),
        ({"images": -1}, "images= takes a whole number"),
        ({"task.name": "python_help"}, "the task 'python_help' has none"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        pretrain.by_config(config(**changes), tmp_path, name="refused")
    assert not (tmp_path / "result.json").exists() and not (tmp_path / "checkpoints").exists()


def test_a_transfer_says_where_such_objectives_belong():
    base = tl_jax.load_base("alexnet_small", "random:0")
    with pytest.raises(UserError, match="objective=byol learns without labels: train a base"):
        base.transfer(tl_jax.load_task("digits", per_class=3), objective="byol", plan="head_only")


def program(mine, folder):
    """The exit status of the program in this process, with this config."""

    def main(argv):
        with config_flag.naming_flags(mine):
            program_of_pretrain.pretrain(mine, folder, "simclr")

    return cli.status(main, [])


def test_the_program_shows_a_result_and_says_what_is_wrong_in_one_line(trained, tmp_path, capsys):
    result, folder = trained
    assert program(config(), folder) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith(f"after: spread {result['after']['spread']:.3f}, rank ")
    assert said[-1] == f"done before: {folder / 'model.safetensors'}"
    assert program(config(images=-1), tmp_path) == 2
    line = programs.error_line(capsys.readouterr().err)
    assert line.startswith("--config.images= takes a whole number, at least 0")
    assert program(config(objective="moco(queue=9999)"), tmp_path) == 2
    assert "take moco(queue=30) or so" in programs.error_line(capsys.readouterr().err)
