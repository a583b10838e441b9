"""16-bit images that use a small part of their range: levels are kept, in prediction too."""

import dataclasses
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

import tl_jax
from tl_jax.base.load import load_base
from tl_jax.base.predict import of_files
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.data.tasks.folder import folder
from tl_jax.errors import UserError


def camera(top, scale=1, offset=0, deep=np.uint16):
    """Noise in which the classes differ by 40 levels of 650."""
    rng = np.random.default_rng(0)
    for name, more in (("a", 0), ("b", 40)):
        (top / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(100, 701 - 40, (32, 32)) + more
            pixels = (pixels * scale + offset).astype(deep)
            PIL.Image.fromarray(pixels).save(top / name / f"{number:02}.png")
    return top


def test_dim_images_keep_their_levels(tmp_path, caplog):
    caplog.set_level("INFO", "tl_jax")
    task = folder(camera(tmp_path / "dim"), seed=0)
    assert task.grey_range == (100, 700) and "shades" not in caplog.text
    assert "use those from 100 to 700" in caplog.text
    seen = np.stack([np.asarray(task.image(i)) for i in range(len(task.ids))])
    assert (seen.min(), seen.max(), len(np.unique(seen))) == (0, 255, 256)
    stored = np.asarray(PIL.Image.open(tmp_path / "dim" / task.ids[0])).astype(int)
    np.testing.assert_allclose(seen[0], (stored - 100) * 255 / 600, atol=0.51)


def test_levels_that_a_bright_pixel_costs_are_said(tmp_path, caplog):
    camera(tmp_path / "hot")
    for path in (tmp_path / "hot").glob("*/*.png"):
        pixels = np.array(PIL.Image.open(path))
        pixels[3, 3] = 65535
        PIL.Image.fromarray(pixels).save(path)
    assert folder(tmp_path / "hot", seed=0).grey_range is None
    assert "the 24 images of 16 bits a channel keep 3 of 256 shades" in caplog.text


def test_dim_colours_are_said(tmp_path, caplog):
    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    rng = np.random.default_rng(0)
    for number in range(8):
        rows = rng.integers(0, 1024, (40, 40 * 3)).astype(">u2")  # of 10 bits
        header = struct.pack(">IIBBBBB", 40, 40, 16, 2, 0, 0, 0)
        packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
        content = chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[number % 2] / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert folder(tmp_path, seed=0).grey_range is None
    assert "8 images of 16 bits a channel keep 4 of 256 shades" in caplog.text


@pytest.mark.parametrize(("scale", "offset"), [(90, 0), (30, 10000)])
def test_images_that_use_their_range_are_scaled_as_ever(tmp_path, scale, offset):
    task = folder(camera(tmp_path / "bright", scale, offset), seed=0)
    assert task.grey_range is None
    stored = np.asarray(PIL.Image.open(tmp_path / "bright" / task.ids[0])).astype(int)
    np.testing.assert_array_equal(task.image(0), (stored + 128) // 257)


def test_the_range_goes_with_the_base(tmp_path):
    top = camera(tmp_path / "dim")
    task = folder(top, seed=0)
    settings = {"plan": "head_only", "train_head": {"epochs": 1}, "batch_size": 8, "cache": ""}
    base = load_base("resnet18", "random:0").resized(32)
    run = tl_jax.transfer(base, task, cut="stem", workdir=tmp_path / "run", **settings)
    kept = load_base(tmp_path / "run")
    assert run.base.preprocessing.grey_range == kept.preprocessing.grey_range == (100, 700)
    assert base.preprocessing.grey_range is None
    files = [top / id_ for id_ in task.ids[:3]]
    want = kept.predict([task.image(i) for i in range(3)])
    np.testing.assert_array_equal(np.stack([row for _, row in of_files(kept, files)]), want)
    np.testing.assert_array_equal(kept.predict(files), want)
    np.testing.assert_array_equal(kept.predict([PIL.Image.open(file) for file in files]), want)
    other = dataclasses.replace(task, grey_range=None)
    again = tl_jax.transfer(kept, other, cut="stem", workdir=tmp_path / "again", **settings)
    assert again.base.preprocessing.grey_range is None


@pytest.mark.parametrize("grey_range", [(5, 5), (9, 2), (-1, 2), (0, 65536)])
def test_a_range_that_is_none_is_refused(grey_range):
    with pytest.raises(UserError, match="grey_range rises"):
        Preprocessing(8, grey_range=grey_range)
