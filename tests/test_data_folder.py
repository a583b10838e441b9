import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tl_jax import interrupt
from tl_jax.data.images import read_image
from tl_jax.data.tasks import load_task
from tl_jax.data.tasks.folder import folder
from tl_jax.errors import UserError


def fill(top, sizes, value=0):
    """PNGs of one pixel, their value counting upwards, in a folder for each name."""
    for name, size in sizes.items():
        (top / name).mkdir(parents=True)
        for i in range(size):
            value += 1
            PIL.Image.new("L", (1, 1), value).save(top / name / f"{i:03}.png")
    return value


@pytest.fixture
def pets(tmp_path):
    fill(tmp_path / "pets", {"dog": 12, "cat": 16, "Ant": 8})
    return tmp_path / "pets"


def classes_in(task, split):
    return {task.classes[label] for label in task.labels[task.splits[split]]}


def test_one_sub_folder_a_class(pets):
    task = folder(pets, seed=0)
    assert (task.name, task.classes, task.skipped) == ("pets", ("Ant", "cat", "dog"), ())
    assert list(task.ids) == sorted(p.relative_to(pets).as_posix() for p in pets.glob("*/*"))
    assert {k: len(v) for k, v in task.splits.items()} == {"train": 23, "val": 4, "test": 9}
    for index, name in enumerate(task.ids):
        assert task.classes[task.labels[index]] == name.split("/")[0]
        with PIL.Image.open(pets / name) as image:
            np.testing.assert_array_equal(task.open(index), image)


def test_labels_are_certain(pets):
    task = folder(pets, seed=0)
    assert (task.labels.dtype, task.targets.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(task.targets.argmax(1), task.labels)
    np.testing.assert_array_equal(task.targets.sum(1), np.ones(36))
    np.testing.assert_array_equal(task.graded_labels, task.labels)
    np.testing.assert_array_equal(task.weights, np.ones(36, np.float32))
    np.testing.assert_array_equal(task.graded_weights, task.weights)


def test_nested_files_count_and_hidden_ones_and_clutter_do_not(pets):
    (pets / "cat" / "b" / "a").mkdir(parents=True)
    shutil.copy(pets / "dog" / "000.png", pets / "cat" / "b" / "a" / "no suffix")
    (pets / ".cache").mkdir()
    (pets / "cat" / ".thumbs").mkdir()
    for name in (".DS_Store", "Thumbs.db", ".thumbs/0.png", "../read me.txt", "../.cache/0.png"):
        (pets / "cat" / name).write_bytes(b"no image")
    task = folder(pets, seed=0)
    assert len(task.ids) == 37
    assert task.classes[task.labels[task.ids.index("cat/b/a/no suffix")]] == "cat"


@pytest.mark.parametrize("val", ["val", "validation", "Val"])
def test_given_splits_are_kept(tmp_path, val):
    for split in ("train", "test", val):
        fill(tmp_path / split, {"a": 3, "b": 4})
    task = folder(tmp_path, seed=0)
    for ours, theirs in (("train", "train"), ("val", val), ("test", "test")):
        assert {task.ids[i].split("/")[0] for i in task.splits[ours]} == {theirs}
        assert len(task.splits[ours]) == 7 and classes_in(task, ours) == {"a", "b"}


def test_without_val_it_is_taken_out_of_train(tmp_path):
    fill(tmp_path / "train", {"a": 20, "b": 10})
    fill(tmp_path / "test", {"a": 2, "b": 1})
    task = folder(tmp_path, seed=0, val=0.2, per_class=3)
    assert {k: len(v) for k, v in task.splits.items()} == {"train": 6, "val": 2, "test": 3}
    assert {task.ids[i].split("/")[0] for i in task.splits["val"]} == {"train"}
    assert {task.ids[i].split("/")[0] for i in task.splits["test"]} == {"test"}


def test_a_class_may_be_called_test(tmp_path):
    fill(tmp_path, {"test": 5, "real": 5})
    assert folder(tmp_path, seed=0).classes == ("real", "test")


def test_the_fingerprint_follows_names_and_contents_only(pets, tmp_path):
    first = folder(pets, seed=0)
    shutil.copytree(pets, tmp_path / "copy")
    assert folder(tmp_path / "copy", seed=5, val=0.2).fingerprint == first.fingerprint
    PIL.Image.new("L", (1, 1), 99).save(tmp_path / "copy" / "cat" / "000.png")
    changed = folder(tmp_path / "copy", seed=0).fingerprint
    os.rename(pets / "cat" / "000.png", pets / "cat" / "0000.png")
    assert len({first.fingerprint, changed, folder(pets, seed=0).fingerprint}) == 3


def spoil(pets, count):
    names = ["cat/000.png", "cat/001.png", "dog/002.png", "dog/003.png"][:count]
    whole = (pets / "cat" / "002.png").read_bytes()
    for name, content in zip(names, (b"", b"text", whole[:45], whole[:20]), strict=False):
        (pets / name).write_bytes(content)
    return names


def test_unreadable_images_stop_the_task_all_at_once(pets):
    names = spoil(pets, 4)
    with pytest.raises(UserError, match="4 of 36 files .*; and 1 more.*on_unreadable=skip") as e:
        folder(pets, seed=0)
    assert [name in str(e.value) for name in names] == [True, True, True, False]
    assert "\n" not in str(e.value)


def test_unreadable_images_can_be_left_out(pets):
    whole = folder(pets, seed=0)
    names = spoil(pets, 3)
    (pets / "dog" / "gone.png").symlink_to("nowhere")
    os.mkfifo(pets / "dog" / "pipe.png")
    task = folder(pets, seed=0, on_unreadable="skip")
    assert task.skipped == (*names[:2], names[2], "dog/gone.png", "dog/pipe.png")
    assert task.ids == tuple(name for name in whole.ids if name not in names)
    assert task.open(0) == whole.open(0)


def test_a_class_left_without_images_is_named(pets):
    for path in (pets / "Ant").iterdir():
        path.write_bytes(b"text")
    with pytest.raises(UserError, match="class 'Ant' has no readable image"):
        folder(pets, seed=0, on_unreadable="skip")


def flat(top: Path):
    PIL.Image.new("L", (1, 1)).save(top / "0.png")


def note(top: Path):
    (top / "labels" / "0.txt").write_text("0 0.5 0.5 1 1")


def text_file(top: Path):
    top.rmdir()
    top.write_text("")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda top: top.rmdir(), "does not exist; give the folder"),
        (text_file, "is a file, not a folder"),
        (lambda top: None, "has nothing in it; put the files of each class in a sub-folder"),
        (flat, "has files, but no sub-folders; put the files of each class in a sub-folder"),
        (lambda top: fill(top, {"a": 5}), "has one class, 'a'; a task needs at least 2"),
        (lambda top: fill(top, {"a": 5, "b": 0}), "class 'b' has no readable image"),
        (lambda top: fill(top, {"a": 5, "b": 2}), "class 'b' has 2 examples, but 3 are needed"),
        (lambda top: fill(top, {"train": 5, "test": 5}), "train' has files, but no sub-folders"),
        (lambda top: fill(top, {"test/a": 5, "val/a": 5}), "name them train, test and"),
        (lambda top: fill(top, {"train/a": 5, "test/a": 5, "more/a": 5}), "folders more, test, tr"),
        (
            lambda top: fill(top, {"train/a": 5, "train/b": 5, "test/a": 5}),
            r"train and test in '.*' differ \(only train has b\): .* or move test elsewhere",
        ),
        (
            lambda top: fill(top, {"train/Cat": 5, "train/dog": 5, "val/cat": 5, "val/dog": 5}),
            r"train and val in '.*' differ \(only train has Cat; only val has cat\)",
        ),
        (
            lambda top: fill(top, {"train/a": 5, "train/b": 5, "test": 5}),
            "test' has files, but no sub-folders; .* or move test elsewhere to have it split off",
        ),
        (
            lambda top: (fill(top, {"images": 5}), (top / "labels").mkdir(), note(top)),
            r"class 'labels' has no readable image in '.*' \(cannot read '.*/labels/0.txt': not an "
            "image of a known format .*; add some, or move the folder elsewhere if it is no class",
        ),
    ],
)
def test_a_folder_that_is_no_task_says_what_to_do(tmp_path, make, message):
    top = tmp_path / "pictures"
    top.mkdir()
    make(top)
    with pytest.raises(UserError, match=message) as caught:
        folder(top, seed=0)
    assert str(top) in str(caught.value) or "class 'b'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_reading_of_a_folder(tmp_path, monkeypatch, signum):
    """Ctrl-C, too, without a program that catches it, as in a notebook."""
    fill(tmp_path, {"cat": 120, "dog": 120})
    opened = []

    def slowly(path, **how):
        opened.append(path)
        time.sleep(0.02)
        if path == opened[0]:
            os.kill(os.getpid(), signum)
        return read_image(path, **how)

    monkeypatch.setattr("tl_jax.data.tasks.folder.read_image", slowly)
    caught = interrupt.caught() if signum == signal.SIGTERM else contextlib.nullcontext()
    with caught, pytest.raises((interrupt.Interrupted, KeyboardInterrupt)):
        folder(tmp_path, seed=0)
    assert len(opened) < 240


def test_two_paths_of_a_task_are_refused(pets):
    assert len(load_task(f"folder:{pets}", path=str(pets)).ids) == 36
    with pytest.raises(UserError, match="is given two values of path, '.*pets' and 'others'"):
        load_task(f"folder:{pets}", path="others")


def test_a_task_by_a_relative_path_stays_where_it_is(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(pets.parent)
    task = folder(pets.name, seed=0)
    monkeypatch.chdir(tmp_path)
    assert task.open(0) == folder(pets, seed=0).open(0) and task.folder == str(pets)


@pytest.mark.parametrize(
    ("option", "value"), [("val", "0.1"), ("test", None), ("per_class", 1.5), ("seed", "0")]
)
def test_options_of_another_type_are_refused(pets, option, value):
    with pytest.raises(UserError, match=f"{option}= takes a .*number; got"):
        folder(pets, **{"seed": 0} | {option: value})


def test_bad_options_are_refused(pets):
    with pytest.raises(UserError, match="did you mean 'skip'"):
        folder(pets, seed=0, on_unreadable="skipp")
    with pytest.raises(UserError, match="class 'Ant' has 5 examples, but 6 are needed for the bu"):
        folder(pets, seed=0, per_class=6)


def test_it_loads_by_name(pets):
    task = folder(pets, seed=2, val=0.2)
    for same in (
        load_task(f"folder:{pets}", seed=2, val=0.2),
        load_task("folder", path=pets, seed=2, val=0.2),
    ):
        assert same.fingerprint == task.fingerprint
        np.testing.assert_array_equal(same.splits["train"], task.splits["train"])
