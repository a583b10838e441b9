"""Boxes in COCO's form (cocodataset.org, "Data format"): a JSON file of `images`, `categories` and
`annotations`, whose `bbox` is left, top, width and height.
"""

import contextlib
import itertools
import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tl_jax.data.boxes.pictures import Picture
from tl_jax.data.boxes.truth import Box
from tl_jax.data.files import listed, path_of, shown
from tl_jax.errors import UserError, unknown

logger = logging.getLogger(__name__)

MOST_BYTES = 2**30  # COCO's own largest has less than half of that
LOOKED_AT = 20  # images, by which the folder of all is found
LARGE = 1e9  # pixels that no image has
PARTS = ("images", "categories", "annotations")


class Marked(NamedTuple):
    """An annotation that is a box."""

    image: str  # absolute path
    category: str
    edges: tuple[float, float, float, float]
    ignored: bool
    area: float | None


class Contents(NamedTuple):
    """What is in files of boxes."""

    root: Path  # the folder below which the images are
    pictures: dict[str, Picture]  # by path below it
    classes: tuple[str, ...]  # in the order of their ids


def read(files: Mapping[str, Path], group: str = "", folder: str = "") -> Contents:
    """Read files by split; "" where the file does not say.

    The images of each are below `folder` or, if that is empty, beside the file. Categories without
    a box are left out. `group` is what of an image's own entries must stay in one split, as
    "location" of camera traps. UserError, with the near miss, for what no reading would be right.
    """
    pictures: dict[str, Picture] = {}  # by absolute path
    names: dict[str, None] = {}
    marked: list[Marked] = []
    places: list[Path] = []
    for split, path in files.items():
        content = _content(path)
        images = _images(path, content["images"])
        first = [one["file_name"] for one in itertools.islice(images.values(), LOOKED_AT)]
        places.append((path_of(folder) if folder else _beside(path, first)).absolute())
        for entry in {one["file_name"]: one for one in images.values()}.values():
            entry["file_name"] = file = str(places[-1] / entry["file_name"])
            if file in pictures:
                raise UserError(f"{path.name}: {shown(file)} is in another split as well")
            pictures[file] = Picture([], _said_size(entry), split, _group(path, entry, group))
        categories = _categories(path, content["categories"])
        marked += _marked(path, content["annotations"], images, categories)
        names |= dict.fromkeys(categories[id_] for id_ in sorted(categories, key=_order))
    used = {one.category for one in marked}
    classes = tuple(name for name in names if name in used)
    if left := [name for name in names if name not in used]:
        logger.warning("%d categories without a box are left out: %s", len(left), listed(left))
    if not classes:
        raise UserError(f"{listed([path.name for path in files.values()])}: there is no box")
    numbers = {name: number for number, name in enumerate(classes)}
    for one in marked:
        box = Box(one.edges, numbers[one.category], one.ignored, one.area)
        pictures[one.image].boxes.append(box)
    root = Path(os.path.commonpath(places))
    below = {Path(file).relative_to(root).as_posix(): one for file, one in pictures.items()}
    return Contents(root, below, classes)


def _beside(path: Path, names: Sequence[str]) -> Path:
    """The folder near a file of boxes that has the most of these images."""
    near = [path.parent, path.parent.absolute().parent]
    folders = [*near, *(each for one in near for each in _folders(one))]
    have = {folder: sum(os.path.isfile(folder / name) for name in names) for folder in folders}
    best = max(have, key=lambda folder: have[folder])
    if not have[best]:
        such = f", such as {names[0]!r:.120}," if names else ""
        raise UserError(
            f"{path}: none of its images{such} lies beside it: say which folder they are below, "
            "images="
        )
    return best


def _folders(place: Path) -> list[Path]:
    with contextlib.suppress(OSError):  # of another user
        return sorted(each for each in place.iterdir() if each.is_dir())
    return []


def _content(path: Path) -> dict[str, list[dict]]:
    """The lists of a file; UserError for one that is none of COCO's."""
    if not path.is_file():
        raise UserError(f"no such file of boxes: {path}")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise UserError(f"{str(path)!r} has {size:,} bytes, and {MOST_BYTES:,} are the most")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is no JSON ({error!s:.100})") from None
    lists = [content.get(part) for part in PARTS] if isinstance(content, dict) else [None]
    if not all(isinstance(own, list) and all(isinstance(o, dict) for o in own) for own in lists):
        form = ", ".join(f'"{part}": [{{...}}]' for part in PARTS)
        raise UserError(f"{str(path)!r} is not in COCO's form, {{{form}}}")
    return content


def _images(path: Path, entries: list[dict]) -> dict[Any, dict]:
    """The entries of images by id, each file once: boxes of a file that is listed twice are joined.

    UserError for an id that two files share, and for a path that leads elsewhere.
    """
    found: dict[Any, dict] = {}
    first: dict[str, dict] = {}
    twice = []
    for entry in entries:
        file, id_ = entry.get("file_name"), entry.get("id")
        if not isinstance(file, str) or not isinstance(id_, int | str):
            raise UserError(f"{path.name}: an image has an id and a file_name; got {entry!r:.120}")
        path_below = PurePosixPath(file.replace("\\", "/"))
        file = str(path_below)  # one name for a.png and ./a.png
        if path_below.is_absolute() or ".." in path_below.parts:
            raise UserError(
                f"{path.name} names the image {shown(file)!r:.120}: give paths below the images' "
                "folder"
            )
        if id_ in found and found[id_]["file_name"] != file:
            raise UserError(
                f"{path.name}: {shown(file)} and {shown(found[id_]['file_name'])} have the same "
                f"id {id_!r}, so nobody knows whose boxes are whose"
            )
        if file in first:
            twice.append(file)
        found[id_] = first.setdefault(file, {**entry, "file_name": file})
    if twice:
        line = "%s: %d images are listed again, and their boxes are joined: %s"
        logger.warning(line, path.name, len(twice), listed(sorted(set(twice))))
    return found


def _categories(path: Path, entries: list[dict]) -> dict[Any, str]:
    """The names of categories by id; UserError for two of one id or of one name."""
    found: dict[Any, str] = {}
    for entry in entries:
        name, id_ = entry.get("name"), entry.get("id")
        if not isinstance(name, str) or not isinstance(id_, int | str):
            raise UserError(f"{path.name}: a category has an id and a name; got {entry!r:.120}")
        if found.get(id_, name) != name or (name in found.values() and id_ not in found):
            raise UserError(
                f"{path.name}: the category {shown(name)!r} shares its id, {id_!r}, or its name "
                "with another; give each an id and a name of its own"
            )
        found[id_] = name
    return found


def _marked(
    path: Path, annotations: list[dict], images: Mapping, categories: Mapping
) -> list[Marked]:
    """The annotations; those of unlisted images and exact copies are left out, and that is said."""
    found: dict[Marked, None] = {}
    ids: Counter = Counter()
    lost = copies = 0
    for entry in annotations:
        id_ = entry.get("id")
        if _id(entry, "image_id") not in images:
            lost += 1
            continue
        if (category := _id(entry, "category_id")) not in categories:
            known = (f"{id_} ({name})" for id_, name in categories.items())
            raise unknown(f"category of annotation {id_!r:.40} in {path.name}", category, known)
        one = Marked(
            images[entry["image_id"]]["file_name"],
            categories[category],
            _edges(path, entry),
            bool(entry.get("iscrowd")) or bool(entry.get("ignore")),
            _positive(entry.get("area")),
        )
        copies += one in found
        ids[repr(id_)] += id_ is not None
        found[one] = None
    shared = sum(count > 1 for count in ids.values())
    for count, what in (
        (lost, "annotations are of images that are not listed, and are left out"),
        (copies, "annotations say the same as another, and are left out"),
        (shared, "ids are of several annotations, all of which are read"),
    ):
        if count:
            logger.warning("%s: %d %s", path.name, count, what)
    return list(found)


def _edges(path: Path, entry: Mapping) -> tuple[float, float, float, float]:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise UserError(
            f"{path.name}: the annotation {entry.get('id')!r:.40} needs a bbox [left, top, width, "
            f"height] of finite numbers; got {box!r:.80}"
        )
    left, top, width, height = map(float, box)
    return left, top, left + width, top + height


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -LARGE < value < LARGE


def _id(entry: Mapping, name: str) -> float | str | None:
    """What an entry is of; None for a list or an object, which is no id."""
    value = entry.get(name)
    return value if isinstance(value, int | float | str) else None


def _positive(value: Any) -> float | None:
    return float(value) if _is_number(value) and value > 0 else None


def _said_size(entry: Mapping) -> tuple[int, int] | None:
    width, height = _positive(entry.get("width")), _positive(entry.get("height"))
    return (int(width), int(height)) if width and height else None


def _group(path: Path, entry: Mapping, group: str) -> str:
    if not group:
        return ""
    if group not in entry:
        what = f"entry (group=) of the image {entry['file_name']} in {path.name}"
        raise unknown(what, group, entry)
    return str(entry[group])


def _order(id_: Any) -> tuple[bool, Any]:
    """Numbers by value, then texts."""
    return isinstance(id_, str), id_
