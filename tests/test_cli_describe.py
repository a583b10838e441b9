"""The tables and pictures of what networks are made of."""

import csv
import importlib.util
import io

import numpy as np
import PIL.Image
import programs
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import cli, describe
from tl_jax import models
from tl_jax.base import file as export
from tl_jax.base.architecture import Architecture
from tl_jax.data.preprocessing import imagenet
from tl_jax.describe import plots, tables


def described(**settings):
    """The exit status with such flags, in this process."""
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**settings):
        return cli.status(describe.main, ["describe"])


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_base_in_a_process_of_its_own():
    ended = programs.run("describe", "--base=alexnet")
    assert ended.returncode == 0 and not ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == "alexnet (torchvision), 224 x 224 x 3"
    fc6 = next(line for line in lines if line.startswith("fc6"))
    cells = "fc6 4096 37,752,832 61.8 % 37.7 – all all lecture 004: 37M"
    assert fc6.split() == cells.split()
    total = next(line for line in lines if line.startswith("total"))
    assert total.split() == "total 61,100,840 100.0 % 714.2".split()
    assert "as lecture 003 (Inception, transfer, multi-task learning) defines it" in " ".join(lines)
    assert max(map(len, lines)) <= tables.WIDTH


def test_a_finished_run_is_a_base_by_its_path(done, monkeypatch, capsys):
    monkeypatch.chdir(done.parent)
    found = []
    for name in (done.name, str(done), str(done / "model.safetensors")):
        assert described(base=name, csv="-") == 0
        found.append(read(capsys.readouterr().out))
    assert found[0] == found[1] == found[2]
    assert found[0][-1]["layer"] == "head" and found[0][-1]["output"].endswith("3")


def test_another_size_changes_the_cost_alone(capsys):
    assert described(base="mobilenet_v1_025", csv="-") == 0
    usual = read(capsys.readouterr().out)
    assert described(base="mobilenet_v1_025", csv="-", input=128) == 0
    small = read(capsys.readouterr().out)
    same = ("layer", "parameters", "statistics", "stride_height", "field_width", "convs_width")
    assert [[r[key] for key in same] for r in usual] == [[r[key] for key in same] for r in small]
    macs = [sum(int(r["macs"]) for r in rows) / 1e6 for rows in (usual, small)]
    assert macs[0] == pytest.approx(41, rel=0.015)  # TF-slim's table
    assert macs[1] == pytest.approx(macs[0] * (128 / 224) ** 2, rel=0.03)  # the head costs the same


def test_weights_bring_their_classes_and_their_cut(tmp_path, capsys):
    architecture = Architecture("alexnet", "torchvision", classes=3, cut="pool2", head="linear")
    preprocessing = imagenet(96, 112)
    variables = architecture.chain().init(0, (1, 96, 96, 3))
    path = tmp_path / "model.safetensors"
    export.save(path, export.Model(architecture, variables, preprocessing))
    assert described(base="alexnet", weights=str(path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "alexnet (torchvision), 96 x 96 x 3"
    names = [line.split()[0] for line in lines[2:8]]
    assert names == ["conv1", "pool1", "conv2", "pool2", "head", "total"]
    assert lines[6].split()[:3] == ["head", "3", f"{192 * 3 + 3}"]
    assert "lecture 004" not in "".join(lines)  # what it says is of the whole net


def test_files_are_written_beside_the_table(tmp_path, capsys):
    table, picture = tmp_path / "vgg.csv", tmp_path / "vgg.png"
    assert described(base="vgg11", csv=str(table), png=str(picture)) == 0
    assert "conv1_1" in capsys.readouterr().out
    written = read(table.read_text())
    assert sum(int(row["parameters"]) for row in written) == 132_863_336
    assert {row["field_height"] for row in written[-3:]} == {"all"}
    with PIL.Image.open(picture) as image:
        image = np.asarray(image.convert("RGB"))
    assert min(image.shape[:2]) > 300 and len(np.unique(image.reshape(-1, 3), axis=0)) > 50


def test_the_zoo(monkeypatch, tmp_path, capsys):
    """All architectures, of three of which shapes are taken; the rest is as these."""
    known = ["alexnet", "resnet18", "resnet50_v2"]
    of = {"image": known, "tokens": ["minilm_l6", "awd_lstm_small"]}
    monkeypatch.setattr(models, "names", lambda reads="image": of[reads])
    table, picture = tmp_path / "zoo.csv", tmp_path / "zoo.png"
    assert described(all=True, csv=str(table), png=str(picture)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["resnet18", "alexnet", "resnet50_v2"]
    assert lines[1].split()[1:] == (
        "torchvision 224 11,689,512 1.814 69.8 % torchvision:IMAGENET1K_V1".split()
    )
    assert lines[3].split()[1:] == "keras 224 25,568,360 3.482 – –".split()
    texts = [line.split() for line in lines if line.startswith(("minilm", "awd"))]
    assert [cells[:4] for cells in texts] == [
        ["awd_lstm_small", "fastai", "400", "4,179,808"],
        ["minilm_l6", "huggingface", "128", "22,565,376"],
    ]
    assert texts[1][5] == "pip:all-minilm-l6-v2"
    written = read(table.read_text())
    assert [row["reads"] for row in written] == ["image"] * 3 + ["tokens"] * 2
    assert written[1]["macs"] == "714188480" and written[1]["top1"] == "56.522"
    assert written[2]["top1"] == written[2]["weights"] == ""
    with PIL.Image.open(picture) as image:
        assert image.size == (1560, 912)


def test_a_base_of_texts_has_no_receptive_fields(tmp_path, capsys):
    picture = tmp_path / "minilm.png"
    assert described(base="minilm_l6", input=64, png=str(picture)) == 0
    title, head, embed, *_ = capsys.readouterr().out.splitlines()
    assert title == "minilm_l6 (huggingface), 64 tokens"
    assert head.split() == "layer output parameters share MMACs".split()
    assert embed.split() == "embed 64x384 11,918,592 52.8 % 0.0".split()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert described(base="minilm_l6", input=640) == 2
    assert "take --input=512 at most" in programs.error_line(capsys.readouterr().err)


def test_labels_in_the_zoos_picture_are_apart():
    """Sixty labels on a random cloud: hardly any two touch, and none leaves the panel."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 8, 60)
    points = [
        (10 ** rng.uniform(7, 10), rng.uniform(50, 85), "mobilenet"[:size]) for size in sizes
    ]
    boxes = []

    def draw(figure):
        axes = figure.subplots()
        axes.set(xscale="log", xlim=(10**6.9, 10**10.1), ylim=(48, 87))
        figure.canvas.draw()
        figure.set_layout_engine("none")
        plots._label(axes, points)
        figure.canvas.draw()
        boxes.extend(text.get_window_extent() for text in axes.texts if text.get_text())
        x = [side for box in boxes for side in box.intervalx]
        assert axes.bbox.x0 - 1 < min(x) and max(x) < axes.bbox.x1 + 1

    plots._png(draw, 6.5, 7.6)
    touching = [a for i, a in enumerate(boxes) if any(a.overlaps(b) for b in boxes[:i])]
    assert len(boxes) == 60 and len(touching) <= 2


def test_the_document_shows_what_the_command_prints():
    ended = programs.run("describe", "--convolutions")
    assert ended.returncode == 0
    document = (programs.ROOT / "docs" / "convolutions.md").read_text()
    assert f"```\n{ended.stdout}```\n" in document


def test_figures_of_the_convolutions(capsys):
    assert described(convolutions=True, csv="-") == 0
    found = read(capsys.readouterr().out)
    assert [int(row["macs"]) for row in found[:2]] == [1_228_800, 53_952]
    assert [int(row["weights"]) for row in found[2:]] == [25, 18, 9, 6, 49, 14]


WRONG = [
    ({}, "describe what? one of --base=vgg16, --all and --convolutions"),
    ({"base": "vgg16", "all": True}, "describe what?"),
    ({"base": "vgg61"}, "unknown base 'vgg61'; did you mean 'vgg19' or 'vgg16'"),
    ({"base": ""}, "unknown base ''"),
    ({"base": "vgg16", "input": 0}, "--input= takes a whole number, at least 1"),
    ({"base": "vgg16", "input": 100_000}, "at most 4096"),
    ({"base": "vgg16", "input": 15}, "inputs of 15 x 15 pixels are too small"),
    ({"base": "vgg16", "input": 31}, "vgg16 needs 32 x 32 at least"),  # it halves five times
    ({"base": "vgg16", "weights": "nowhere.pth"}, "nowhere.pth"),
    ({"all": True, "input": 224}, "--weights and --input belong to --base"),
    ({"convolutions": True, "png": "x.png"}, "there is no picture of --convolutions"),
    ({"convolutions": True, "png": "-"}, "there is no picture of --convolutions"),
]
NOWHERE = [
    ({"csv": "no/such/x.csv"}, "--csv: 'no/such/x.csv' cannot be written: there is no such folder"),
    ({"csv": "/"}, "--csv: '/' cannot be written: it is a folder; name a file"),
    ({"csv": ""}, "--csv= names no file; give one, as in --csv=table.csv"),
    ({"csv": "-", "png": "no/such/x.png"}, "--png: 'no/such/x.png' cannot be written: there is"),
    ({"csv": "-", "png": "."}, "--png: '.' cannot be written: it is a folder; name a file"),
    ({"png": ""}, "--png= names no file; give one, as in --png=table.png"),
    ({"png": "-"}, "--png=- names no file; give one, as in --png=table.png"),
]


@pytest.mark.parametrize(("settings", "error"), WRONG, ids=[error for _, error in WRONG])
def test_what_is_wrong_is_said_in_one_line(settings, error, capsys):
    assert described(**settings) == 2
    assert error in programs.error_line(capsys.readouterr().err)


@pytest.mark.parametrize(("settings", "error"), NOWHERE, ids=[error for _, error in NOWHERE])
def test_places_that_cannot_be_written_are_named_before_anything_else(settings, error, capsys):
    assert described(base="vgg61", **settings) == 2  # nor is that name looked up
    written = capsys.readouterr()
    assert programs.error_line(written.err).startswith(error) and not written.out


def test_a_size_that_is_no_number():
    ended = programs.run("describe", "--base=vgg16", "--input=large")
    assert ended.returncode == 2 and "'large'" in programs.error_line(ended.stderr)


def test_a_picture_without_matplotlib(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert described(base="alexnet", png="x.png") == 2
    error = programs.error_line(capsys.readouterr().err)
    assert error == "--png needs matplotlib, which is missing: pip install tl_jax[report]"
