"""Boxes as truth: files as people have them, and boxes that move as their pixels do."""

import json

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import tl_jax
from tl_jax.data import augment, views
from tl_jax.data.boxes import letterbox, windows
from tl_jax.data.boxes.truth import counted
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.engine import prefix
from tl_jax.errors import UserError
from tl_jax.train.work import Source

SIZES = [(60, 40), (40, 60), (50, 50), (64, 32), (33, 47), (60, 40), (48, 48), (40, 40)]


@pytest.fixture
def photos(tmp_path):
    """A folder `images` of noise: 0.png, 1.png, ..."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    return tmp_path


def content() -> dict:
    """A file in COCO's form with an id of 0, gaps, a crowd, no boxes, and boxes beyond an edge."""
    images = [
        {"id": n, "file_name": f"{n}.png", "width": w, "height": h}
        for n, (w, h) in enumerate(SIZES)
    ]
    boxes = [
        {"id": 0, "image_id": 0, "category_id": 0, "bbox": [10, 10, 20, 15], "area": 250,
         "iscrowd": 0, "segmentation": [[10, 10, 30, 10, 30, 25]]},
        {"id": 1, "image_id": 0, "category_id": 90, "bbox": [50, 30, 30, 30], "iscrowd": 0},
        {"id": 2, "image_id": 0, "category_id": 90, "bbox": [70, 5, 9, 9], "iscrowd": 0},
        {"id": 3, "image_id": 1, "category_id": 0, "bbox": [5, 5, 0, 7], "iscrowd": 0},
        {"id": 4, "image_id": 1, "category_id": 90, "bbox": [0, 0, 40, 60], "iscrowd": 1,
         "segmentation": {"counts": [0, 2400], "size": [60, 40]}},
    ]  # fmt: skip
    boxes += [
        {"id": n + 10, "image_id": n, "category_id": 0, "bbox": [1, 2, 10, 11]}
        for n in range(2, len(SIZES) - 1)
    ]
    categories = [{"id": 0, "name": "cat"}, {"id": 90, "name": "dog"}, {"id": 7, "name": "empty"}]
    return {"images": images, "annotations": boxes, "categories": categories}


def load(photos, changed=None, **options):
    """The task of the file, after `changed(content)`."""
    said = content()
    if changed:
        changed(said)
    path = photos / "boxes.json"
    path.write_text(json.dumps(said))
    return tl_jax.load_task(f"coco:{path}", **options)


def test_a_file_in_cocos_form_is_read_as_it_is(photos, caplog):
    task = load(photos)
    assert task.asks == "boxes" and task.classes == ("cat", "dog")
    first = {name: array[0] for name, array in task.truth.items()}
    assert first["boxes"].tolist() == [[10, 10, 30, 25], [50, 30, 60, 40]]
    assert first["classes"].tolist() == [0, 1] and first["areas"].tolist() == [250, 100]
    assert task.truth["ignored"][1].tolist() == [True, False]
    assert task.truth["classes"][-1].tolist() == [-1, -1]
    assert task.truth["sizes"].tolist() == [list(size) for size in SIZES]
    for line in (
        "1 categories without a box are left out: empty",
        "1 boxes reach beyond their image and are cut off at its edge: 0.png",
        "2 boxes have no area in their image and are left out: 0.png, 1.png",
        "1 images have no boxes and are kept as background: 7.png",
    ):
        assert line in caplog.text
    assert sorted(np.concatenate(list(task.splits.values()))) == list(range(len(SIZES)))
    assert task.image(3).size == SIZES[3]


def again(said):
    said["images"].append({"id": 100, "file_name": "2.png"})
    said["annotations"].append({"image_id": 100, "category_id": 90, "bbox": [3, 3, 5, 5]})


def again_by_another_path(said):
    again(said)
    said["images"][-1]["file_name"] = "./2.png"


def copied(said):
    said["annotations"] += [dict(said["annotations"][0]), {**said["annotations"][5], "id": 0}]


@pytest.mark.parametrize(
    "changed, line, counts",
    [
        (again, "1 images are listed again, and their boxes are joined: 2.png", [2, 1, 2]),
        (again_by_another_path, "their boxes are joined: 2.png", [2, 1, 2]),
        (copied, "2 annotations say the same as another, and are left out", [2, 1, 1]),
        (copied, "1 ids are of several annotations, all of which are read", [2, 1, 1]),
        (
            lambda said: said["annotations"].append({"image_id": 55, "category_id": 0}),
            "1 annotations are of images that are not listed, and are left out",
            [2, 1, 1],
        ),
    ],
)
def test_what_is_odd_in_a_file_is_said(photos, caplog, changed, line, counts):
    task = load(photos, changed)
    assert line in caplog.text
    assert (task.truth["classes"] >= 0).sum(1)[:3].tolist() == counts


def update(part, number, **values):
    return lambda said: said[part][number].update(values)


@pytest.mark.parametrize(
    "changed, line",
    [
        (lambda said: said.pop("images"), "is not in COCO's form"),
        (update("images", 3, id=2), "3.png and 2.png have the same id 2"),
        (update("images", 3, file_name="../../secret.png"), "give paths below the images' folder"),
        (update("images", 3, file_name="C:/x/../../secret.png"), "give paths below the images'"),
        (update("images", 3, file_name="/etc/passwd"), "give paths below the images' folder"),
        (update("images", 3, file_name="gone.png"), "1 of 8 files in"),
        (update("images", 3, file_name="x" * 5000), "not a file"),
        (update("images", 3, file_name="x\0.png"), "not a file"),
        (update("images", 3, id=None), "an image has an id and a file_name"),
        (update("images", 0, width=40, height=60), "0.png' is 60 x 40 (turned, as its EXIF says)"),
        (update("images", 0, width=30, height=20), "its boxes are of an image of 30 x 20"),
        (update("categories", 1, id=0), "the category 'dog' shares its id, 0"),
        (update("categories", 1, name="cat"), "the category 'cat' shares its id, 90, or its name"),
        (update("annotations", 0, category_id=9), "known: 0 (cat), 7 (empty), 90 (dog)"),
        (update("annotations", 0, bbox=[1, 2, 3]), "needs a bbox [left, top, width, height]"),
        (update("annotations", 0, bbox=[1, 2, float("nan"), 4]), "of finite numbers"),
        (update("annotations", 0, bbox=[1, 2, 10**400, 4]), "of finite numbers"),
        (lambda said: said["annotations"].clear(), "boxes.json: there is no box"),
    ],
)
def test_what_no_reading_would_be_right_for_is_refused(photos, changed, line):
    for options in ({}, {"images": str(photos / "images")}):
        with pytest.raises(UserError) as error:
            load(photos, changed, **options)
        assert line in str(error.value) and "\n" not in str(error.value)


def test_missing_images_are_left_out_on_request(photos, caplog):
    task = load(photos, update("images", 3, file_name="gone.png"), on_unreadable="skip")
    assert len(task.ids) == 7 and "gone.png" in task.skipped[0]


@pytest.mark.parametrize("text", ["{", "[1, 2]", "[" * 100_000, '{"images": 3}', ""])
def test_files_that_are_none_of_cocos_are_refused(tmp_path, text):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(UserError, match="no JSON|not in COCO's form"):
        tl_jax.load_task(f"coco:{tmp_path / 'boxes.json'}")


def test_more_boxes_than_most_are_refused(photos):
    with pytest.raises(UserError, match="0.png has 2 boxes, and most=1: set most=2, or cut"):
        load(photos, most=1)


def test_splits_of_several_files(photos):
    said = content()
    for name, rows in {"a": range(4), "b": range(4, 6), "c": range(6, 8)}.items():
        own = {**said, "images": [said["images"][row] for row in rows]}
        (photos / f"{name}.json").write_text(json.dumps(own))
    others = {"val_json": str(photos / "b.json"), "test_json": str(photos / "c.json")}
    task = tl_jax.load_task(f"coco:{photos / 'a.json'}", **others)
    ids = {split: [task.ids[row] for row in rows] for split, rows in task.splits.items()}
    assert ids["val"] == ["4.png", "5.png"] and ids["test"] == ["6.png", "7.png"]

    # COCO's own layout: a folder for each split, in which names may be the same.
    for name, split in {"a": "train", "b": "val", "c": "test"}.items():
        (photos / split).mkdir()
        own = json.loads((photos / f"{name}.json").read_text())
        for number, image in enumerate(own["images"]):
            (photos / "images" / image["file_name"]).rename(photos / split / f"{number}.png")
            image["file_name"] = f"{number}.png"
        (photos / split / f"{name}.json").write_text(json.dumps(own))
    others = {f"{s}_json": str(photos / s / f"{n}.json") for s, n in (("val", "b"), ("test", "c"))}
    apart = tl_jax.load_task(f"coco:{photos / 'train' / 'a.json'}", **others)
    assert apart.ids[:2] == ("train/0.png", "train/1.png") and apart.ids[-1] == "test/1.png"
    np.testing.assert_array_equal(apart.truth["boxes"], task.truth["boxes"])
    assert apart.image(7).size == SIZES[7]


def test_groups_and_budgets(photos):
    def placed(said):
        for number, image in enumerate(said["images"]):
            image["location"] = f"camera {number // 2}"

    grouped = load(photos, placed, group="location")
    groups = np.array(grouped.groups)
    of_splits = [set(groups[rows]) for rows in grouped.splits.values()]
    assert sum(map(len, of_splits)) == len(set(groups)) == 4
    small, large = (load(photos, labelled=n).splits for n in (2, 3))
    assert len(small["train"]) == 2 and set(small["train"]) < set(large["train"])
    assert small["test"].tolist() == large["test"].tolist()
    with pytest.raises(UserError, match="labelled=50: there are 5 images to train on"):
        load(photos, labelled=50)
    with pytest.raises(UserError, match="did you mean 'location'"):
        load(photos, placed, group="locaton")


VOC = """<annotation><folder>v</folder><filename>{file}</filename>
<size><width>{w}</width><height>{h}</height><depth>3</depth></size>{objects}</annotation>"""
OBJECT = """<object><name>{name}</name><difficult>{hard}</difficult><bndbox><xmin>{x1}</xmin>
<ymin>1</ymin><xmax>20</xmax><ymax>10</ymax></bndbox><part><name>p</name><bndbox><xmin>1</xmin>
<ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"""


def as_voc(photos):
    """The photographs in VOC's form."""
    (photos / "images").rename(photos / "JPEGImages")
    (photos / "Annotations").mkdir()
    for number, (w, h) in enumerate(SIZES):
        objects = OBJECT.format(name="cat" if number % 2 else "dog", hard=number == 1, x1="11.0")
        text = VOC.format(file=f"{number}.png", w=w, h=h, objects=objects)
        (photos / "Annotations" / f"{number}.xml").write_text(text)
    return photos


def test_a_folder_in_vocs_form_is_read_with_its_splits(photos, caplog):
    root = as_voc(photos)
    sets = root / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("0\n1\n2\n")
    (sets / "val.txt").write_text("3  1\n4 -1\n")
    (sets / "test.txt").write_text("5\n6\n")
    task = tl_jax.load_task(f"voc:{root}")
    assert task.classes == ("cat", "dog")
    assert task.truth["boxes"][0].tolist() == [[10, 0, 20, 10]]  # pixels 11 to 20 are 10 wide
    assert task.truth["ignored"][:3, 0].tolist() == [False, True, False]
    assert [len(rows) for rows in task.splits.values()] == [3, 2, 2]
    assert "1 XML files are of no split in ImageSets/Main" in caplog.text


def test_voc_without_its_folders(photos):
    root = as_voc(photos)
    for folder in ("Annotations", "JPEGImages"):
        for file in (root / folder).iterdir():
            file.rename(root / file.name)
        (root / folder).rmdir()
    task = tl_jax.load_task(f"voc:{root}", group="filename")
    assert task.ids[0] == "0.png" and task.groups[0] == "0.png"
    (root / "0.jpg").write_bytes((root / "0.png").read_bytes())
    assert tl_jax.load_task(f"voc:{root}").ids[0] == "0.png"  # as the file says
    text = (root / "0.xml").read_text()
    (root / "0.xml").write_text(text.replace("<filename>0.png", "<filename>zero.png"))
    with pytest.raises(UserError, match="0.xml may be of 0.jpg, 0.png; keep one"):
        tl_jax.load_task(f"voc:{root}")


def in_encoding(name):
    return lambda text: f'<?xml version="1.0" encoding="{name}"?>' + text


@pytest.mark.parametrize(
    "change, line",
    [
        (lambda text: '<!DOCTYPE a [<!ENTITY b "c">]>' + text, "has a DTD"),
        (lambda text: text.replace("</annotation>", ""), "is no XML"),
        *((in_encoding(name), "is no XML") for name in ("gbk", "utf-7", "utf-32", "none such")),
        (lambda text: text.replace("<xmin>11.0", "<xmin>wide"), "has four finite numbers"),
        (lambda text: text.replace("<xmin>11.0", "<xmin>inf"), "has four finite numbers"),
        (lambda text: text.replace("<xmin>11.0</xmin>", ""), "<object> has no <bndbox/xmin>"),
        (lambda text: text.replace("<name>dog</name>", "<name> </name>"), "<object> has no <name>"),
    ],
)
def test_xml_of_strangers_is_refused_in_a_line(photos, change, line):
    root = as_voc(photos)
    path = root / "Annotations" / "0.xml"
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError) as error:
        tl_jax.load_task(f"voc:{root}")
    assert line in str(error.value) and "\n" not in str(error.value)


def test_tiles_have_what_is_in_them(photos):
    task = load(photos, tile=32)
    row = task.ids.index("0.png#0,0")
    assert task.truth["boxes"][row, 0].tolist() == [10, 10, 30, 25]
    beside = task.ids.index("0.png#28,0")
    # Two pixels of the first box: its centre is elsewhere, so they are ignored.
    assert task.truth["boxes"][beside, 0].tolist() == [0, 10, 2, 25]
    assert task.truth["ignored"][beside, 0] and task.truth["areas"][beside, 0] == 25
    assert task.truth["sizes"][beside].tolist() == [32, 32]
    whole = load(photos)
    assert counted(task.truth).sum() >= counted(whole.truth).sum()
    # The same as of all tiles at once
    owners = [whole.ids.index(name) for name in task.wholes]
    corners = np.array([[int(n) for n in id_.split("#")[1].split(",")] for id_ in task.ids])
    together = windows.cut({n: a[owners] for n, a in whole.truth.items()}, corners, 32)
    assert together.keys() == task.truth.keys()
    for name, array in together.items():
        np.testing.assert_array_equal(task.truth[name], array)
        assert task.truth[name].dtype == array.dtype


SQUARE = Preprocessing(48, mean=(10.0, 100.0, 200.0), std=50.0)


def test_letterboxed_boxes_lie_on_the_same_pixels(photos):
    task = load(photos)
    expected, moved = SQUARE.of_task(task)
    assert expected.letterbox and expected.fingerprint() != SQUARE.fingerprint()
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:25, 10:30] = 255
    fitted = expected.fit(PIL.Image.fromarray(pixels))
    assert fitted[0, 0].tolist() == [10, 100, 200]  # padded with the mean
    rows, columns = np.nonzero((fitted > 128).all(-1))
    x1, y1, x2, y2 = moved.truth["boxes"][0, 0]
    assert (x1, y1, x2, y2) == pytest.approx((8, 16, 24, 28))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x1, y1, x2, y2)
    back = letterbox.originals(moved.truth, 48)
    np.testing.assert_allclose(back["boxes"], task.truth["boxes"], atol=1e-4)


@hypothesis.given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 600), st.data())
def test_letterboxing_and_back_is_nothing(width, height, side, data):
    shares = data.draw(arrays.arrays(float, (1, 3, 4), elements=st.floats(0, 1)))
    sizes = np.array([[width, height]])
    boxes = np.sort(shares.reshape(1, 3, 2, 2), 2).reshape(1, 3, 4) * np.tile(sizes, 2)
    there = letterbox.forward(boxes, sizes, side)
    assert (there >= -1e-3).all() and (there <= side + 1e-3).all()
    np.testing.assert_allclose(letterbox.back(there, sizes, side), boxes, atol=2e-3, rtol=1e-4)


def batch(size=(40, 60)):
    """Three images, black but for their first boxes; and a second box, in the first image."""
    boxes = np.zeros((3, 2, 4), np.float32)
    boxes[:, 0] = [10, 8, 30, 20]
    boxes[0, 1] = [0, 0, 3, 4]
    classes = np.array([[1, 0], [2, -1], [0, -1]], np.int32)
    images = np.zeros((3, *size, 3), np.float32)
    images[:, 8:20, 10:30] = 255
    truth = {"boxes": boxes, "classes": classes, "ignored": np.zeros((3, 2), bool)}
    return {"inputs": {"image": images}, **truth}


def extents(image):
    rows, columns = np.nonzero(np.asarray(image).mean(-1) > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("text", ["flip(1.0)", "flip(1.0, 1.0)", "flip(0.5)", "jitter", "erase"])
def test_flips_take_boxes_along(text):
    given = batch()
    made = jax.jit(augment.make(text))(jax.random.key(0), given)
    if "flip" in text:
        for image, boxes in zip(made["inputs"]["image"], made["boxes"], strict=True):
            assert extents(image) == np.asarray(boxes[0]).tolist()
    else:
        np.testing.assert_array_equal(made["boxes"], given["boxes"])
    np.testing.assert_array_equal(made["classes"], given["classes"])
    np.testing.assert_array_equal(made["boxes"][1:, 1], 0)


def test_crops_take_boxes_along_and_lose_those_whose_centre_is_outside():
    given, crop = batch(), jax.jit(augment.make("crop(least=0.2, most=0.6)"))
    places = np.stack([*np.mgrid[:40, :60], np.zeros((40, 60))], -1)[None].repeat(3, 0)
    where = {**given, "inputs": {"image": np.float32(places)}}  # pixels say where they are from
    kept = lost = 0
    for seed in range(20):
        made, of = (jax.device_get(crop(jax.random.key(seed), own)) for own in (given, where))
        for image, place, boxes, classes, ignored in zip(
            made["inputs"]["image"],
            of["inputs"]["image"],
            *(made[name] for name in ("boxes", "classes", "ignored")),
            strict=True,
        ):
            ends = place[[0, -1], [0, -1], :2] + 0.5  # first and last row and column
            beyond = np.abs((14, 20) - ends.mean(0)) - np.ptp(ends, 0) / 2  # of the box's centre
            if classes[0] >= 0 and not ignored[0]:
                np.testing.assert_allclose(boxes[0], extents(image), atol=1.6)  # interpolated
                assert (beyond < 0.5).all()
                kept += 1
            else:
                assert (beyond > 0).any()
                lost += 1
    assert kept > 10 and lost > 10


@pytest.mark.parametrize("text", ["shift", "randaugment", "mixup", "cutmix"])
def test_what_boxes_cannot_follow_is_refused(text):
    with pytest.raises(UserError, match="boxes"):
        augment.make(text)(jax.random.key(0), batch())


@pytest.mark.parametrize("number", range(4))
def test_mirrored_views_take_boxes_along(number):
    given = batch((60, 60))
    images = views.view(given["inputs"]["image"].astype(np.uint8), number)
    made = views.of_boxes(given, np.full(3, number), 60)
    assert extents(images[0]) == made["boxes"][0, 0].tolist()
    np.testing.assert_array_equal(made["boxes"][1:, 1], 0)
    with pytest.raises(UserError, match="boxes follow none, flip and flips"):
        views.require_mirrors("crops")


def test_windows_are_the_same_with_numpy_and_jax():
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 50, (4, 7, 2, 2)), 2).reshape(4, 7, 4).astype(np.float32)
    classes = rng.integers(-1, 3, (4, 7)).astype(np.int32)
    window = np.array([[5, 5, 30, 40]] * 4, np.float32)
    given = corners, classes, rng.random((4, 7)) < 0.2, window
    ours = windows.seen(*given)
    for one, other in zip(ours, jax.jit(windows.seen)(*map(jnp.asarray, given)), strict=True):
        np.testing.assert_array_equal(one, other)
    boxes, classes, ignored = ours
    assert (boxes[..., 2:] <= [25, 35]).all() and (boxes >= 0).all()
    assert not ignored[classes < 0].any()


@pytest.mark.parametrize("size", [64])
def test_composed_scenes_have_exact_boxes_and_share_nothing(size):
    from tl_jax.data.boxes.scenes import sized
    from tl_jax.data.tasks import composed

    task = tl_jax.load_task("composed:digits", count=24, size=size, seed=3)
    assert task.classes == tuple("0123456789")
    assert task.image(0).size == (size, size)
    again = tl_jax.load_task("composed:digits", count=24, size=size, seed=3)
    assert again.fingerprint == task.fingerprint
    assert again.image(5).tobytes() == task.image(5).tobytes()
    assert tl_jax.load_task("composed:digits", count=24, size=size).fingerprint != task.fingerprint
    parts = composed.digits()
    scenes = composed.scenes_of(parts, task.splits, seed=3, val=0.1, test=0.25, side=size, most=3)
    used = {split: {kind: set() for kind in ("things", "grounds")} for split in task.splits}
    for split, rows in task.splits.items():
        for row in rows:
            used[split]["grounds"].add(scenes[row].ground)
            used[split]["things"] |= {one.thing for one in scenes[row].placed}
            for one, box in zip(scenes[row].placed, task.truth["boxes"][row], strict=False):
                alone = np.zeros((size, size))
                opaque = np.asarray(sized(one, parts))[..., 3]
                x, y = one.corner
                alone[y : y + opaque.shape[0], x : x + opaque.shape[1]] = opaque
                rows_, columns = np.nonzero(alone >= alone.max() / 2)
                edges = [columns.min(), rows_.min(), columns.max() + 1, rows_.max() + 1]
                assert edges == box.tolist()
    for kind in ("things", "grounds"):
        assert not used["train"][kind] & used["test"][kind]
        assert not used["train"][kind] & used["val"][kind]
        assert not used["val"][kind] & used["test"][kind]


def test_some_classes_alone(photos):
    task = load(photos, only=["dog"])
    assert task.classes == ("dog",) and len(task.ids) == len(SIZES)
    assert task.truth["boxes"][0].tolist() == [[50, 30, 60, 40]]
    assert task.truth["classes"][:3].tolist() == [[0], [0], [-1]]
    both = load(photos, only=["dog", "cat"])
    assert both.truth["classes"][0].tolist() == [1, 0]
    with pytest.raises(UserError, match="did you mean 'dog'"):
        load(photos, only=["dogs"])


def test_batches_have_boxes_in_pixels_of_their_views(photos):
    expected, task = SQUARE.of_task(load(photos))
    source = Source(task, prefix.decoded(task, expected), 2, views.numbers("flip"))
    rows = np.array([0, 0, 7])
    made = source.batch(rows, np.array([0, 1, 1]))
    assert made["inputs"]["image"].shape == (3, 48, 48, 3)
    x1, y1, x2, y2 = made["boxes"][0, 0]
    assert made["boxes"][1, 0].tolist() == [48 - x2, y1, 48 - x1, y2]
    assert made["classes"][2].tolist() == [-1, -1] and not made["boxes"][2].any()
    assert {name: made[name].dtype.name for name in ("boxes", "classes", "ignored")} == {
        "boxes": "float32", "classes": "int32", "ignored": "bool"
    }  # fmt: skip
    patch = made["inputs"]["image"][1][:, ::-1]
    np.testing.assert_array_equal(patch, made["inputs"]["image"][0])


def test_folds_of_boxes_test_every_image_once(photos):
    tests = [load(photos, folds=2, fold=fold).splits["test"] for fold in (0, 1)]
    assert sorted(np.concatenate(tests)) == list(range(len(SIZES)))


def test_regions_of_tiles_keep_those_that_overlap_together():
    from tl_jax.data.tasks.crowns import regions_of

    lefts, tops = (0, 400, 800, 849), (0, 400, 635)
    ids = tuple(f"a.png#{x},{y}" for y in tops for x in lefts) + ("b.png#0,0",)
    regions = regions_of(ids)
    assert regions[:4] == ["a 0,0", "a 0,0", "a 1,0", "a 1,0"]
    assert len(set(regions)) == 3 and regions[-1] == "b 0,0"


def test_what_is_for_classes_refuses_boxes_in_a_line(photos):
    task = load(photos)
    with pytest.raises(UserError, match="asks for boxes"):
        _ = task.labels


def test_stamps_are_photographs_or_drawings_of_the_same_classes(tmp_path, monkeypatch):
    from tl_jax.data.tasks import composed

    stamps, photographs = tmp_path / "stamps", tmp_path / "photographs"
    photographs.mkdir()
    for number in range(3):
        PIL.Image.new("RGB", (90, 80), (60 * number, 0, 0)).save(photographs / f"{number}.jpg")
    for name in composed.CLASSES:
        for kind, grey in (("", 200), ("cartoon", 100)):
            folder = stamps / name / "inner" / kind
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = np.zeros((20, 30, 4), np.uint8)
                pixels[5:15, 10 : 20 + number] = grey, grey, grey, 255
                PIL.Image.fromarray(pixels).save(folder / f"{number}.png")
    folders = {"usr/share/tuxpaint/stamps": stamps, "usr/share/tuxpaint/templates": photographs}
    monkeypatch.setattr(composed, "fetched", lambda *_, member: folders[member])
    composed.stamps.cache_clear()
    try:
        for style, grey in (("photo", 200), ("drawing", 100)):
            parts = composed.stamps(style)
            assert parts.classes == composed.CLASSES and parts.labels.tolist() == sorted(
                [*range(4)] * 3
            )
            assert {thing.shape[:2] for thing in parts.things} == {(10, 10), (10, 11), (10, 12)}
            assert {int(thing[0, 0, 0]) for thing in parts.things} == {grey}
            task = tl_jax.load_task("composed:stamps", count=6, size=48, style=style)
            assert task.truth["boxes"].shape[2] == 4 and task.image(0).size == (48, 48)
        with pytest.raises(UserError, match="did you mean 'drawing'"):
            tl_jax.load_task("composed:stamps", style="drawings")
    finally:
        composed.stamps.cache_clear()


def test_crowns_are_trees_in_regions_that_are_in_one_split(tmp_path, monkeypatch):
    from tl_jax.data.tasks import crowns

    rng, side = np.random.default_rng(0), 3 * crowns.TILE + 50
    for name, kind in (("a", "Tree"), ("b", "Dead"), ("c", "Alive")):
        pixels = np.full((side, side, 3), 90, np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        places = rng.integers(0, side - 40, (40, 2)).tolist()
        objects = "".join(
            f"<object><name>{kind}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
            f"<xmax>{x + 40}</xmax><ymax>{y + 30}</ymax></bndbox></object>"
            for x, y in places
        )
        text = VOC.format(file=f"{name}.png", w=side, h=side, objects=objects)
        (tmp_path / f"{name}.xml").write_text(text)
    monkeypatch.setattr(crowns, "fetched", lambda *_, member: tmp_path)
    task = tl_jax.load_task("packaged:tree_crowns", seed=1)
    assert task.classes == ("tree",) and task.tile == crowns.TILE
    assert len(task.ids) == 3 * 4 * 4 and len(set(task.groups)) == 3 * 2 * 2
    of_splits = [{task.groups[row] for row in rows} for rows in task.splits.values()]
    assert sum(map(len, of_splits)) == 12  # no region is in two
    # Of every crown the tile of its centre has it; only tiles that overlap have it twice.
    assert counted(task.truth).sum() >= 120
    few = tl_jax.load_task("packaged:tree_crowns", seed=1, labelled=4)
    assert len(few.splits["train"]) == 4 and set(few.splits["train"]) <= set(task.splits["train"])
    with pytest.raises(
        UserError, match="unknown option of task 'packaged:tree_crowns' 'per_class'"
    ):
        tl_jax.load_task("packaged:tree_crowns", per_class=4)
