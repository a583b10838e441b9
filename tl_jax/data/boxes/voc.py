"""Boxes in Pascal VOC's form (Everingham et al. 2010, IJCV 88, 303-338): an XML file an image.

Pixels are numbered from 1 there, and a box has its first and its last ones, xmin and xmax. Its
edges are xmin - 1 and xmax.
"""

import logging
import math
import re
import xml.etree.ElementTree as tree
from collections.abc import Sequence
from pathlib import Path

from tl_jax.data.boxes import xml
from tl_jax.data.boxes.pictures import Picture
from tl_jax.data.boxes.truth import Box
from tl_jax.data.files import listed, walk
from tl_jax.data.layout import SPLIT_NAMES
from tl_jax.errors import UserError

logger = logging.getLogger(__name__)

ANNOTATIONS, IMAGES, SETS = "Annotations", "JPEGImages", "ImageSets/Main"
SUFFIXES = "avif bmp gif jp2 jpeg jpg png ppm tif tiff webp".split()
MOST_LINES = 2**26  # bytes of a list of images


def read(root: Path, group: str = "") -> tuple[dict[str, Picture], tuple[str, ...]]:
    """Return the images below a folder that have an XML file, by path, and the sorted classes.

    XML files are in Annotations and images in JPEGImages, or both anywhere. ImageSets/Main has the
    names of each split, if there is one. An image has the name of its XML file, or the one that
    the file says. `group` is the element that says what must stay in one split, as "folder".
    """
    annotations, images = _files(root)
    splits, by_stem, by_name = _splits(root), _by(images, "stem"), _by(images, "name")
    pictures, marked, unlisted = {}, {}, []
    for file in annotations:
        stem = Path(file).stem
        if splits and stem not in splits:
            unlisted.append(file)
            continue
        element = xml.read(root / file)
        said = re.split(r"[/\\]", element.findtext("filename") or "")[-1].strip()
        found = _images_of(file, said, by_stem, by_name)
        if len(found) > 1:
            raise UserError(f"{str(root)!r}: {file} may be of {listed(found)}; keep one of them")
        image = found[0] if found else _missing(root, file, said)
        if image in pictures:
            raise UserError(f"{str(root)!r}: {file} is the second XML file of {image}; keep one")
        own = _text(file, element, group) if group else ""
        pictures[image] = Picture([], _said_size(element), splits.get(stem, ""), own)
        marked[image] = [_object(file, one) for one in element.findall("object")]
    lost = [image for image in images if image not in pictures]
    if unlisted:
        line = "%s: %d XML files are of no split in %s and are left out: %s"
        logger.warning(line, root, len(unlisted), SETS, listed(unlisted))
    elif lost:
        line = "%s: %d images have no XML file and are left out: %s"
        logger.warning(line, root, len(lost), listed(lost))
    classes = tuple(sorted({name for own in marked.values() for name, _, _ in own}))
    if not classes:
        raise UserError(f"{str(root)!r}: none of the {len(annotations)} XML files has an object")
    for image, own in marked.items():
        boxes = (Box(edges, classes.index(name), hard) for name, edges, hard in own)
        pictures[image].boxes.extend(boxes)
    return pictures, classes


def _files(root: Path) -> tuple[list[str], list[str]]:
    """The XML files and the images below the folder."""
    if not root.is_dir():
        raise UserError(f"{str(root)!r} is no folder; give the one with {ANNOTATIONS}, {IMAGES}")
    files = walk(root).files

    def of(folder: str, suffixes: Sequence[str]) -> list[str]:
        own = [file for file in files if file.lower().rpartition(".")[2] in suffixes]
        return [file for file in own if file.startswith(f"{folder}/")] or own

    annotations = of(ANNOTATIONS, ("xml",))
    if not annotations:
        raise UserError(f"{str(root)!r} has no XML file in it; VOC has one for each image")
    return annotations, of(IMAGES, SUFFIXES)


def _splits(root: Path) -> dict[str, str]:
    """The split of each name in ImageSets/Main, where there is one."""
    found: dict[str, str] = {}
    lists = {path.stem: path for path in sorted((root / SETS).glob("*.txt"))}
    known = {name: split for name, split in SPLIT_NAMES.items() if name in lists}
    if "train" not in known.values() and "trainval" in lists:
        known["trainval"] = "train"
    for name, split in known.items():
        if lists[name].stat().st_size > MOST_LINES:
            raise UserError(f"{lists[name]} has more than {MOST_LINES:,} bytes")
        for line in lists[name].read_text("utf-8", "replace").splitlines():
            for own in line.split()[:1]:
                if found.setdefault(own, split) != split:
                    raise UserError(f"{str(root / SETS)!r}: {own!r} is in {found[own]} and {split}")
    return found


def _by(images: Sequence[str], part: str) -> dict[str, list[str]]:
    """The images by a part of their paths: stem or name."""
    found: dict[str, list[str]] = {}
    for image in images:
        found.setdefault(getattr(Path(image), part), []).append(image)
    return found


def _images_of(
    file: str, said: str, by_stem: dict[str, list[str]], by_name: dict[str, list[str]]
) -> list[str]:
    """The images that an XML file may be of: those of its stem, in its own folder if there are any.

    What the file says is the image's name decides between several, and where there is none; it is
    often out of date.
    """
    same = by_stem.get(Path(file).stem, [])
    near = [image for image in same if Path(image).parent == Path(file).parent] or same
    named = [image for image in near or by_name.get(said, []) if Path(image).name == said]
    return named if len(named) == 1 else near


def _missing(root: Path, file: str, said: str) -> str:
    """What the path of an XML file's image should be, where there is none."""
    home = Path(IMAGES) if (root / IMAGES).is_dir() else Path(file).parent
    return (home / (said or f"{Path(file).stem}.jpg")).as_posix()


def _object(file: str, one: tree.Element) -> tuple[str, tuple[float, float, float, float], bool]:
    """Name, edges, and whether it is difficult, of one object."""
    corners = [_text(file, one, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x1, y1, x2, y2 = map(float, corners)
    except ValueError:
        x1 = y1 = x2 = y2 = math.nan
    if not math.isfinite(x1 + y1 + x2 + y2):
        raise UserError(f"{file}: a bndbox has four finite numbers; got {', '.join(corners)!r:.80}")
    hard = (one.findtext("difficult") or "0").strip().lower() not in ("", "0", "false")
    return _text(file, one, "name"), (x1 - 1, y1 - 1, x2, y2), hard


def _text(file: str, element: tree.Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise UserError(f"{file}: <{element.tag}> has no <{path}>")
    return text


def _said_size(element: tree.Element) -> tuple[int, int] | None:
    """Width and height, where the file has them; some tools write 0."""
    try:
        size = tuple(int(float(element.findtext(f"size/{s}") or 0)) for s in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (size[0], size[1]) if min(size) > 0 else None
