"""A look at a folder as a user meets it: what is wrong with the data is named, in one command."""

import json
import shutil

import numpy as np
import PIL.Image
import programs
import pytest
from absl import flags
from absl.testing import flagsaver
from test_report import Page

from experiments import audit, cli


@pytest.fixture
def audited(tmp_path, monkeypatch):
    """The exit status of such a look in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, **settings) -> int:
        flags.FLAGS.mark_as_parsed()
        given = {k: str(v) if k in ("workdir", "source") else v for k, v in settings.items()}
        with flagsaver.flagsaver(**given):
            return cli.status(audit.main, ["audit", *map(str, arguments)])

    return run


@pytest.fixture
def spoilt(photos, tmp_path):
    """The photos with a copy saved anew, the same pixels twice, and two files of another kind."""
    folder = tmp_path / "spoilt"
    shutil.copytree(photos, folder)
    first = PIL.Image.open(folder / "disc" / "3.png")
    first.point(lambda value: int(0.9 * value + 10)).save(folder / "disc" / "darker.png")
    shutil.copy(folder / "bar" / "1.png", folder / "square" / "bar.png")
    (folder / "bar" / "notes.txt").write_text("no image")
    return folder


def test_a_folder_is_described_and_its_copies_are_named(audited, spoilt, tmp_path, capsys):
    assert audited(spoilt, workdir=tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "62 images in 3 classes of 20 to 21" in out
    assert "Unreadable files: 1 (bar/notes.txt)" in out
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["kinds"] == {"PNG RGB": 32, "JPEG RGB": 30}
    assert result["width"] == result["height"] == [24] * 5
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert "bar/notes.txt" in page.text and "Labels" not in page.text
    head, *rows = [
        line.split(",") for line in (tmp_path / "out" / "copies.csv").read_text().splitlines()
    ]
    named = {(row[1], row[4]): dict(zip(head, row, strict=True)) for row in rows}
    assert named["disc/3.png", "disc/darker.png"]["same pixels"] == "no"
    same = named["bar/1.png", "square/bar.png"]
    assert (same["same pixels"], same["class"], same["its class"]) == ("yes", "bar", "square")


def test_with_a_base_labels_are_judged_and_a_source_is_compared(audited, photos, spoilt, capsys):
    given = {"base": "resnet18", "weights": "random:0", "input": 32, "source": photos}
    assert audited(spoilt, workdir="out", json=True, **given) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert "report: out/report.html" in captured.err
    suits = result["suits"]["task"]
    assert suits["layers"] == result["suits"]["source"]["layers"] and suits["layers"][0] == "stem"
    assert 0 <= suits["gap"] <= 1 and np.isfinite(suits["logme"])
    assert result["distance"]["a_distance"] < 0.7  # all but two images are the same
    doubtful = result["doubts"]
    off_diagonal = np.sum(doubtful["counts"]) - np.trace(doubtful["counts"])
    assert len(doubtful["examples"]) == off_diagonal
    assert audited(spoilt, workdir="out", **given) == 0  # the same command shows it again
    out = capsys.readouterr().out
    assert "done before" in out and f"Doubtful labels: {off_diagonal}." in out


def test_images_that_are_all_alike_are_said_to_be_copies(audited, tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / "flat" / name).mkdir(parents=True)
        for i in range(5):
            PIL.Image.new("L", (9, 9), 80).save(tmp_path / "flat" / name / f"{i}.png")
    assert audited(tmp_path / "flat") == 0
    out = capsys.readouterr().out
    assert "measured on 2 of 2 in val and 2 of 2 in test is memory" in out
    assert "report: runs/audit_flat/report.html" in out
    (tmp_path / "flat").rename(tmp_path / "other")
    assert audited(tmp_path / "other", workdir="runs/audit_flat") == 2
    assert "take another folder (--workdir=)" in programs.error_line(capsys.readouterr().err)


def folder(top, sizes, *, broken=False):
    for name, size in sizes.items():
        (top / name).mkdir(parents=True)
        for i in range(size):
            PIL.Image.new("L", (9, 9), 40 * i).save(top / name / f"{i}.png")
            if broken:
                (top / name / f"{i}.png").write_bytes(b"no image")
    return top


@pytest.mark.parametrize(
    ("make", "settings", "why"),
    [
        (lambda top: (), {}, "which images? python -m experiments.audit photos/"),
        (lambda top: ("/nowhere",), {}, "'/nowhere' does not exist; give a folder"),
        (lambda top: (folder(top, {"a": 5}),), {}, "has one class, 'a'"),
        (lambda top: (folder(top, {"a": 2, "b": 1}),), {}, "has 1 examples, but 3 are needed"),
        (lambda top: (folder(top, {"a": 5, "b": 5}, broken=True),), {}, "no readable image"),
        (lambda top: ("digits",), {"source": "digits"}, "--source needs a base"),
        (lambda top: ("digits",), {"base": "resnet81"}, "did you mean"),
        (lambda top: ("digits",), {"base": "resnet18", "input": 0}, "--input="),
    ],
)
def test_what_is_wrong_is_said_in_a_line(audited, tmp_path, capsys, make, settings, why):
    assert audited(*make(tmp_path / "top"), **settings) == 2
    captured = capsys.readouterr()
    assert why in programs.error_line(captured.err) and not captured.out
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("result.json"))
