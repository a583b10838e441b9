"""Tasks of boxes, from files in COCO's form and in Pascal VOC's."""

import os

from tl_jax.data.boxes import coco as coco_form
from tl_jax.data.boxes import voc as voc_form
from tl_jax.data.boxes.pictures import task_of
from tl_jax.data.boxes.truth import MOST
from tl_jax.data.files import path_of
from tl_jax.data.layout import folder_name
from tl_jax.data.task import Task


def coco(
    path: str | os.PathLike,
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    labelled: int = 0,
    val_json: str = "",
    test_json: str = "",
    images: str = "",
    group: str = "",
    most: int = MOST,
    on_unreadable: str = "stop",
    duplicates: str = "keep",
    large: bool = False,
) -> Task:
    """A task of the boxes in a JSON file in COCO's form (`tl_jax.data.boxes.coco`).

    `images`: the folder below which the files lie that it names; empty: it is looked for beside
    each file. `val_json` and `test_json` are files of other splits; without them `val` and `test`
    are shares that are split off at random. `group` is the entry of an image that says what must
    stay in one split, as "location" of camera traps. `labelled`: how many images to train on, 0:
    all; `val` is cut in proportion. `most`: boxes of an image. What is done about unreadable files,
    duplicates and large images: see `folder`.
    """
    place = path_of(path)
    files = {"": place}
    if val_json or test_json:
        given = {"train": place, "val": val_json, "test": test_json}
        files = {split: path_of(file) for split, file in given.items() if file}
    root, pictures, classes = coco_form.read(files, group, images)
    return task_of(
        place.stem, root, pictures, classes,
        seed=seed, val=val, test=test, labelled=labelled, most=most,
        on_unreadable=on_unreadable, duplicates=duplicates, large=large,
    )  # fmt: skip


def voc(
    path: str | os.PathLike,
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    labelled: int = 0,
    group: str = "",
    most: int = MOST,
    on_unreadable: str = "stop",
    duplicates: str = "keep",
    large: bool = False,
) -> Task:
    """A task of the boxes in a folder in Pascal VOC's form (`tl_jax.data.boxes.voc`), in the splits
    of its ImageSets/Main where they are; `group` is an element of each XML file, as "folder". The
    other options are those of `coco`.
    """
    root = path_of(path)
    pictures, classes = voc_form.read(root, group)
    return task_of(
        folder_name(root), root, pictures, classes,
        seed=seed, val=val, test=test, labelled=labelled, most=most,
        on_unreadable=on_unreadable, duplicates=duplicates, large=large,
    )  # fmt: skip
