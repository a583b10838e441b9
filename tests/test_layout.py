"""Folders as people have them: splits and classes, links, names, copies, what systems leave."""

import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import PIL.Image
import programs
import pytest

from tl_jax.base.load import load_base
from tl_jax.base.predict import files_at
from tl_jax.data import duplicates
from tl_jax.data.files import walk
from tl_jax.data.tasks import load_task
from tl_jax.data.tasks.folder import folder, gallery
from tl_jax.errors import UserError
from tl_jax.runs import log
from tl_jax.runs.subject import task_name


def fill(top, sizes, value=0):
    """PNGs of one pixel, no two the same, in a folder for each name."""
    for name, size in sizes.items():
        (top / name).mkdir(parents=True, exist_ok=True)
        for number in range(size):
            value += 1
            PIL.Image.new("RGB", (1, 1), (value % 256, value // 256, 0)).save(
                top / name / f"{number:02}.png"
            )
    return top


def nested(*splits, **more):
    return {f"{split}/{name}": 6 for split in splits for name in ("cat", "dog")} | more


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("training", "validation", "test"),
        ("Train", "Valid", "TESTING"),
        ("train", "dev", "testing"),
        ("training", None, "testing"),
        ("train", "valid", None),
        ("TRAIN", "val", None),
        ("train", None, None),
    ],
)
def test_the_usual_names_of_splits_are_known(tmp_path, caplog, train, val, test):
    caplog.set_level("INFO", "tl_jax")
    fill(tmp_path, nested(*filter(None, (train, val, test))))
    task = folder(tmp_path, seed=0, val=0.2, test=0.2)
    assert task.classes == ("cat", "dog")
    for split, given in (("train", train), ("val", val), ("test", test)):
        assert {task.ids[i].split("/")[0] for i in task.splits[split]} == {given or train}
        if given and split != "train":
            assert len(task.splits[split]) == 12
    missing = [name for name, given in (("val", val), ("test", test)) if not given]
    said = f"{' and '.join(missing)} will be split off train"
    assert [said in r.getMessage() for r in caplog.records] == [True] * bool(missing)


@pytest.mark.parametrize(
    "sizes",
    [
        nested("train", "val", unlabelled=6),
        nested("train", "training", "test"),
        nested("train", "val", "dev", "test"),
        nested("val", "test"),
        nested("test"),
        nested("train", "holdout"),
        nested("seg_train", "seg_test"),
        nested("training_set", "test_set", "other"),
        {"train": 6, "val": 6, "other": 6},
    ],
)
def test_folders_that_may_be_splits_or_classes_are_refused(tmp_path, sizes):
    fill(tmp_path, sizes)
    with pytest.raises(UserError, match="splits or classes.*name them train, test and") as caught:
        folder(tmp_path, seed=0)
    assert "\n" not in str(caught.value)


def test_splits_inside_classes_are_refused(tmp_path):
    fill(tmp_path, {f"{name}/{split}": 6 for name in ("cat", "dog") for split in ("train", "test")})
    with pytest.raises(UserError, match="splits inside its classes.*train/cat"):
        folder(tmp_path, seed=0)


@pytest.mark.parametrize("names", [("train", "bus"), ("test_tube", "train_station"), ("dev", "x")])
def test_classes_may_sound_like_splits(tmp_path, names):
    fill(tmp_path, dict.fromkeys(names, 6))
    assert folder(tmp_path, seed=0).classes == tuple(sorted(names))


LEFTOVERS = (
    *("@eaDir", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", ".ipynb_checkpoints"),
    *(".Trash-1000", "lost+found", "#recycle", "@Recycle"),
)
FILES = ("Thumbs.db", "desktop.ini", "._00.png", ".DS_Store", "THUMBS.DB", "00.png:Zone.Identifier")


def test_what_systems_leave_is_ignored_by_all_alike(tmp_path):
    top = fill(tmp_path / "@eaDir" / "mine", {"cat": 6, "dog": 6})  # its own place may be anything
    want = sorted(p.relative_to(top).as_posix() for p in top.rglob("*.png"))
    for place in (top, top / "cat"):
        for name in LEFTOVERS:
            shutil.copytree(top / "dog", place / name)
        for name in FILES:
            (place / name).write_bytes(b"no image")
    task = folder(top, seed=0)
    assert (task.classes, list(task.ids)) == (("cat", "dog"), want)
    assert list(gallery(top).ids) == want
    assert [p.relative_to(top).as_posix() for p in files_at(top)] == want


def test_links_to_folders_are_followed_once(tmp_path, caplog):
    top = fill(tmp_path / "mine", {"cat": 6, "dog": 3})
    fill(tmp_path / "else", {"bird": 6, "more/deep": 4, "loop": 0}, value=99)
    (top / "bird").symlink_to(tmp_path / "else" / "bird")
    (top / "dog" / "more").symlink_to("../../else/more")
    (top / "dog" / "again").symlink_to(tmp_path / "else" / "more")
    (top / "cat" / "up").symlink_to("..")
    (top / "cat" / "far").symlink_to("/")
    (tmp_path / "else" / "more" / "back").symlink_to(top / "cat")
    (top / "zebra").symlink_to("cat")
    task = folder(top, seed=0)
    assert task.classes == ("bird", "cat", "dog")
    assert np.bincount(task.labels).tolist() == [6, 6, 7]
    (record,) = [r for r in caplog.records if "left out" in r.getMessage()]
    assert "5 links left out" in record.getMessage()
    assert walk(top).left_out == (
        "cat/far (a link to a folder that it is in)",
        "cat/up (a link to a folder that it is in)",
        "dog/again/back (the same folder as cat)",
        "dog/more (the same folder as dog/again)",
        "zebra (the same folder as cat)",
    )
    assert [p.relative_to(top).as_posix() for p in files_at(top)] == sorted(task.ids)


def test_names_of_classes_are_compared_in_one_form(tmp_path):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    one = fill(tmp_path / "one", {composed: 6, apart: 4, "tea": 6})
    task = folder(one, seed=0)
    assert task.classes == (composed, "tea")
    assert np.bincount(task.labels).tolist() == [10, 6]
    assert gallery(one).classes == (composed, "tea")
    sizes = {f"train/{apart}": 6, "train/tea": 6, f"test/{composed}": 3, "test/tea": 3}
    task = folder(fill(tmp_path / "two", sizes), seed=0)
    assert task.classes == (composed, "tea") and len(task.splits["test"]) == 6


def copied(top):
    """12 images in train, of which 2 are in test again; and 3 of test's are twice there."""
    fill(top, nested("train", "test"))
    cats, dogs = top / "test" / "cat", top / "test" / "dog"
    for name in ("00", "01"):
        shutil.copy(top / "train" / "cat" / f"{name}.png", cats / f"again{name}.png")
    for name in ("00", "01", "02"):
        shutil.copy(dogs / f"{name}.png", dogs / f"twice{name}.png")
    return top


def test_images_in_two_splits_are_counted(tmp_path, caplog):
    copied(tmp_path)
    folder(tmp_path, seed=0)
    (record,) = caplog.records
    assert "2 of 17 images of test are, byte for byte," in record.getMessage()
    assert "duplicates=drop" in record.getMessage()


def test_copies_are_dropped_on_request(tmp_path, caplog):
    copied(tmp_path)
    task = folder(tmp_path, seed=0, duplicates="drop")
    assert "5 duplicates are left out" in caplog.text and "byte for byte" not in caplog.text
    assert {s: len(rows) for s, rows in task.splits.items()} == {"train": 8, "val": 2, "test": 14}
    assert "test/cat/again00.png" in task.ids and "train/cat/00.png" not in task.ids
    shutil.copy(tmp_path / "train" / "cat" / "05.png", tmp_path / "train" / "dog" / "cat.png")
    ids = folder(tmp_path, seed=0, duplicates="drop").ids
    assert "train/cat/05.png" not in ids and "train/dog/cat.png" not in ids
    with pytest.raises(UserError, match="did you mean 'drop'"):
        folder(tmp_path, seed=0, duplicates="dropp")


def test_copies_are_counted_against_earlier_splits_only():
    rows = {"train": np.array([0, 1]), "val": np.array([2, 3]), "test": np.array([4, 5, 6])}
    found = duplicates.across([b"a", b"a", b"a", b"b", b"b", b"c", b"c"], rows)
    assert found == {"val": 1, "test": 1}


def test_files_left_out_are_said_and_named(given, photos, tmp_path, caplog):
    caplog.set_level("INFO", "tl_jax")
    mine = Path(shutil.copytree(photos, tmp_path / "mine"))
    for number in range(4):
        (mine / "bar" / f"{number}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    settings = given | {"task.path": mine, "plan": "head_only", "train_head.epochs": 1}
    settings |= {"task.on_unreadable": "skip"}
    assert programs.transferred(settings, tmp_path / "run") == 0
    said = [record.getMessage() for record in caplog.records]
    assert f"{mine}: 4 of 64 files are not readable images and are left out: " in "\n".join(said)
    assert "mine: 3 classes (bar, disc, square); train 42, val 9, test 9" in said
    task = json.loads((tmp_path / "run" / "result.json").read_text())["task"]
    assert task["skipped_files"] == [f"bar/{number}.heic" for number in range(4)]
    assert "bar/3.heic" in (tmp_path / "run" / "report.html").read_text()


def test_files_in_no_class_are_said(tmp_path, caplog):
    fill(tmp_path, {"cat": 6, "dog": 6})
    PIL.Image.new("L", (1, 1)).save(tmp_path / "lost.png")
    (tmp_path / "gone").symlink_to("nowhere")  # would be a class
    assert len(folder(tmp_path, seed=0).ids) == 12
    assert "2 files in no class folder are left out: gone, lost.png" in caplog.text


def test_a_task_in_a_line(tmp_path):
    task = folder(fill(tmp_path, {f"c{i:02}": 6 for i in range(20)} | {"a\nb": 6}), seed=0)
    line = log.described(task)
    assert "21 classes (a\\nb, c00, c01, c02, c03, c04, c05, c06 and 13 more); train " in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"name": "folder:/some/where/photos/"}, "photos"),
        ({"name": "folder", "path": "/some/where/photos"}, "photos"),
        ({"name": "/some/where/photos"}, "photos"),
        ({"name": "fashion_mnist:/some/where"}, "fashion_mnist"),
        ({"name": "tfds:imagenet2012:5.0.0", "path": ""}, "tfds:imagenet2012:5.0.0"),
        ({"name": "elpv"}, "elpv"),
    ],
)
def test_a_page_calls_a_folder_by_its_own_name(options, name):
    assert task_name(options) == name


def test_a_folder_task_is_called_as_its_folder(tmp_path, monkeypatch):
    fill(tmp_path / "stored", {"cat": 6, "dog": 6})
    (tmp_path / "pets").symlink_to("stored")
    assert folder(tmp_path / "pets", seed=0).name == "pets"
    monkeypatch.chdir(tmp_path / "stored" / "cat")
    assert folder("..", seed=0).name == "stored"


def test_a_tilde_is_the_home_in_every_place(tmp_path, monkeypatch):
    """A shell leaves it as it is behind `=`, as in --workdir=~/runs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "photos", {"cat": 6, "dog": 6})
    task = load_task("folder:~/photos")
    assert task.folder == str(tmp_path / "photos") and len(load_task("~/photos").ids) == 12
    base = load_base("mobilenet_v1_025", "random:0")
    base.save("~/base.safetensors")
    for given in (("~/base.safetensors",), ("mobilenet_v1_025", "~/base.safetensors")):
        assert load_base(*given).digest
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is a file, or lies in one"):
        base.transfer(task, from_layer=0.5, workdir="~/base.safetensors")
    assert not (tmp_path / "~").exists()
    with pytest.raises(UserError, match="'~nobody-here/x' does not exist"):
        folder("~nobody-here/x", seed=0)
