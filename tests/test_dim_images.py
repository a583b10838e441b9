"""16-bit images that use a small part of their range: levels are kept, in prediction too."""

import dataclasses
import functools
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

import tl_jax
from tl_jax.base.load import load_base
from tl_jax.base.predict import of_files
from tl_jax.data.images import open_image
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


def brighten(top, files, where):
    """These pixels of these files below `top` become 65535."""
    for path in top.glob(files):
        pixels = np.array(PIL.Image.open(path))
        pixels[where] = 65535
        PIL.Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("files", ["*/*.png", "a/00.png"])
def test_a_hot_pixel_is_clipped_and_costs_no_shades(tmp_path, caplog, files):
    caplog.set_level("INFO", "tl_jax")
    cold = folder(camera(tmp_path / "cold"), seed=0)
    brighten(camera(tmp_path / "hot"), files, (3, 3))
    task = folder(tmp_path / "hot", seed=0)
    assert task.grey_range == cold.grey_range == (100, 700)
    assert "beyond, to 100 and 65535, is rare and clipped" in caplog.text
    assert "shades" not in caplog.text
    seen, wanted = np.array(task.image(0)), np.array(cold.image(0))
    assert seen[3, 3] == 255
    seen[3, 3] = wanted[3, 3]
    np.testing.assert_array_equal(seen, wanted)


def test_an_image_that_is_bright_all_over_loses_nothing_and_what_it_costs_is_said(tmp_path, caplog):
    brighten(camera(tmp_path / "hot"), "a/00.png", np.s_[:8])
    assert folder(tmp_path / "hot", seed=0).grey_range is None
    assert "the 24 images of 16 bits a channel keep 3 of 256 shades" in caplog.text


def deep_png(path, pixels):
    """By hand, as Pillow writes no colours of 16 bits: rows are filtered by their left neighbour
    (type 1 of the PNG specification, 9.2).
    """

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    height, width, channels = pixels.shape
    rows = np.frombuffer(pixels.astype(">u2").tobytes(), np.uint8).reshape(height, width, -1)
    rows = np.diff(rows, axis=1, prepend=np.uint8(0))
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    packed = zlib.compress(b"".join(b"\1" + row.tobytes() for row in rows))
    content = chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def deep_tiff(path, pixels, order="<", compression=1, orientation=1):
    """One strip, by hand; compression 8 is zlib's."""
    height, width, channels = pixels.shape
    strip = pixels.astype(f"{order}u2").tobytes()
    strip = zlib.compress(strip) if compression == 8 else strip
    tags = {256: width, 257: height, 258: 0, 259: compression, 262: 2, 273: 0, 274: orientation}
    tags |= {277: channels, 278: height, 279: len(strip)} | ({338: 2} if channels == 4 else {})
    after = 8 + 2 + 12 * len(tags) + 4
    tags[273] = after + 2 * channels
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items()]
    entries[2] = struct.pack(f"{order}HHII", 258, 3, channels, after)
    head = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(tags))
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    path.write_bytes(head + b"".join(entries) + b"\0\0\0\0" + bits + strip)


KINDS = {
    "png": deep_png,
    "tif": deep_tiff,
    "big.tif": functools.partial(deep_tiff, order=">"),
    "zip.tif": functools.partial(deep_tiff, compression=8),
}


@pytest.mark.parametrize("kind", KINDS)
def test_dim_colours_keep_their_levels(tmp_path, caplog, kind):
    caplog.set_level("INFO", "tl_jax")
    rng, stored = np.random.default_rng(0), {}
    for number in range(8):
        own = stored[f"{'ab'[number % 2]}/{number}.{kind}"] = rng.integers(0, 1024, (20, 30, 3))
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        own[0, 0] = (0, 1023, 0)
        if number == 1:
            own[5, 5] = 65535
        KINDS[kind](tmp_path / "ab"[number % 2] / f"{number}.{kind}", own)
    task = folder(tmp_path, seed=0)
    assert task.grey_range == (0, 1023) and "shades" not in caplog.text
    for number, name in enumerate(task.ids):
        want = np.clip(stored[name] * 255 / 1023, 0, 255)
        np.testing.assert_allclose(task.image(number), want, atol=0.51)
    np.testing.assert_array_equal(open_image(tmp_path / task.ids[0]), stored[task.ids[0]] >> 8)


@pytest.mark.parametrize("write", [deep_png, deep_tiff])
def test_dim_colours_with_alpha_lie_on_white(tmp_path, write):
    pixels = np.full((1, 3, 4), 500)
    pixels[..., 3] = (0, 51 * 257, 65535)
    write(tmp_path / "alpha", pixels)
    seen = np.asarray(open_image(tmp_path / "alpha", (0, 1000)))
    np.testing.assert_allclose(seen[0, :, 0], [255, 255 - 0.2 * 127.5, 127.5], atol=1)


def test_dim_colours_are_turned_as_their_file_says(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3))
    deep_tiff(tmp_path / "turned.tif", pixels, orientation=6)  # the first row is the right side
    seen = np.asarray(open_image(tmp_path / "turned.tif", (0, 255)))
    np.testing.assert_array_equal(seen, np.rot90(pixels, -1))


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
    np.testing.assert_array_equal(np.stack([row for *_, row in of_files(kept, files)]), want)
    np.testing.assert_array_equal(kept.predict(files), want)
    np.testing.assert_array_equal(kept.predict([PIL.Image.open(file) for file in files]), want)
    other = dataclasses.replace(task, grey_range=None)
    again = tl_jax.transfer(kept, other, cut="stem", workdir=tmp_path / "again", **settings)
    assert again.base.preprocessing.grey_range is None


@pytest.mark.parametrize("grey_range", [(5, 5), (9, 2), (-1, 2), (0, 65536)])
def test_a_range_that_is_none_is_refused(grey_range):
    with pytest.raises(UserError, match="grey_range rises"):
        Preprocessing(8, grey_range=grey_range)
