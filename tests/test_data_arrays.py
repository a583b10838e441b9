import subprocess
import sys

import numpy as np
import pytest
import sklearn.datasets

from tl_jax.data.tasks import load_task
from tl_jax.data.tasks.arrays import from_arrays
from tl_jax.errors import UserError

LABELS = np.arange(30) % 3


def images(shape=(4, 5), n=30):
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


@pytest.mark.parametrize(("shape", "mode"), [((4, 5), "L"), ((4, 5, 1), "L"), ((4, 5, 3), "RGB")])
def test_images_open_as_they_were_given(shape, mode):
    given = images(shape)
    task = from_arrays("toy", given, LABELS, classes=["a", "b", "c"], seed=0)
    for index in (0, 29):
        assert task.open(index).mode == mode
        np.testing.assert_array_equal(task.open(index), given[index].squeeze())
    assert (task.name, task.classes, task.ids[29]) == ("toy", ("a", "b", "c"), "29")


def test_labels_are_certain_and_splits_cover():
    task = from_arrays("toy", images(), LABELS, seed=0, per_class=2)
    assert task.classes == ("0", "1", "2")
    np.testing.assert_array_equal(task.labels, LABELS)
    np.testing.assert_array_equal(task.graded_labels, LABELS)
    np.testing.assert_array_equal(task.targets.argmax(1), LABELS)
    assert task.targets.sum() == task.weights.sum() == task.graded_weights.sum() == 30
    np.testing.assert_array_equal(np.bincount(LABELS[task.splits["train"]]), [2, 2, 2])
    assert (len(task.splits["val"]), len(task.splits["test"])) == (3, 8)


def test_the_fingerprint_is_of_pixels_and_shape():
    given = images((4, 6))
    changed = given.copy()
    changed[7, 0, 0] ^= 1
    several = [given, changed, given.reshape(30, 6, 4), given[::-1]]
    assert len({from_arrays("toy", x, LABELS, seed=0).fingerprint for x in several}) == 4
    first, other = (from_arrays(n, given.copy(), LABELS, seed=s) for n, s in (("a", 1), ("b", 2)))
    assert first.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (images().astype(np.float32), LABELS, "images must be uint8, 0 to 255; got float32"),
        (images(()), LABELS, r"images must be \(N, H, W\)"),
        (images((1, 1, 300)), LABELS, "300 bands are more than 256"),
        (images((0, 5)), LABELS, "none of them 0"),
        (images(n=0), LABELS[:0], "none of them 0"),
        (images(), LABELS[:29], r"one for each of 30 images; got \(29,\)"),
        (images(), LABELS[:, None], "one for each of 30 images"),
        (images(), LABELS / 2, "labels must be whole numbers from 0 on; got float64"),
        (images(), LABELS - 1, "labels must be whole numbers from 0 on; got int64, .-1 "),
        (images(), LABELS.astype(str), "labels must be whole numbers"),
        (images(), LABELS * 2, "3 different labels up to 4; names, numbers = np.unique"),
        (images(), LABELS * 10**12, "up to 2000000000000; names, numbers = np.unique"),
        (images(), LABELS * 0, "at least 2 classes"),
        (images(), np.minimum(np.arange(30), 1), "class '0' has 1 examples, but 3 are needed"),
    ],
)
def test_other_arrays_are_refused(pixels, labels, message):
    with pytest.raises(UserError, match=message):
        from_arrays("toy", pixels, labels, seed=0)


@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "c", "d"]])
def test_classes_must_be_those_of_the_labels(classes):
    with pytest.raises(UserError, match=f"for the {len(classes)} classes a, b"):
        from_arrays("toy", images(), LABELS, classes=classes, seed=0)


def test_digits_are_scikit_learns():
    task = load_task("digits", seed=0)
    bunch = sklearn.datasets.load_digits()
    np.testing.assert_array_equal(task.labels, bunch.target)
    assert task.classes == tuple("0123456789")
    for index in (0, 1796):
        pixels = np.asarray(task.open(index))
        assert np.abs(pixels / 255 * 16 - bunch.images[index]).max() < 1 / 16
    assert {len(task.splits[s]) for s in ("train", "val", "test")} == {1168, 180, 449}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digit", {}, "unknown task 'digit'; did you mean 'digits'"),
        ("digits", {"per_clas": 1}, "unknown option of task 'digits' 'per_clas'.*'per_class'"),
        ("digits:8", {}, "takes nothing after a colon"),
        ("folder", {}, "the task 'folder' needs a path: 'folder:<path>'"),
        ("tfds:", {}, "the task 'tfds' needs a name: 'tfds:<name>'"),
    ],
)
def test_unknown_tasks_and_options_are_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        load_task(name, seed=0, **options)


def test_the_table_of_tasks_imports_none_of_them():
    heavy = "sklearn", "tensorflow_datasets", "elpv_dataset", "tensorflow", "jax"
    code = f"import sys, tl_jax.data.tasks; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_images_in_two_splits_are_counted(caplog):
    images = np.arange(40 * 4, dtype=np.uint8).reshape(40, 2, 2)
    images[30:33] = images[:3]
    given = {"train": np.arange(20), "val": np.arange(20, 30), "test": np.arange(30, 40)}
    task = from_arrays("toy", images, np.arange(40) % 2, seed=0, given=given)
    np.testing.assert_array_equal(task.splits["test"], given["test"])
    (record,) = caplog.records
    assert "toy: 3 of 10 images of test are, byte for byte, in another split" in record.getMessage()


def test_names_of_classes_are_text_and_different():
    given = {"seed": 0, "classes": range(5, 8)}
    assert from_arrays("numbers", images(), LABELS, **given).classes == ("5", "6", "7")
    assert load_task((images(), LABELS), name="mine").name == "mine"
    with pytest.raises(UserError, match="classes have different names; repeated: a"):
        from_arrays("letters", images(), LABELS, seed=0, classes="aba")


def test_some_classes_are_a_task_of_their_own():
    whole = load_task("digits", seed=3, per_class=20)
    some = load_task("digits", seed=3, per_class=20, only=("8", "3"))
    assert some.classes == ("8", "3") and len(some.splits["train"]) == 40
    for split, rows in some.splits.items():
        own = [i for i in whole.splits[split] if whole.classes[whole.labels[i]] in "83"]
        assert [some.ids[i] for i in rows] == [whole.ids[i] for i in own]
        for mine, theirs in zip(rows, own, strict=True):
            assert some.classes[some.labels[mine]] == whole.classes[whole.labels[theirs]]
    assert some.fingerprint != whole.fingerprint


@pytest.mark.parametrize(
    ("only", "said"),
    [
        (("8", "threee"), "unknown class 'threee'"),
        (("8",), "at least two classes, each once"),
        ("83", "only= takes a list of classes"),
    ],
)
def test_classes_that_are_none_are_refused(only, said):
    with pytest.raises(UserError, match=said):
        load_task("digits", only=only)
