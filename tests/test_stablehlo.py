"""A base as a program that JAX alone reads: the same answers in a process without this library."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import texts
from absl import flags
from absl.testing import flagsaver

from experiments import cli, export
from tl_jax.base.load import load_base
from tl_jax.errors import UserError
from tl_jax.serving import stablehlo

# Any number of rows is given, and one.
READER = """
import sys, json, jax, jax.export, numpy
path, rows, answers = sys.argv[1:]
program = jax.export.deserialize(bytearray(open(path, "rb").read()))
rows = numpy.load(rows)
assert "tl_jax" not in sys.modules
found, one = program.call(rows), program.call(rows[:1])
numpy.savez(answers, **found, one=one["logits"])
"""


def read_back(path, rows) -> dict[str, np.ndarray]:
    """What the program at the path answers in a process of its own, elsewhere."""
    folder = path.parent
    np.save(folder / "rows.npy", rows)
    arguments = [str(path), str(folder / "rows.npy"), str(folder / "answers.npz")]
    subprocess.run([sys.executable, "-c", READER, *arguments], check=True, cwd=folder)
    return dict(np.load(folder / "answers.npz"))


@pytest.fixture(scope="module")
def images():
    """A small classifier of images, with views that are turned and enlarged, and five images."""
    base = load_base("resnet18", "random:0").resized(32).with_head(3, cut="stage1_block1")
    base = dataclasses.replace(base, classes=("bar", "Scheibe", "方"), views="crops")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 40, 50, 3), dtype=np.uint8)
    return base, list(pixels)


def test_an_image_classifier_answers_as_the_base_does(images, tmp_path):
    base, pixels = images
    path = stablehlo.export(base, tmp_path / "it.stablehlo")
    rows = base.preprocessing.read(pixels)
    answers = read_back(path, rows)
    logits = np.asarray(base(base.preprocessing.normalise(rows)))
    np.testing.assert_allclose(answers["logits"], logits, atol=1e-4 * np.abs(logits).max())
    np.testing.assert_allclose(answers["one"], answers["logits"][:1], atol=1e-5)
    np.testing.assert_allclose(answers["probabilities"], base.predict(pixels), atol=1e-5)
    about = json.loads((tmp_path / "it.json").read_text())
    assert about["classes"] == list(base.classes)
    assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert about["input"]["shape"] == "(N, 32, 32, 3)" and about["input"]["dtype"] == "uint8"
    assert about["input"]["mean"] == list(base.preprocessing.mean)


@pytest.mark.slow
def test_a_classifier_of_texts_takes_texts_of_any_length(tmp_path):
    import tokenizers

    base = texts.base().with_head(2)
    path = stablehlo.export(base, tmp_path / "it.stablehlo")
    said = ["good", "a good and a bad film"]
    answers = read_back(path, base.preprocessing.read(said))
    np.testing.assert_allclose(answers["probabilities"], base.predict(said), atol=1e-5)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "it.tokenizer.json"))
    assert tokenizer.get_vocab_size() == len(base.preprocessing.words())


def test_what_cannot_be_exported_is_one_line(images, tmp_path):
    base, _ = images
    for other, path, message in (
        (base.cut("stem"), tmp_path / "it.stablehlo", "it has no classifier"),
        (base, tmp_path / "it.bin", "name a file .stablehlo"),
        (base, tmp_path / "no" / "it.stablehlo", "in a folder that exists"),
    ):
        with pytest.raises(UserError, match=message):
            stablehlo.export(other, path)
    assert not list(tmp_path.iterdir())


def exported(**given) -> int:
    """The exit status of the program in this process."""
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**given):
        return cli.status(export.main, ["export"])


def test_the_program(images, tmp_path, capsys):
    run, out = tmp_path / "model.safetensors", tmp_path / "it.stablehlo"
    images[0].save(run)
    assert exported(run=str(run), out=str(out)) == 0
    assert capsys.readouterr().out.split()[0] == str(out) and out.stat().st_size > 1e4
    assert exported(run=str(run), out=str(out), names="torchvision:IMAGENET1K_V1") == 2
    assert "it is a file .safetensors" in capsys.readouterr().err
    theirs = tmp_path / "no.pth"
    assert exported(run=str(run), out=str(tmp_path / "it.safetensors"), names=str(theirs)) == 2
    assert f"{theirs}: does not exist" in capsys.readouterr().err
    assert exported(run=None, out=str(out)) == 2
    assert "which run, and where to?" in capsys.readouterr().err
