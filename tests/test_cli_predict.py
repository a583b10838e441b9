"""Predictions of a finished run."""

import json
import shutil

import numpy as np
import PIL.Image
import programs
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import cli, predict
from tl_jax.base.load import load_base
from tl_jax.base.predict import BATCH
from tl_jax.data.tasks import load_task


def predicted(run, *images, as_json=False):
    """The exit status of such a prediction in this process."""
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(run=str(run), json=as_json):
        return cli.status(predict.main, ["predict", *map(str, images)])


@pytest.fixture
def mixed(photos, tmp_path):
    """Three images in a folder of folders, two files that are none, and a hidden one."""
    folder = tmp_path / "mixed"
    (folder / "deeper").mkdir(parents=True)
    shutil.copy(photos / "bar" / "0.jpg", folder / "b.jpg")
    shutil.copy(photos / "disc" / "1.png", folder / "deeper" / "d.png")
    shutil.copy(photos / "square" / "1.png", folder / "new\nline.png")
    (folder / "broken.png").write_bytes((photos / "disc" / "3.png").read_bytes()[:60])
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden").touch()
    return folder


def test_a_file_and_a_folder(done, photos, mixed):
    ended = programs.run("predict", photos / "bar" / "2.jpg", f"--run={done}", mixed)
    assert ended.returncode == 2
    rows = [line.split("\t") for line in ended.stdout.splitlines()]
    names = [f"{mixed}/{name}" for name in ("b.jpg", "deeper/d.png", "new\\nline.png")]
    assert [path for path, _, _ in rows] == [f"{photos}/bar/2.jpg", *names]
    for _, name, probability in rows:
        assert name in ("bar", "disc", "square") and 1 / 3 <= float(probability) <= 1
    errors = ended.stderr.splitlines()
    assert len(errors) == 2 and all(line.startswith("error: ") for line in errors)
    assert f"'{mixed}/broken.png'" in errors[0] and f"'{mixed}/notes.txt'" in errors[1]


def test_all_is_well(done, photos, capsys):
    assert predicted(done, photos / "bar" / "2.jpg") == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1 and not captured.err


def test_the_file_of_a_run_is_as_good_as_its_folder(done, photos, capsys):
    rows = []
    for run in (done, done / "model.safetensors"):
        assert predicted(run, photos / "bar" / "2.jpg") == 0
        rows.append(capsys.readouterr().out)
    assert rows[0] == rows[1]


def test_an_empty_argument_is_not_the_working_folder(done, photos, monkeypatch, capsys):
    """As a shell makes of "$PHOTO" where nothing was set."""
    monkeypatch.chdir(photos)
    assert predicted(done, "") == 2
    captured = capsys.readouterr()
    assert "which images or texts?" in programs.error_line(captured.err) and not captured.out


def test_a_run_that_is_not_finished_is_said(stopped, photos, capsys):
    assert predicted(stopped, photos) == 2
    said = programs.error_line(capsys.readouterr().err)
    assert said.endswith("/model.safetensors does not exist; a run writes it at its end")


def test_probabilities_are_the_runs_own(done, photos, capsys):
    """The test loss and confusion matrix of the result, from predictions on the same files."""
    options = {"path": photos, "val": 0.15, "test": 0.15}
    task = load_task("folder", seed=0, **options)
    rows = task.splits["test"]
    files = [photos / task.ids[row] for row in rows]
    assert predicted(done, *files, as_json=True) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["path"] for line in lines] == list(map(str, files))
    for line in lines:
        best = max(line["probabilities"], key=line["probabilities"].get)
        assert (line["class"], line["probability"]) == (best, line["probabilities"][best])
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    probs = np.array([[line["probabilities"][name] for name in task.classes] for line in lines])
    labels, test = task.labels[rows], programs.found(done)[0]["test"]
    loss = -np.log(probs[np.arange(len(rows)), labels]).mean()
    assert loss == pytest.approx(test["loss"], rel=1e-4)
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (labels, probs.argmax(1)), 1)
    assert confusion.tolist() == test["confusion"]


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
def test_more_images_than_a_batch_of_another_kind(done, tmp_path, capsys, mode):
    for number in range(BATCH + 1):
        PIL.Image.new(mode, (9, 12)).save(tmp_path / f"{number:02}.tif")
    assert predicted(done, tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == BATCH + 1
    assert len({line.split("\t", 1)[1] for line in lines}) == 1  # all are the same image


def test_a_finished_run_is_a_base_for_the_next(done):
    base = load_base("efficientnet_lite0", done / "model.safetensors")
    assert base.architecture.cut == "stage2_block1" and base.architecture.classes == 3
    assert base.with_head(5, cut="stem").layers == ("stem", "head")


def test_nothing_to_do(done, photos, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for run, images, error in [
        (done, [], "which run, and which images or texts?"),
        (done, [tmp_path / "no.png"], f"no such image or folder: {tmp_path}/no.png"),
        (done, [tmp_path / "empty"], f"no images in {tmp_path}/empty"),
        (tmp_path, [photos], f"no model there: {tmp_path}/model.safetensors"),
    ]:
        assert predicted(run, *images) == 2
        captured = capsys.readouterr()
        assert error in programs.error_line(captured.err) and not captured.out


@pytest.mark.parametrize("damage", [
    lambda content: b"",
    lambda content: content[:-1],
    lambda content: content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
])  # fmt: skip
def test_a_damaged_model(done, photos, tmp_path, capsys, damage):
    content = (done / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(damage(content))
    assert predicted(tmp_path, photos / "bar") == 2
    captured = capsys.readouterr()
    assert f"{tmp_path}/model.safetensors is damaged" in programs.error_line(captured.err)
    assert not captured.out


def test_a_reader_that_has_seen_enough(done, photos):
    process = programs.start("predict", f"--run={done}", photos)
    process.stdout.close()
    process.wait(timeout=300)
    with process.stderr as err:
        assert (process.returncode, err.read()) == (141, "")
