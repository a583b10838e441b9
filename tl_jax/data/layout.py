"""Which of a folder's sub-folders are splits, and which are classes."""

import logging
import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from tl_jax.data.files import listed, path_of, walk
from tl_jax.data.task import SPLITS
from tl_jax.errors import UserError

logger = logging.getLogger(__name__)

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_MOVE = "move {} elsewhere to have it split off train"
Below = Mapping[str, list[str]]  # folder, "" for the top: names of the folders directly in it


def grouped(root: Path) -> dict[tuple[str, str], list[str]]:
    """The files of each (split, class), relative to `root`; all are 'train' if it has no splits.

    Names of classes are in Unicode's form NFC, so folders whose names look alike are one class.
    UserError for a folder without classes and for one where splits and classes are not clear.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise UserError(f"{str(root)!r} {what}; give the folder that has one sub-folder a class")
    found = walk(root)
    below: dict[str, list[str]] = {"": []}
    for folder in found.folders:
        parent, _, name = folder.rpartition("/")
        below.setdefault(parent, []).append(name)
    _require_folders(root, "", below, found.files)
    split_of = _splits(root, below)
    for top in sorted(split_of, key=lambda top: SPLITS.index(split_of[top])):
        _require_folders(root, top, below, found.files)
    _require_same_classes(root, {split: below[top] for top, split in split_of.items()})
    groups = {(split, normal(name)): [] for top, split in split_of.items() for name in below[top]}
    strays, depth = [], 0 if "" in split_of else 1
    for id_ in found.files:
        parts = id_.split("/")
        if len(parts) < depth + 2:
            strays.append(id_)
            continue
        split = split_of[parts[0] if depth else ""]
        groups[split, normal(parts[depth])].append(id_)
    if strays:
        what = "%s: %d files in no class folder are left out: %s"
        logger.warning(what, root, len(strays), listed(strays))
    return groups


def folder_name(path: str | os.PathLike) -> str:
    """A folder's own name, without the way to it."""
    return Path(os.path.abspath(path_of(path))).name or "folder"


def normal(name: str) -> str:
    """The name of a class from that of its folder: in form NFC, as macOS and others differ."""
    return unicodedata.normalize("NFC", name)


def _splits(root: Path, below: Below) -> dict[str, str]:
    """The split of each folder in `root`; {"": "train"} if they are classes."""
    names = below[""]
    known = {name: SPLIT_NAMES[name.lower()] for name in names if name.lower() in SPLIT_NAMES}
    splits = sorted(known.values())
    if len(known) == len(names) and "train" in splits and len(splits) == len(set(splits)):
        _tell_missing(root, splits)
        return known
    # A class may be called 'test'; then it holds images, not folders.
    if len(known) > 1 or known and (len(names) == 1 or any(name in below for name in known)):
        raise _unclear(root, names)
    alike = [name for name in names if name in below and _sounds_like(name)]
    if len({_sounds_like(name) for name in alike}) > 1:
        raise _unclear(root, names)
    if len(names) > 1 and all(_are_splits(below.get(name, [])) for name in names):
        raise UserError(
            f"{str(root)!r} has splits inside its classes ({names[0]}/{below[names[0]][0]}): put "
            f"the splits above, as train/{names[0]}, or leave them out to have them drawn"
        )
    return {"": "train"}


def _tell_missing(root: Path, splits: list[str]) -> None:
    missing = [split for split in SPLITS if split not in splits]
    if missing:
        has, lacks = " and ".join(s for s in SPLITS if s in splits), " and ".join(missing)
        logger.info("%s has %s: %s will be split off train", root, has, lacks)


def _sounds_like(name: str) -> str | None:
    """The split that a name such as 'training_set' or 'seg_train' makes one think of."""
    words = re.findall(r"[a-z]+", name.lower())
    found = (SPLIT_NAMES.get(word) or SPLIT_NAMES.get(word.removesuffix("set")) for word in words)
    return next(filter(None, found), None)


def _are_splits(names: list[str]) -> bool:
    return "train" in {SPLIT_NAMES.get(name.lower()) for name in names} and all(
        name.lower() in SPLIT_NAMES for name in names
    )


def _unclear(root: Path, names: list[str]) -> UserError:
    return UserError(
        f"{str(root)!r} has the folders {listed(names, 8)}: are these splits or classes? As "
        "splits, name them train, test and, if there is one, val, each once, and have no other "
        "folder beside them; as classes, give them no such names"
    )


def _require_folders(root: Path, top: str, below: Below, files: tuple[str, ...]) -> None:
    if not below.get(top):
        inside = any(name.startswith(f"{top}/" if top else "") for name in files)
        has = "files, but no sub-folders" if inside else "nothing in it"
        or_else = f", or {_MOVE.format(top)}" if top and SPLIT_NAMES[top.lower()] != "train" else ""
        raise UserError(
            f"{str(root / top)!r} has {has}; put the files of each class in a sub-folder of it"
            f"{or_else}"
        )


def _require_same_classes(root: Path, classes: Mapping[str, list[str]]) -> None:
    """UserError if a split has not the classes of train; `classes`: the folders of each split."""
    known = {split: {normal(name) for name in names} for split, names in classes.items()}
    for split in sorted(known.keys() - {"train"}):
        told = [
            f"only {one} has {listed(sorted(known[one] - known[other]))}"
            for one, other in (("train", split), (split, "train"))
            if known[one] - known[other]
        ]
        if told:
            raise UserError(
                f"the classes of train and {split} in {str(root)!r} differ ({'; '.join(told)}): "
                f"give both the same class folders, or {_MOVE.format(split)}"
            )
