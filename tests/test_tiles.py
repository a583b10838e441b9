"""Tiles: what they cover, their splits, large images, and what a run says of whole images."""

import dataclasses

import numpy as np
import PIL.Image
import pytest

import tl_jax
from tl_jax.base.predict import of_files
from tl_jax.data import tiles
from tl_jax.data.images import open_image, size_at
from tl_jax.data.tasks import load_task
from tl_jax.errors import UserError


def photographs(top, count=20, sizes=((40, 56), (56, 40), (20, 24), (64, 32))):
    """Images (height, width) of two classes, noise of which one is brighter."""
    for number in range(count):
        shape = (*sizes[number % len(sizes)], 3)
        pixels = np.random.default_rng(number).integers(0, 156, shape) + 100 * (number % 2)
        place = top / "ab"[number % 2] / f"{number:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(place)
    return top


def test_tiles_cover_an_image_and_the_last_are_moved_inward():
    pixels = np.arange(5 * 11, dtype=np.uint8).reshape(5, 11, 1).repeat(2, -1)
    task = tiles.tiled(load_task((np.stack([pixels] * 6), np.arange(6) % 2), name="x"), 8)
    assert task.ids[:3] == ("0#0,0", "0#3,0", "1#0,0") and len(task.ids) == 12
    np.testing.assert_array_equal(task.image(0), pixels[:, :8])
    np.testing.assert_array_equal(task.image(1), pixels[:, 3:])
    for size in [(8, 8), (9, 30), (17, 16), (3, 5), (100, 7)]:
        image = np.arange(size[0] * size[1]).reshape(size[1], size[0])
        parts = list(tiles.cut(image, 8))
        assert np.array_equal(np.unique(np.concatenate([p.ravel() for p in parts])), image.ravel())
        assert len(parts) == -(-size[0] // 8) * -(-size[1] // 8)
        assert {part.shape for part in parts} == {(min(8, size[1]), min(8, size[0]))}


def test_all_tiles_of_an_image_are_in_its_split_and_have_its_truth(tmp_path):
    whole = load_task(photographs(tmp_path), seed=3, truths=["parity"])
    task = load_task(tmp_path, seed=3, tile=16, truths=["parity"])
    assert (task.tile, task.folder, len(task.wholes)) == (16, whole.folder, len(task.ids))
    for split, rows in task.splits.items():
        images = [whole.ids[i] for i in whole.splits[split]]
        assert sorted({task.wholes[i] for i in rows}) == images
    assert sum(map(len, task.splits.values())) == len(task.ids)
    for index, (name, of) in enumerate(zip(task.ids, task.wholes, strict=True)):
        number = whole.ids.index(of)
        assert name.startswith(f"{of}#") and task.labels[index] == whole.labels[number]
        np.testing.assert_array_equal(task.truth["parity"][index], whole.truth["parity"][number])
        left, top = map(int, name.rpartition("#")[2].split(","))
        pixels = np.asarray(whole.image(number))[top : top + 16, left : left + 16]
        np.testing.assert_array_equal(task.image(index), pixels)
    others = [load_task(tmp_path, seed=3, tile=side).fingerprint for side in (16, 24)]
    assert len({whole.fingerprint, *others}) == 3 and others[0] == task.fingerprint
    some = load_task(tmp_path, seed=3, tile=16, only=["b", "a"])
    assert some.wholes == task.wholes and some.classes == ("b", "a")


def test_an_image_is_decoded_once_for_all_its_tiles(tmp_path):
    whole, opened = load_task(photographs(tmp_path)), []

    def counted(index):
        opened.append(index)
        return whole.open(index)

    task = tiles.tiled(dataclasses.replace(whole, open=counted), 16)
    opened.clear()
    for index in range(len(task.ids)):
        task.image(index)
    assert opened == list(range(20))


def test_sizes_are_those_of_the_image_as_it_is_turned(tmp_path):
    exif = PIL.Image.Exif()
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.jpg"
        PIL.Image.new("RGB", (30, 20)).save(path, exif=exif)
        assert size_at(path) == open_image(path).size
    np.save(tmp_path / "x.npy", np.zeros((20, 30, 5), np.uint8))
    assert size_at(tmp_path / "x.npy") == (30, 20)
    with pytest.raises(UserError, match=r"cannot read .*none\.png"):
        size_at(tmp_path / "none.png")


def test_an_image_that_its_header_did_not_tell_of_is_refused(tmp_path):
    whole = load_task(photographs(tmp_path))
    task = tiles.tiled(whole, 16)
    PIL.Image.new("RGB", (7, 9)).save(tmp_path / whole.ids[0])
    with pytest.raises(UserError, match=r"a/00\.png cannot .* said \(56, 40\), and it is \(7, 9\)"):
        task.image(0)


def test_large_images_are_admitted_as_tiles_alone(tmp_path, monkeypatch):
    photographs(tmp_path)
    want = load_task(tmp_path, tile=16)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)  # from twice as many Pillow refuses
    with pytest.raises(UserError, match=r"more than 1000; a task of tiles \(tile=256\) takes it"):
        load_task(tmp_path)
    task = load_task(tmp_path, tile=16)
    assert (task.ids, task.fingerprint) == (want.ids, want.fingerprint)
    for index in range(len(task.ids)):
        np.testing.assert_array_equal(task.image(index), want.image(index))
    monkeypatch.setattr("tl_jax.data.images.LARGE", 2100)
    with pytest.raises(UserError, match="56 x 40 pixels are more than 2100") as caught:
        load_task(tmp_path, tile=16)
    assert "a task of tiles" not in str(caught.value)


@pytest.mark.parametrize(
    ("tile", "said"),
    [(4, "tile= takes a whole number, at least 8 and at most 4096"), ("9", "tile= takes a whole")],
)
def test_other_sides_are_refused(tmp_path, tile, said):
    with pytest.raises(UserError, match=said):
        load_task(photographs(tmp_path), tile=tile)


def test_texts_have_no_tiles():
    with pytest.raises(UserError, match="has texts and no images"):
        load_task("python_help", tile=16)


def test_a_run_says_how_many_images_are_right_and_predicts_the_mean_of_tiles(tmp_path):
    task = load_task(photographs(tmp_path / "set"), tile=16, val=0.25, test=0.4)
    base = tl_jax.load_base("efficientnet_lite0", "random:0").resized(32).cut("stage1_block1")
    how = {"epochs": 1, "learning_rate": 1e-3}
    run = base.transfer(
        task, plan="head_only", train_head=how, cache=None, workdir=tmp_path / "run"
    )
    alone = dataclasses.replace(
        run.base, preprocessing=dataclasses.replace(run.base.of_images, tile=0)
    )
    test = task.splits["test"]
    rows = alone.predict([task.image(int(i)) for i in test])
    names = sorted({task.wholes[i] for i in test})
    means = [
        np.mean([r for r, i in zip(rows, test, strict=True) if task.wholes[i] == n], 0)
        for n in names
    ]
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    with PIL.Image.open(tmp_path / "set" / names[0]) as image:
        upright = run.base.predict(image)
        image.transpose(PIL.Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    with PIL.Image.open(tmp_path / "turned.png") as image:
        np.testing.assert_allclose(run.base.predict(image), upright, 1e-4, 1e-5)
    answers = list(of_files(run.base, [tmp_path / "set" / name for name in names]))
    np.testing.assert_allclose([row for *_, row in answers], means, 1e-4, 1e-5)
    right = [row.argmax() == "ab".index(name[0]) for row, name in zip(means, names, strict=True)]
    assert run.test["image_accuracy"] == np.mean(right)
    page = run.report.read_text()
    assert f"on {len(names)} test images" in page and "accuracy of images" in page
