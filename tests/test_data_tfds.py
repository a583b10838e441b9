import json
import shutil
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from tl_jax.data.tasks import load_task
from tl_jax.data.tasks.tfds import from_tfds
from tl_jax.errors import UserError

CLASSES = ("circle", "square")


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Images of one pixel whose value is their number; odd ones are squares."""

    VERSION = tfds.core.Version("1.0.0")
    sizes = {"train": 40, "test": 10}
    unlabelled = ()

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(1, 1, 1)),
            "mask": tfds.features.Image(shape=(1, 1, 1)),
            "label": tfds.features.ClassLabel(names=CLASSES),
            "number": np.int32,
            "said": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.sizes}

    def _generate_examples(self, split):
        first = 100 * (split == "test")
        for i in range(first, first + self.sizes[split]):
            image = PIL.Image.new("L", (1, 1), i)
            label = -1 if split in self.unlabelled else i % 2
            example = {"image": image, "mask": image, "label": label, "number": i}
            yield i, example | {"said": f"Größe {i}"}


class ShapesValidated(Shapes):
    sizes = {"train": 20, "validation": 8, "test": 6, "extra": 5}


class ShapesTrainOnly(Shapes):
    sizes = {"train": 20}


class ShapesUntested(Shapes):
    unlabelled = ("test",)


class ShapesTestOnly(Shapes):
    sizes = {"test": 20}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    top = tmp_path_factory.mktemp("tfds")
    for builder in (Shapes, ShapesValidated, ShapesTrainOnly, ShapesUntested, ShapesTestOnly):
        builder(data_dir=top, file_format="array_record").download_and_prepare()
    return top


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        pytest.fail("turned to the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def value(task, index):
    return np.asarray(task.open(index)).item()


def check_examples(task, split, values):
    """The split holds the images of just these values, each with its label."""
    index = task.splits[split]
    assert sorted(value(task, i) for i in index) == sorted(values)
    np.testing.assert_array_equal([value(task, i) % 2 for i in index], task.labels[index])
    np.testing.assert_array_equal(task.targets[index].argmax(1), task.labels[index])


def test_its_own_test_split_is_kept_and_val_taken_out_of_train(data_dir):
    task = load_task("tfds:shapes", seed=0, data_dir=data_dir)
    assert (task.name, task.classes) == ("shapes", CLASSES)
    check_examples(task, "test", range(100, 110))
    train_and_val = np.concatenate([task.splits["train"], task.splits["val"]])
    assert sorted(value(task, i) for i in train_and_val) == list(range(40))
    assert len(task.splits["val"]) == 4
    assert len(set(task.ids)) == 50 and task.open(0).mode == "L"
    assert "tensorflow" not in sys.modules


def test_texts_instead_of_images(data_dir):
    task = load_task("tfds:shapes", seed=0, data_dir=data_dir, text="said")
    assert task.open is None and len(task.texts) == 50
    numbers = [int(text.removeprefix("Größe ")) for text in task.texts]
    np.testing.assert_array_equal(task.labels, np.array(numbers) % 2)
    assert sorted(numbers[row] for row in task.splits["test"]) == list(range(100, 110))
    assert task.fingerprint != load_task("tfds:shapes", data_dir=data_dir).fingerprint


def test_its_own_validation_split_is_kept_and_others_left(data_dir):
    task = from_tfds("shapes_validated", seed=0, data_dir=data_dir)
    check_examples(task, "val", range(8))
    check_examples(task, "test", range(100, 106))
    assert len(task.ids) == 34
    few = from_tfds("shapes_validated", seed=0, data_dir=data_dir, per_class=3)
    assert {name: len(own) for name, own in few.splits.items()} == {"train": 6, "val": 2, "test": 6}
    assert set(few.splits["val"]) < set(task.splits["val"])


def test_without_a_test_split_it_is_taken_out_of_train(data_dir):
    task = from_tfds("shapes_train_only", seed=0, data_dir=data_dir, val=0.2, test=0.3)
    assert {k: len(v) for k, v in task.splits.items()} == {"train": 10, "val": 4, "test": 6}


def test_its_splits_may_be_said(data_dir):
    said = {"train": "train[:10]", "val": "train[75%:]", "test": "test[50%:]"}
    task = from_tfds("shapes", seed=0, data_dir=data_dir, splits=said)
    assert {k: len(v) for k, v in task.splits.items()} == {"train": 10, "val": 10, "test": 5}
    split = {k: {value(task, i) for i in rows} for k, rows in task.splits.items()}
    whole = [v for name in split for v in split[name]]
    assert len(set(whole)) == 25 and split["test"] < set(range(100, 110))


def test_a_test_split_alone_is_a_task_to_judge_by(data_dir):
    said = {"splits": {"test": "test"}, "names": ("disc", "box"), "data_dir": data_dir}
    task = load_task("tfds:shapes_test_only", **said)
    assert task.classes == ("disc", "box")
    assert {k: len(v) for k, v in task.splits.items()} == {"train": 0, "val": 0, "test": 20}


def test_pixels_of_a_darker_white_are_scaled(data_dir):
    task = from_tfds("shapes", seed=0, data_dir=data_dir)
    bright = from_tfds("shapes", seed=0, data_dir=data_dir, white=120)
    wanted = [min(255, value(task, i) * 255 // 120) for i in range(50)]
    assert [value(bright, i) for i in range(50)] == wanted
    assert bright.fingerprint != task.fingerprint  # so that a cache keeps their pixels apart


def test_parquet_gives_the_same_task(data_dir, tmp_path):
    Shapes(data_dir=tmp_path, file_format="parquet").download_and_prepare()
    one, other = (from_tfds("shapes", seed=0, data_dir=top) for top in (data_dir, tmp_path))
    assert one.fingerprint == other.fingerprint
    assert [value(one, i) for i in range(50)] == [value(other, i) for i in range(50)]


def test_threads_may_open_images(data_dir):
    task = from_tfds("shapes:1.0.0", seed=0, data_dir=data_dir)
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda i: value(task, i), list(range(50)) * 8))
    assert seen == [value(task, i) for i in range(50)] * 8


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mnist", {}, "'mnist' is not prepared in .*nothing is downloaded.*experiments.prepare"),
        ("shapes:2.0.0", {}, "'shapes:2.0.0' is not prepared in"),
        ("mnsit", {}, "unknown TFDS dataset 'mnsit'; did you mean 'mnist'"),
        ("shape", {}, "unknown TFDS dataset 'shape'; did you mean 'shapes'"),
        ("no such thing", {}, "cannot be read: Parsing builder name string no such thing failed"),
        ("qqqqqq", {}, "TFDS has no dataset 'qqqqqq', and none is prepared in .*catalog"),
        ("huggingface:mnist", {}, "TFDS has no dataset 'huggingface'"),
        ("shapes", {"image": "imag"}, "unknown feature of TFDS dataset 'shapes' 'imag'; did"),
        ("shapes", {"text": "label"}, "feature 'label' of TFDS dataset 'shapes' is no Text"),
        ("shapes", {"image": "number"}, "feature 'number' of TFDS dataset 'shapes' is no Image"),
        ("shapes", {"label": "number"}, "feature 'number' .* is no ClassLabel"),
        ("shapes_untested", {}, "examples without a label.*test"),
        ("shapes_test_only", {}, "has no train split: test; to judge a run on it, say splits="),
        ("shapes", {"splits": {"validation": "test"}}, "unknown split 'validation'; known: test"),
        ("shapes", {"splits": {}}, "splits= takes one or more of train, val and test"),
        ("shapes", {"splits": {"train": "trian[:8]"}}, r"splits.train='trian\[:8\]' is no split"),
        ("shapes", {"names": ("disc",)}, "'shapes' has 2 classes; got 1 names="),
        ("shapes", {"white": 0}, "white= takes a whole number, at least 1"),
        ("shapes", {"label": "clevr_count"}, "unknown feature of TFDS dataset 'shapes' 'objects'"),
        ("shapes", {"splits": {"test": "test"}, "per_class": 2}, "per_class= takes 0 where there"),
    ],
)
def test_what_cannot_be_used_says_why(data_dir, name, options, message):
    with pytest.raises(UserError, match=message) as caught:
        from_tfds(name, seed=0, data_dir=data_dir, **options)
    assert "\n" not in str(caught.value)


def test_tfrecord_needs_tensorflow(data_dir, tmp_path):
    shutil.copytree(data_dir / "shapes", tmp_path / "shapes")
    info = tmp_path / "shapes" / "1.0.0" / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match="prepared as tfrecord, which only TensorFlow reads"):
        from_tfds("shapes", seed=0, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("kind", "kept", "reason"),
    [
        ("array_record", None, ""),
        ("array_record", 0.5, "record 0 of test is empty"),  # the reader itself says nothing
        ("array_record", 0.9, ""),
        ("parquet", None, ""),
        ("parquet", 0.9, ""),
    ],
)
def test_damaged_files_are_reported(tmp_path, kind, kept, reason):
    Shapes(data_dir=tmp_path, file_format=kind).download_and_prepare()
    (records,) = (tmp_path / "shapes" / "1.0.0").glob(f"shapes-test.{kind}-*")
    whole = records.read_bytes()
    records.unlink()
    if kept:
        records.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(UserError, match=f"'shapes' is damaged .{reason}.*; prepare it again"):
        from_tfds("shapes", seed=0, data_dir=tmp_path)


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
def test_damaged_metadata_are_reported(data_dir, tmp_path, file):
    shutil.copytree(data_dir / "shapes", tmp_path / "shapes")
    path = tmp_path / "shapes" / "1.0.0" / file
    path.write_text(path.read_text()[:-30])
    with pytest.raises(UserError, match="TFDS dataset 'shapes' cannot be read"):
        from_tfds("shapes", seed=0, data_dir=tmp_path)


def test_examples_that_are_missing_are_reported(tmp_path):
    Shapes(data_dir=tmp_path, file_format="parquet").download_and_prepare()
    info = tmp_path / "shapes" / "1.0.0" / "dataset_info.json"
    written = json.loads(info.read_text())
    written["splits"][0]["shardLengths"] = ["45"]
    info.write_text(json.dumps(written))
    with pytest.raises(UserError, match="damaged .it holds 50 of 55 examples"):
        from_tfds("shapes", seed=0, data_dir=tmp_path)


def test_a_missing_package_is_asked_for(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match="needs the package tensorflow_datasets: pip install tens"):
        from_tfds("shapes", seed=0, data_dir=data_dir)
