"""Fashion-MNIST from its four idx files, whole and damaged."""

import gzip
import struct

import numpy as np
import pytest

from tl_jax.data.tasks import load_task
from tl_jax.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (80, 28, 28)).astype(np.uint8)
LABELS = (np.arange(80) % 10).astype(np.uint8)


def idx(values: np.ndarray, *, magic: int | None = None, sizes=None) -> bytes:
    """As LeCun's page describes the format, by `struct` and not by numpy."""
    magic = 0x0800 + values.ndim if magic is None else magic
    sizes = values.shape if sizes is None else sizes
    return struct.pack(f">I{len(sizes)}I", magic, *sizes) + values.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Fifty images to train on and thirty to test on."""
    for name, part in (("train", slice(0, 50)), ("t10k", slice(50, 80))):
        put(tmp_path, f"{name}-images-idx3", idx(IMAGES[part]))
        put(tmp_path, f"{name}-labels-idx1", idx(LABELS[part]))
    return tmp_path


def put(folder, name, content):
    (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(content))


def load(folder, **options):
    return load_task("fashion_mnist", path=folder, seed=0, **options)


def test_images_and_labels_are_the_files(folder):
    task = load(folder)
    assert [np.asarray(task.open(i)).tobytes() for i in range(80)] == [i.tobytes() for i in IMAGES]
    np.testing.assert_array_equal(task.labels, LABELS)
    assert (len(task.classes), task.classes[9], task.channels) == (10, "Ankle boot", 1)


def test_the_published_test_split_is_kept_and_validation_comes_out_of_train(folder):
    splits = load(folder, val=0.2).splits
    np.testing.assert_array_equal(splits["test"], np.arange(50, 80))
    assert len(splits["val"]) == 10
    np.testing.assert_array_equal(
        np.sort(np.concatenate([splits["train"], splits["val"]])), np.arange(50)
    )


def test_a_budget_is_of_train_and_val(folder):
    task = load(folder, val=0.4, per_class=2)
    assert np.bincount(task.labels[task.splits["train"]]).tolist() == [2] * 10
    assert np.bincount(task.labels[task.splits["val"]]).tolist() == [1] * 10
    assert (len(task.splits["val"]), len(task.splits["test"])) == (10, 30)


def test_a_missing_file_names_the_package_and_the_dataset_of_tfds(folder):
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError) as error:
        load(folder)
    line = str(error.value)
    assert line.startswith(f"{folder}/t10k-labels-idx1-ubyte.gz is missing")
    assert "dataset-fashion-mnist" in line and "tfds:fashion_mnist" in line and "\n" not in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (idx(IMAGES[:50], magic=0x0801), "magic number 2049, 50 entries"),
        (idx(IMAGES[:50], sizes=(2**32 - 1, 28, 28)), "4294967295 entries"),
        (idx(IMAGES[:50], sizes=(0, 28, 28)), "0 entries"),
        (
            idx(IMAGES[:50], sizes=(50, 32, 28)),
            "32 x 28 bytes; expected 2051, 1 to 1000000 of 28 x 28",
        ),
        (idx(IMAGES[:49], sizes=(50, 28, 28)), "not the 39200 bytes that it announces"),
        (idx(IMAGES[:51], sizes=(50, 28, 28)), "not the 39200 bytes that it announces"),
        (idx(IMAGES[:40]), "40 images but 50 labels of train"),
        (b"\0\0\x08", "not what it should be"),
        (b"", "not what it should be"),
    ],
)
def test_files_that_are_not_what_they_should_be(folder, content, said):
    put(folder, "train-images-idx3", content)
    with pytest.raises(UserError, match=said):
        load(folder)


def test_files_that_are_cut_short_or_no_gzip(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"<html>not found</html>", whole[:10] + b"\xff" * 99):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged"):
            load(folder)
