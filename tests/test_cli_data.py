"""Folders of images as users have them, and datasets that are not there."""

import json
import shutil
import socket

import numpy as np
import PIL.Image
import programs
import pytest

import tl_jax
from tl_jax.errors import UserError


@pytest.fixture
def mine(photos, tmp_path):
    """A copy of the photos, to be spoilt."""
    return shutil.copytree(photos, tmp_path / "mine")


def keep(number):
    """Of each class, only so many images."""

    def spoil(folder):
        for path in folder.glob("*/*"):
            if int(path.stem) >= number:
                path.unlink()

    return spoil


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


SPOILT = {
    "missing": (shutil.rmtree, "'{}' does not exist"),
    "empty": (empty, "'{}' has nothing in it; put the files of each class in a sub-folder"),
    "one class": (
        lambda f: [shutil.rmtree(f / name) for name in ("bar", "disc")],
        "'{}' has one class, 'square'; a task needs at least 2",
    ),
    "two images": (keep(2), "class 'bar' has 2 examples, but 3 are needed"),
    "an empty class": (
        lambda f: [path.unlink() for path in (f / "disc").iterdir()],
        "class 'disc' has no readable image in '{}'",
    ),
    "no sub-folders": (
        lambda f: [(empty(f), PIL.Image.new("L", (9, 9)).save(f / "a.png"))],
        "'{}' has files, but no sub-folders",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_folder_that_is_no_task(given, mine, tmp_path, capsys, case):
    spoil, error = SPOILT[case]
    spoil(mine)
    assert programs.transferred(given | {"task.path": mine}, tmp_path / "run") == 2
    assert error.format(mine) in programs.error_line(capsys.readouterr().err)


@pytest.mark.parametrize("place", ["workdir", "cache"])
@pytest.mark.parametrize("below", ["", "runs/a", "link"])
def test_nothing_is_written_among_the_images(given, mine, tmp_path, capsys, place, below):
    (tmp_path / "link").symlink_to(mine)
    inside = tmp_path / "link" if below == "link" else mine / below
    before = programs.contents(mine)
    settings = given | {"task.path": mine} | ({"cache": inside} if place == "cache" else {})
    workdir = inside if place == "workdir" else tmp_path / "run"
    assert programs.transferred(settings, workdir) == 2
    said = programs.error_line(capsys.readouterr().err)
    flag = {"workdir": "--workdir", "cache": "--config.cache"}[place]
    assert said.startswith(f"{flag}={inside} lies in the folder of the images, {mine}")
    assert programs.contents(mine) == before and not (mine / "runs").exists()


def test_a_hidden_folder_among_the_images_is_no_class(given, mine):
    settings = given | {"task.path": mine, "cache": mine / ".cache", "plan": "head_only"}
    for _ in range(2):
        assert programs.transferred(settings, mine / ".runs") == 0


def test_from_python_as_well(mine, tmp_path):
    task, base = tl_jax.load_task(mine), tl_jax.load_base("mobilenet_v1_025", "random:0")
    for place in ("workdir", "cache"):
        with pytest.raises(UserError, match=f"{place}=.*/runs lies in the folder of the images"):
            base.transfer(task, from_layer=0.5, **{place: mine / "runs"})


@pytest.mark.parametrize("below", ["", "/run"])
def test_a_file_in_the_place_of_the_results(given, tmp_path, capsys, below):
    (tmp_path / "file").touch()
    assert programs.transferred(given, tmp_path / f"file{below}") == 2
    assert "is a file, or lies in one" in programs.error_line(capsys.readouterr().err)


def test_no_folder_given(given, tmp_path, capsys):
    assert programs.transferred(given | {"task.path": ""}, tmp_path) == 2
    error = programs.error_line(capsys.readouterr().err)
    assert "the task 'folder' needs a path" in error and "--config.task.path=" in error


def test_unreadable_files_are_named_or_left_out(given, mine, tmp_path, capsys):
    whole = (mine / "bar" / "1.png").read_bytes()
    (mine / "bar" / "1.png").write_bytes(whole[: len(whole) // 2])
    (mine / "disc" / "2.jpg").write_bytes(b"")
    (mine / "square" / "3.png").write_text("to be taken again\n")
    settings = given | {"task.path": mine, "plan": "head_only", "train_head.epochs": 1}
    assert programs.transferred(settings, tmp_path / "run") == 2
    error = programs.error_line(capsys.readouterr().err)
    assert "3 of 60 files" in error and "on_unreadable" in error
    assert all(name in error for name in ("bar/1.png", "disc/2.jpg", "square/3.png"))

    assert programs.transferred(settings | {"task.on_unreadable": "skip"}, tmp_path / "run") == 0
    task = json.loads((tmp_path / "run" / "result.json").read_text())["task"]
    assert task["skipped"] == 3 and sum(task["sizes"].values()) == 57


def test_images_of_every_kind_train(given, tmp_path):
    """CMYK, transparent, 16-bit, palette, animated, one pixel, thin, grey, upside down by EXIF."""
    folder, noise = tmp_path / "kinds", np.random.default_rng(0).integers(0, 256, (20, 30, 4))
    rgba = PIL.Image.fromarray(noise.astype(np.uint8), "RGBA")
    rotated = PIL.Image.Exif()
    rotated[274] = 3  # orientation
    for name in ("one", "other"):
        (folder / name).mkdir(parents=True)
        rgba.convert("CMYK").save(folder / name / "cmyk.jpg")
        rgba.save(folder / name / "rgba.png")
        PIL.Image.fromarray((noise[..., 0] * 257).astype(np.uint16)).save(folder / name / "16.png")
        rgba.convert("RGB").quantize(9).save(folder / name / "palette.png", transparency=3)
        frames = [rgba.convert("P"), rgba.rotate(90).convert("P")]
        frames[0].save(folder / name / "two.gif", save_all=True, append_images=frames[1:])
        rgba.resize((1, 1)).save(folder / name / "pixel.png")
        rgba.resize((300, 1)).save(folder / name / "thin.png")
        rgba.convert("1").save(folder / name / "bits.tif")
        rgba.convert("RGB").save(folder / name / "exif.webp", exif=rotated)
    settings = {"task.path": folder, "batch_size": 4, "plan": "head_only"}
    assert programs.transferred(given | settings, tmp_path / "run") == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert sum(result["task"]["sizes"].values()) == 18 and result["task"]["skipped"] == 0
    assert 0 < result["test"]["loss"] < 10


def test_a_dataset_that_is_not_prepared(given, tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host))
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    options = {"task.path": "", "task.data_dir": tmp_path / "tfds"}
    for name, error in [
        ("mnist", f"'mnist' is not prepared in '{tmp_path}/tfds'"),
        ("mnits", "unknown TFDS dataset 'mnits'; did you mean 'mnist"),
    ]:
        settings = given | options | {"task.name": f"tfds:{name}"}
        assert programs.transferred(settings, tmp_path / name) == 2
        assert error in programs.error_line(capsys.readouterr().err)
    assert not asked
