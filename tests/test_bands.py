"""Images of other bands than grey and RGB, from arrays and TIFFs to a finished run."""

import concurrent.futures
import gc
import io
import sys
import zlib

import jax
import numpy as np
import PIL.Image
import pytest
import tifffile

import tl_jax
from tl_jax.base.predict import of_files
from tl_jax.data import augment
from tl_jax.data import bands as files_of_bands
from tl_jax.data.images import file_kind, open_image
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.data.tasks import load_task
from tl_jax.data.tasks.folder import folder, gallery
from tl_jax.engine import prefix
from tl_jax.errors import UserError


def noise(shape, seed=0, most=256, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, most, shape).astype(dtype)


def stripes(number, bands=4, side=40):
    """Noise in which the last band of every other image is brighter."""
    pixels = noise((side, side + 8, bands), number, 100)
    pixels[..., -1] += 150 * (number % 2)
    return pixels


def write(top, save=np.save, ending="npy", count=24, image=stripes):
    """A folder of two classes; `save(path, pixels)`."""
    for number in range(count):
        place = top / "ab"[number % 2] / f"{number:02}.{ending}"
        place.parent.mkdir(parents=True, exist_ok=True)
        save(place, image(number))
    return top


def as_png(path, pixels):
    PIL.Image.fromarray(pixels).save(path)


def test_threads_do_not_disturb_each_other_where_garbage_is_collected():
    """As they did in Python 3.11, whose parser then took an array for a damaged file."""
    file = io.BytesIO()
    np.save(file, stripes(0))

    def again(_):
        for _ in range(1000):
            assert files_of_bands.header(io.BytesIO(file.getvalue())).kind == "NPY"

    before, often, called = gc.get_threshold(), sys.getswitchinterval(), lambda *_: sum(range(50))
    gc.callbacks.append(called)
    gc.set_threshold(20)
    sys.setswitchinterval(1e-6)
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            list(threads.map(again, range(8)))
    finally:
        gc.callbacks.remove(called)
        gc.set_threshold(*before)
        sys.setswitchinterval(often)


@pytest.mark.parametrize("bands", [1, 3])
def test_grey_and_rgb_arrays_are_the_same_images_as_png(tmp_path, bands):
    def image(number):
        return stripes(number, bands)[..., 0 if bands == 1 else slice(None)]

    arrays = folder(write(tmp_path / "arrays", image=image), seed=0)
    files = folder(write(tmp_path / "files", as_png, "png", image=image), seed=0)
    assert arrays.channels == files.channels == 3
    for fit in (Preprocessing(24), Preprocessing(32, crop_first=True, interpolation="bicubic")):
        ours, theirs = (prefix.decoded(task, fit).images(np.arange(24)) for task in (arrays, files))
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
def test_bands_are_fitted_as_those_of_rgb(interpolation):
    pixels = noise((50, 70, 3))
    for fit in (
        Preprocessing(24, interpolation=interpolation),
        Preprocessing(64, interpolation=interpolation, crop_first=True),
    ):
        np.testing.assert_array_equal(fit.fit(pixels), fit.fit(PIL.Image.fromarray(pixels)))


def test_a_stem_for_four_bands_sees_four_copies_of_grey_as_grey(tmp_path):
    base = tl_jax.load_base("efficientnet_lite0", "random:0").resized(32).cut("stem")
    grey = noise((40, 48))
    as_png(tmp_path / "grey.png", grey)
    np.save(tmp_path / "four.npy", np.dstack([grey] * 4))
    four = base.with_channels(4)
    ours, theirs = (
        one(one.of_images.normalise(one.of_images.read(tmp_path / name)))
        for one, name in ((four, "four.npy"), (base, "grey.png"))
    )
    np.testing.assert_allclose(ours, theirs, 1e-4, 1e-5)


TIFFS = {
    "contiguous": {"photometric": "rgb", "extrasamples": ["unspecified"]},
    "planes": {"photometric": "minisblack", "planarconfig": "separate"},
    "deflated": {"photometric": "minisblack", "compression": "zlib", "predictor": True},
    "tiled": {"photometric": "minisblack", "tile": (16, 32), "planarconfig": "contig"},
    "big end first": {"photometric": "minisblack", "byteorder": ">"},
    "long": {"photometric": "minisblack", "bigtiff": True, "byteorder": "<"},
}


@pytest.mark.parametrize("how", TIFFS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_bands_of_a_tiff_are_those_of_the_array(tmp_path, how, dtype):
    pixels = noise((40, 50, 4), dtype=dtype, most=np.iinfo(dtype).max)
    given = {"planarconfig": "contig", **TIFFS[how]}
    stored = np.moveaxis(pixels, -1, 0) if given["planarconfig"] == "separate" else pixels
    tifffile.imwrite(tmp_path / "x.tif", stored, **given)
    np.save(tmp_path / "x.npy", pixels)
    np.save(tmp_path / "columns.npy", np.asfortranarray(pixels))
    seen = pixels if dtype == np.uint8 else pixels >> 8
    np.save(tmp_path / "big.npy", pixels.astype(pixels.dtype.newbyteorder(">")))
    for name in ("x.tif", "x.npy", "columns.npy", "big.npy"):
        np.testing.assert_array_equal(open_image(tmp_path / name), seen)
    assert file_kind(tmp_path / "x.tif") == ("TIFF", "4 bands")
    assert file_kind(tmp_path / "x.npy") == ("NPY", "4 bands")
    (tmp_path / "x.tif").write_bytes((tmp_path / "x.tif").read_bytes()[:-300])
    assert "x.tif': " in line(lambda: open_image(tmp_path / "x.tif"))


def line(refused):
    with pytest.raises(UserError) as caught:
        refused()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_tiff_of_bands_asks_for_the_package_that_reads_it(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "x.tif", noise((8, 9, 4)), **TIFFS["contiguous"])
    with tifffile.TiffFile(tmp_path / "x.tif", mode="r+") as file:
        file.pages[0].tags["Compression"].overwrite(5)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    said = line(lambda: open_image(tmp_path / "x.tif"))
    assert said.endswith("LZW in TIFFs of many bands needs imagecodecs: pip install tl_jax[tiff]")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    assert "pip install tl_jax[tiff]" in line(lambda: open_image(tmp_path / "x.tif"))


def test_a_deflated_tiff_holds_no_more_than_its_pixels(tmp_path):
    how = {"planarconfig": "contig", **TIFFS["deflated"]}
    tifffile.imwrite(tmp_path / "x.tif", noise((16, 16, 4)), **how)
    bomb = zlib.compress(bytes(10**6))
    with tifffile.TiffFile(tmp_path / "x.tif", mode="r+") as file:
        page = file.pages[0]
        page.tags["StripOffsets"].overwrite([file.filehandle.size] + list(page.dataoffsets[1:]))
        page.tags["StripByteCounts"].overwrite([len(bomb)] + list(page.databytecounts[1:]))
    with open(tmp_path / "x.tif", "ab") as file:
        file.write(bomb)
    assert "holds more than its pixels" in line(lambda: open_image(tmp_path / "x.tif"))


def claims(shape, dtype="|u1"):
    """An `.npy` file of few bytes that claims a shape."""
    head = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\1\0" + (len(head) + 1).to_bytes(2, "little") + head + b"\n" + bytes(64)


BAD = {
    "truncated": (claims((40, 40, 4)), r"it is truncated: 64 bytes of the 6,400"),
    "3 GB": (claims((30_000, 30_000, 4)), r"30000 x 30000 x 4 values are more than"),
    "objects": (claims((4, 4), "|O"), "uint8 or uint16, and these are object"),
    "floats": (claims((4, 4), "<f4"), "uint8 or uint16, and these are float32"),
    "many bands": (claims((9, 9, 300)), "300 bands are more than 256; bands come last"),
    "bands first": (claims((3, 9, 8)), r"bands come last, .* np.moveaxis\(it, 0, -1\)"),
    "several images": (claims((2, 4, 4, 3)), r"an image is an array \(height, width, bands\)"),
    "no pixels": (claims((0, 4, 4)), r"an image is an array"),
    "no header": (b"\x93NUMPY\1\0\5\0{'a'\n" + bytes(64), "but its header is damaged"),
    "version": (b"\x93NUMPY\3\0" + bytes(64), "version .3, 0. of .npy"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arrays_are_refused_in_a_line(tmp_path, what):
    write(tmp_path / "set")
    content, reason = BAD[what]
    (tmp_path / "set/a/bad.npy").write_bytes(content)
    with pytest.raises(UserError, match=rf"bad\.npy.*{reason}") as caught:
        folder(tmp_path / "set", seed=0)
    assert "\n" not in str(caught.value)
    assert folder(tmp_path / "set", seed=0, on_unreadable="skip").skipped == ("a/bad.npy",)


def test_an_image_of_other_bands_than_most_is_named(tmp_path):
    write(tmp_path)
    np.save(tmp_path / "b/07.npy", stripes(7, 5))
    said = "same number of bands; 'b/07.npy' has 5, and 23 of 24 have 4"
    assert said in line(lambda: folder(tmp_path, seed=0))
    np.save(tmp_path / "b/07.npy", stripes(7, 3))
    assert "'b/07.npy' has 3" in line(lambda: gallery(tmp_path))


def test_bands_of_16_bits_are_scaled_to_the_range_of_all(tmp_path):
    def image(number):
        return 100 + 4 * stripes(number).astype(np.uint16)

    task = folder(write(tmp_path, image=image), seed=0)
    assert task.channels == 4 and task.grey_range == (100, 1096)
    want = (np.load(tmp_path / task.ids[0]).astype(int) - 100) * 255 / 996
    np.testing.assert_allclose(task.image(0), want, atol=0.51)
    fit, _ = Preprocessing(24, channels=4).of_task(task)
    np.testing.assert_array_equal(fit.read([tmp_path / task.ids[0]])[0], fit.fit(task.image(0)))


def test_images_in_memory_may_have_any_number_of_bands():
    images = np.stack([stripes(number, 5) for number in range(24)])
    task = load_task((images, np.arange(24) % 2))
    assert task.channels == 5
    np.testing.assert_array_equal(task.image(3), images[3])
    turned = load_task((images, np.arange(24) % 2), truths=["turned"])
    quarters = turned.truth["turned"].argmax(1)
    for index in range(24):
        np.testing.assert_array_equal(turned.image(index), np.rot90(images[index], quarters[index]))
    first = np.moveaxis(images, -1, 1)
    assert "np.moveaxis" in line(lambda: load_task((first, np.arange(24) % 2)))


@pytest.mark.parametrize("text", ["jitter", "jitter(saturation=0)", "randaugment", "crop+jitter"])
def test_colour_augmentation_of_bands_is_refused(text):
    batch = {"inputs": {"image": noise((2, 8, 8, 4))}}
    key = jax.random.key(0)
    said = line(lambda: augment.make(text)(key, batch))
    assert said.startswith("augment= changes the colours of RGB, and the images have 4 bands: take")
    tame = augment.make("crop+flip+shift+jitter(saturation=0, hue=0)+erase+mixup")
    batch["targets"] = batch["weights"] = np.ones((2, 2), np.float32)
    assert tame(key, batch)["inputs"]["image"].shape == (2, 8, 8, 4)


SETTINGS = {
    "plan": "full",
    "tune": {"epochs": 6, "learning_rate": 3e-2, "views": "flip", "schedule": "constant"},
    "batch_size": 8,
    "dropout": 0.0,
}


def test_a_run_on_four_bands_learns_from_the_fourth_and_predicts_files(tmp_path):
    """The classes differ in the fourth band alone."""
    task = load_task(write(tmp_path / "set"), val=0.25, test=0.25)
    base = tl_jax.load_base("efficientnet_lite0", "random:0").resized(32).cut("stage1_block1")
    said = line(lambda: base.transfer(task, cache=None))
    assert said == (
        "images of 4 channels for a base of 3: adapt its stem, channels=4 (Base.with_channels)"
    )
    runs = [
        base.with_channels(4).transfer(task, cache=cache, workdir=tmp_path / name, **SETTINGS)
        for name, cache in (("plain", None), ("cached", tmp_path / "cache"))
    ]
    losses = [[row["train_loss"] for row in run.history] for run in runs]
    np.testing.assert_allclose(*losses, 1e-5)
    assert runs[0].test["accuracy"] == 1
    with pytest.raises(UserError, match="images of 3 and of 4 channels at once"):
        runs[0].base.predict([task.image(0), noise((9, 9, 3))])
    files = [tmp_path / "set" / task.ids[i] for i in task.splits["test"]]
    np.save(tmp_path / "five.npy", stripes(0, 5))
    *answers, (*_, refused) = of_files(runs[0].base, [*files, tmp_path / "five.npy"])
    named = [runs[0].base.classes[row.argmax()] for *_, row in answers]
    assert named == [path.parent.name for path in files]
    assert "five.npy" in str(refused) and "5 channels for a base of 4" in str(refused)
