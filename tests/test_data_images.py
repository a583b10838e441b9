import io
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest

from tl_jax.data.images import digest, fingerprint, open_image
from tl_jax.errors import UserError


def reopened(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return open_image(file)


def photo(shape=(6, 9, 3)):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def damaged_exif(*entries):
    """A TIFF directory of the entries and one whose value lies outside: Pillow warns of it."""
    entries = [*entries, struct.pack("<HHII", 0x9999, 2, 999, 9999)]
    count = struct.pack("<H", len(entries))
    return b"Exif\0\0II*\0\x08\0\0\0" + count + b"".join(entries) + b"\0\0\0\0"


def test_plain_images_come_back_as_they_are():
    for pixels, mode in ((photo(), "RGB"), (photo((4, 5)), "L"), (photo((1, 1)), "L")):
        for kind in ("PNG", "BMP", "TIFF", "PPM"):
            image = reopened(PIL.Image.fromarray(pixels), kind)
            assert image.mode == mode
            np.testing.assert_array_equal(np.asarray(image), pixels)


def test_a_path_and_a_file_give_the_same(tmp_path):
    path = tmp_path / "x.png"
    PIL.Image.fromarray(photo()).save(path)
    with open(path, "rb") as file:
        assert open_image(file) == open_image(path) == open_image(str(path))


# EXIF 2.32, table of Orientation: where the 0th row and the 0th column of the stored pixels lie.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_is_applied(kind, orientation):
    lossless = {"lossless": True} if kind == "WEBP" else {}
    stored = PIL.Image.fromarray(photo())
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    image = reopened(stored, kind, exif=exif, **lossless)
    np.testing.assert_array_equal(np.asarray(image), UPRIGHT[orientation](photo()))


def test_orientation_is_applied_though_other_exif_is_damaged():
    orientation = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    # An integer tag stored as a fraction (the 8 bytes from 50 on), which Pillow cannot write back
    fraction = struct.pack("<HHII", 0x0145, 5, 1, 50)
    turned = damaged_exif(orientation, fraction) + struct.pack("<II", 1, 1)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert reopened(PIL.Image.fromarray(photo()), "JPEG", exif=turned).size == (6, 9)
        assert reopened(PIL.Image.fromarray(photo()), "JPEG", exif=b"Exif\0\0II*").size == (9, 6)
    assert not seen


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bit_grey_is_scaled_not_clipped(kind):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = reopened(PIL.Image.fromarray(grey.astype(np.uint16) * 257), kind)
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), grey)


def test_16_bit_grey_is_rounded_and_big_endian_is_read():
    deep = np.array([[0, 128, 129, 385, 386, 65407, 65535]], np.uint16)
    want = [[0, 0, 1, 1, 2, 255, 255]]  # deep / 257 rounded: 0.498, 0.502, 1.498, 1.502, 254.502
    for pixels in (deep, deep.astype(">u2")):
        np.testing.assert_array_equal(reopened(PIL.Image.fromarray(pixels), "TIFF"), want)
    seen = reopened(PIL.Image.fromarray(deep), "PNG", transparency=129)
    np.testing.assert_array_equal(seen, [[0, 0, 255, 1, 2, 255, 255]])


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_range_are_refused(dtype):
    pixels = np.full((2, 2), 70000, dtype)
    with pytest.raises(UserError, match="no fixed range.*8 or 16 bits"):
        reopened(PIL.Image.fromarray(pixels), "TIFF")


def test_transparency_lies_on_white():
    half = np.array([[[200, 100, 0, 0], [200, 100, 0, 255], [200, 100, 0, 51]]], np.uint8)
    want = [[[255, 255, 255], [200, 100, 0], [244, 224, 204]]]  # a fifth of it on white
    np.testing.assert_array_equal(reopened(PIL.Image.fromarray(half)), want)
    grey = reopened(PIL.Image.fromarray(np.array([[[100, 0], [100, 255]]], np.uint8), "LA"))
    assert grey.mode == "L"
    np.testing.assert_array_equal(grey, [[255, 100]])


@pytest.mark.parametrize("transparency", [1, b"\xff\x00"])
def test_palettes_become_rgb_and_their_transparency_white(transparency):
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert reopened(image).mode == "RGB"
    np.testing.assert_array_equal(reopened(image), [[[10, 20, 30], [40, 50, 60]]])
    seen = reopened(image, transparency=transparency)
    np.testing.assert_array_equal(seen, [[[10, 20, 30], [255, 255, 255]]])


def test_one_colour_can_be_transparent():
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    seen = reopened(PIL.Image.fromarray(pixels), transparency=(1, 2, 3))
    np.testing.assert_array_equal(seen, [[[255, 255, 255], [4, 5, 6]]])
    seen = reopened(PIL.Image.fromarray(pixels[..., 0]), transparency=4)
    assert seen.mode == "L"
    np.testing.assert_array_equal(seen, [[1, 255]])


def test_one_bit_is_black_and_white():
    image = reopened(PIL.Image.fromarray(np.array([[True, False]])))
    assert image.mode == "L"
    np.testing.assert_array_equal(image, [[255, 0]])


def test_cmyk_is_converted():
    ink = PIL.Image.new("CMYK", (8, 8), (255, 0, 0, 0))  # all cyan
    for kind, slack in (("TIFF", 0), ("JPEG", 3)):
        image = reopened(ink, kind)
        assert image.mode == "RGB"
        np.testing.assert_allclose(np.asarray(image)[4, 4], [0, 255, 255], atol=slack)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    frames = [PIL.Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    image = reopened(frames[0], kind, save_all=True, append_images=frames[1:], **lossless)
    assert image.mode == "RGB"
    assert image.getcolors() == [(16, (255, 0, 0))]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height):
    """A file of few bytes that claims a size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(10000, 10000), (40000, 40000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch, width, height):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(width, height))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(UserError, match="bomb.png.*pixels"):
        open_image(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
        (png_of(100, 100), "truncated"),
        (png_of(9, 9)[:20] + bytes(4) + png_of(9, 9)[24:], "begins as a PNG file, but is damaged"),
        (b"II*\0" + bytes(30), "begins as a TIFF file, but is damaged or of a kind"),
    ],
)
def test_what_is_no_image_is_named_in_one_line(tmp_path, content, reason):
    path = tmp_path / "cat.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"cat\.jpg.*{reason}") as caught:
        open_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF"])
def test_a_truncated_file_is_named(tmp_path, kind):
    path = tmp_path / "cut.img"
    file = io.BytesIO()
    PIL.Image.fromarray(photo((64, 64, 3))).save(file, kind)
    for part in (0.9, 0.5, 0.05):
        path.write_bytes(file.getvalue()[: int(len(file.getvalue()) * part)])
        with pytest.raises(UserError, match=r"cannot read .*cut\.img"):
            open_image(path)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.png.*No such file"):
        open_image(tmp_path / "gone.png")
    with pytest.raises(UserError, match="Is a directory"):
        open_image(tmp_path)
    with pytest.raises(UserError, match=r"gone\.png.*No such file"):
        digest(tmp_path / "gone.png")


def test_threads_leave_the_warnings_of_others_alone():
    file = io.BytesIO()
    PIL.Image.fromarray(photo()).save(file, "JPEG", exif=damaged_exif())
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: open_image(io.BytesIO(file.getvalue())), range(64)))
        assert not seen
        warnings.warn("mine", stacklevel=1)
    assert [str(w.message) for w in seen] == ["mine"]


def test_a_fingerprint_is_of_ids_and_contents_in_order(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    a, b = digest(tmp_path / "a"), digest(tmp_path / "b")
    whole = fingerprint(["a", "b"], [a, b])
    others = [
        fingerprint(["b", "a"], [b, a]),
        fingerprint(["a", "b"], [b, a]),
        fingerprint(["a", "c"], [a, b]),
        fingerprint(["a"], [a]),
    ]
    assert whole == fingerprint(["a", "b"], [a, b])
    assert len({whole, *others}) == 5


def banded(path, bands, extra=None, bits=8, photometric=2):
    """An uncompressed TIFF of 4 x 3 pixels, written by hand: Pillow writes no other bands."""
    tags = {256: (3, 4), 257: (3, 3), 259: (3, 1), 262: (3, photometric), 277: (3, bands)}
    tags |= {278: (3, 3), 279: (4, 12 * bands * bits // 8), 284: (3, 1)}
    entries, after = dict(tags), b""
    start = 8 + 2 + 12 * (len(tags) + 2 + (extra is not None)) + 4
    lists = {258: [bits] * bands} | ({338: extra} if extra is not None else {})
    packed = {}
    for tag, values in lists.items():
        content = struct.pack(f"<{len(values)}H", *values)
        if len(content) <= 4:
            packed[tag] = struct.pack("<HHI", tag, 3, len(values)) + content.ljust(4, b"\0")
        else:
            packed[tag] = struct.pack("<HHII", tag, 3, len(values), start + len(after))
            after += content
    entries[273] = (4, start + len(after))
    for tag, (kind, value) in entries.items():
        packed[tag] = struct.pack("<HHII", tag, kind, 1, value)
    directory = struct.pack("<H", len(packed)) + b"".join(packed[tag] for tag in sorted(packed))
    pixels = bytes(i % 256 for i in range(12 * bands * bits // 8))
    path.write_bytes(b"II*\0\x08\0\0\0" + directory + b"\0\0\0\0" + after + pixels)
    return path


@pytest.mark.parametrize(
    ("bands", "extra", "bits", "photometric"),
    [
        (4, None, 8, 2),  # red, green, blue and infrared; Pillow takes it for alpha
        (4, [0], 8, 2),
        (4, None, 16, 2),
        (5, [0, 0], 8, 2),
        (5, [2, 0], 8, 2),
        (5, None, 8, 2),  # Pillow knows no such image
        (5, [0, 0, 0, 0], 8, 1),
        (2, [0], 8, 1),
        (13, None, 16, 1),
    ],
)
def test_bands_that_are_no_alpha_are_an_array(tmp_path, bands, extra, bits, photometric):
    path = banded(tmp_path / "bands.tif", bands, extra, bits, photometric)
    size = bits // 8
    upper = (np.arange(12 * bands) * size + size - 1) % 256  # of little-endian pairs the second
    np.testing.assert_array_equal(open_image(path), upper.reshape(3, 4, bands))


def test_bands_of_jpeg_2000_are_alpha_only_if_it_says_so():
    half = PIL.Image.fromarray(photo((8, 8, 4)))
    assert half.mode == "RGBA"
    lossless = {"irreversible": False, "quality_mode": "rates", "quality_layers": [0]}
    seen = np.asarray(reopened(half, "JPEG2000", **lossless)).astype(int)
    colour, alpha = photo((8, 8, 4))[..., :3].astype(int), photo((8, 8, 4))[..., 3:].astype(int)
    np.testing.assert_allclose(seen, (colour * alpha + 255 * (255 - alpha)) / 255, atol=1)
    with pytest.raises(UserError, match="has 4 bands"):  # the bare codestream cannot say it
        reopened(half, "JPEG2000", no_jp2=True)
    assert reopened(half.convert("RGB"), "JPEG2000", no_jp2=True).mode == "RGB"


def test_alpha_that_the_file_declares_lies_on_white(tmp_path):
    image = open_image(banded(tmp_path / "alpha.tif", 4, [2]))
    red, alpha = 44, 47  # of the last pixel, bytes 44 to 47
    assert image.mode == "RGB"
    want = round(red * alpha / 255 + 255 - alpha)
    assert abs(image.getpixel((3, 2))[0] - want) <= 1
    assert open_image(banded(tmp_path / "rgb.tif", 3)).getpixel((3, 2)) == (33, 34, 35)


def test_a_range_of_16_bit_grey_becomes_the_whole(tmp_path):
    levels = np.array([[1000, 1001, 1128, 1255, 999, 3000]], np.uint16)
    PIL.Image.fromarray(levels).save(tmp_path / "dim.png")
    image = open_image(tmp_path / "dim.png", (1000, 1255))
    np.testing.assert_array_equal(image, [[0, 1, 128, 255, 0, 255]])
    grey = PIL.Image.fromarray(np.array([[7, 200]], np.uint8))
    grey.save(tmp_path / "8.png")
    assert open_image(tmp_path / "8.png", (0, 100)) == grey


HEIF = """
import PIL.Image, PIL.ImageFile, PIL.PngImagePlugin

class Opened(PIL.PngImagePlugin.PngImageFile):
    def _open(self):
        self.fp.seek(24)  # what stands behind the box is a PNG file
        super()._open()

def register_heif_opener():
    PIL.Image.register_open("HEIF", Opened, lambda head: head[4:12] == b"ftypheic")
"""


def test_heic_is_read_by_the_package_that_can_and_asks_for_it(tmp_path, monkeypatch):
    """A stand-in for pillow-heif: the suite has no encoder of H.265."""
    file, pixels = io.BytesIO(), photo()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 12 + file.getvalue())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # not installed
    with pytest.raises(UserError, match=r"photo.heic.*pip install tl_jax\[heic\]"):
        open_image(path)
    monkeypatch.delitem(sys.modules, "pillow_heif")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "pillow_heif.py").write_text(HEIF)
    monkeypatch.setattr(PIL.Image, "OPEN", dict(PIL.Image.OPEN))
    monkeypatch.setattr(PIL.Image, "ID", list(PIL.Image.ID))
    np.testing.assert_array_equal(open_image(path), pixels)
    monkeypatch.delitem(sys.modules, "pillow_heif")
    other = tmp_path / "other.png"
    PIL.Image.fromarray(pixels).save(other)
    assert open_image(other).size == (9, 6) and "pillow_heif" not in sys.modules
