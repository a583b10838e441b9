"""Characters drawn from fonts: what an image is, what nuisance changes, and what is refused."""

import logging
import pathlib
import shutil

import matplotlib
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest

from tl_jax.data.tasks import load_task
from tl_jax.errors import UserError

SHIPPED = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")


def pixels(row: int, **options) -> np.ndarray:
    task = load_task("rendered", **{"count": 60, **options})
    return np.asarray(task.open(row), float)


def test_a_plain_image_is_the_character_in_the_middle():
    task = load_task("rendered", nuisance=0, count=60)
    assert task.classes == tuple("0123456789") == load_task("digits").classes
    assert task.classes[task.labels[43]] == "3" and "_3_" in task.ids[43]
    image = task.open(43)
    assert (image.mode, image.size, task.channels) == ("L", (28, 28), 1)
    font = PIL.ImageFont.truetype(str(SHIPPED / f"{task.ids[43].split('_')[-1]}.ttf"), 24)
    left, top, right, bottom = font.getbbox("3")
    drawn = PIL.Image.new("L", (28, 28))
    corner = (28 - left - right) / 2, (28 - top - bottom) / 2
    PIL.ImageDraw.Draw(drawn).text(corner, "3", fill=255, font=font)
    np.testing.assert_allclose(image, np.asarray(drawn), atol=1)
    rows, columns = np.nonzero(np.asarray(image) > 128)
    assert abs(rows.min() + rows.max() - 27) <= 1 and abs(columns.min() + columns.max() - 27) <= 1


def test_seeds_divide_the_same_images():
    one, other = (load_task("rendered", count=100, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(one.open(7), other.open(7))
    assert one.fingerprint == other.fingerprint
    assert not np.array_equal(one.splits["test"], other.splits["test"])
    assert np.bincount(one.labels).tolist() == [10] * 10
    prints = {load_task("rendered", count=100, nuisance=n).fingerprint for n in (0.5, 0.6)}
    assert len(prints | {one.fingerprint}) == 2


def test_more_nuisance_is_more_of_the_same():
    plain = [pixels(row, nuisance=0) for row in range(15)]
    apart = [  # the median, as some images are inverted even at 0.01
        np.median([np.abs(pixels(row, nuisance=much) - plain[row]).mean() for row in range(15)])
        for much in (0.01, 0.2, 0.6, 1)
    ]
    assert apart == sorted(apart) and apart[0] < 3 and apart[-1] > 40


def test_fonts_of_ones_own_and_those_that_do_not_do(tmp_path, caplog):
    (tmp_path / "mine").mkdir()
    for name in ("cmr10.ttf", "LastResortHE-Regular.ttf"):  # the second has one box for all signs
        shutil.copy(SHIPPED / name, tmp_path / "mine")
    (tmp_path / "broken.otf").write_bytes(b"no font")
    options = {"characters": "ABC", "size": 16, "fonts": str(tmp_path)}
    with caplog.at_level(logging.WARNING, "tl_jax"):
        task = load_task("rendered", count=12, **options)
    assert {name.split("_")[-1] for name in task.ids} == {"cmr10"}
    assert task.open(0).size == (16, 16) and task.classes == ("A", "B", "C")
    assert "left out: broken.otf, LastResortHE-Regular.ttf" in caplog.text


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"nuisance": 1.5}, "nuisance= takes a number from 0 to 1; got 1.5"),
        ({"nuisance": 0}, "without nuisance"),
        ({"characters": "aab"}, "characters= takes two or more, each once"),
        ({"size": 4}, "size= takes a whole number, at least 8"),
        ({"fonts": "there_is_none"}, "fonts=there_is_none is no folder"),
        ({"characters": "\u4e00\u4e8c"}, "has all of"),
        ({"noise": 1}, "unknown option of task 'rendered' 'noise'"),
        ({"count": 3}, "class '0' has 1 examples, but 3 are needed"),
    ],
)
def test_what_is_refused(options, line):
    with pytest.raises(UserError, match=line):
        load_task("rendered", **options)
