"""A task from a folder of images, one sub-folder a class."""

import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tl_jax.data.images import digest, fingerprint, open_image
from tl_jax.data.splits import divide
from tl_jax.data.task import SPLITS, Task
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.errors import UserError, unknown

SPLIT_FOLDERS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
CLUTTER = ("thumbs.db", "desktop.ini")  # what Windows leaves in folders of images
NAMED = 3  # unreadable files that an error names


def folder(
    path: str | os.PathLike,
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    on_unreadable: str = "stop",
) -> Task:
    """A task of the images below `path`, which has one sub-folder a class; or has the sub-folders
    train, test and perhaps val (or validation), each with one a class, and then those are the
    splits, and `val`, where there is no such folder, is a fraction of train.

    Every file in a class folder, however deep, counts as an image, hidden ones aside. All are
    decoded once now, in threads, so that a damaged one stops the task here and not in training;
    with on_unreadable='skip' such files are left out and listed in `Task.skipped`.
    """
    if on_unreadable not in ("stop", "skip"):
        raise unknown("value of on_unreadable", on_unreadable, ("stop", "skip"))
    root = Path(path).expanduser()
    groups = _groups(root)
    classes = tuple(sorted({name for _, name in groups}))
    if len(classes) < 2:
        raise UserError(f"{str(root)!r} has one class, {classes[0]!r}; a task needs at least 2")
    group_of = dict(sorted((id_, group) for group, ids in groups.items() for id_ in ids))
    digests, faults = _verify(root, group_of)
    if faults and on_unreadable == "stop":
        raise _unreadable(root, faults, len(group_of))
    _require_all(root, groups, filled={group_of[id_] for id_ in digests})
    ids = tuple(digests)
    split_of, names = np.array([group_of[id_] for id_ in ids]).T
    given = {split: np.flatnonzero(split_of == split) for split in SPLITS if split in split_of}
    return Task(
        name=root.resolve().name,
        classes=classes,
        ids=ids,
        open=lambda index: open_image(root / ids[index]),
        truth=unweighted(np.searchsorted(classes, names), len(classes)),
        splits=divide(given, names, seed=seed, val=val, test=test, per_class=per_class),
        fingerprint=fingerprint(ids, digests.values()),
        skipped=tuple(faults),
    )


def gallery(path: str | os.PathLike) -> Task:
    """Images to be looked up, however they lie in folders: a task all of which is its test split.

    Classes are the sub-folders, if every image is in one and there are several; else there is only
    one class, named as the folder. Files that cannot be decoded are left out and listed in
    `Task.skipped`.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise UserError(f"{str(root)!r} is not a folder; give one with images in it")
    digests, faults = _verify(root, sorted(p.relative_to(root).as_posix() for p in _files(root)))
    if not digests:
        raise UserError(f"{str(root)!r} has no image that can be read in it")
    ids = tuple(digests)
    names = [id_.split("/")[0] if "/" in id_ else "" for id_ in ids]
    if "" in names or len(set(names)) < 2:
        names = [root.resolve().name] * len(ids)
    classes = tuple(sorted(set(names)))
    none = np.array([], np.int64)
    return Task(
        name=root.resolve().name,
        classes=classes,
        ids=ids,
        open=lambda index: open_image(root / ids[index]),
        truth=unweighted(np.searchsorted(classes, names), len(classes)),
        splits={"train": none, "val": none, "test": np.arange(len(ids))},
        fingerprint=fingerprint(ids, digests.values()),
        skipped=tuple(faults.values()),
    )


def _groups(root: Path) -> dict[tuple[str, str], list[str]]:
    """The files of each (split, class), relative to `root`; all are 'train' if it has no splits."""
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise UserError(f"{str(root)!r} {what}; give the folder that has one sub-folder a class")
    return {
        (split, class_folder.name): [p.relative_to(root).as_posix() for p in _files(class_folder)]
        for split, top in _split_folders(root).items()
        for class_folder in _subfolders(top)
    }


def _split_folders(root: Path) -> dict[str, Path]:
    folders = _subfolders(root)
    split_of = {p: SPLIT_FOLDERS.get(p.name.lower()) for p in folders}
    splits = [split for split in split_of.values() if split]
    if len(splits) < len(folders) and not {"train", "test"} <= set(splits):
        return {"train": root}  # a class may be called 'test'
    if len(splits) < len(folders) or sorted(splits) not in (["test", "train"], sorted(SPLITS)):
        raise UserError(
            f"{str(root)!r} has the folders {', '.join(f.name for f in folders)}: name them train, "
            "test and, if there is one, val; or have one folder a class and no such names"
        )
    return {split: top for top, split in split_of.items() if split}


def _subfolders(top: Path) -> list[Path]:
    try:
        entries = sorted(p for p in top.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise UserError(f"cannot read the folder {str(top)!r}: {error.strerror}") from error
    folders = [p for p in entries if p.is_dir()]
    if not folders:
        has = "files, but no sub-folders" if entries else "nothing in it"
        raise UserError(
            f"{str(top)!r} has {has}; put the images of each class in a sub-folder of it"
        )
    return folders


def _files(top: Path) -> Iterator[Path]:
    def refuse(error: OSError):
        raise UserError(f"cannot read the folder {error.filename!r}: {error.strerror}") from error

    for here, folders, files in os.walk(top, onerror=refuse):  # links to folders: not followed
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and name.lower() not in CLUTTER:
                yield Path(here, name)


def _verify(root: Path, names: Collection[str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """SHA-256 of each file that can be decoded, and what is wrong with each of the others."""

    def check(name: str) -> bytes | str:
        try:
            if not (root / name).is_file():  # opening a pipe would wait for ever
                raise UserError(f"cannot read {str(root / name)!r}: not a file")
            open_image(root / name)
            return digest(root / name)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        checked = dict(zip(names, pool.map(check, names), strict=True))
    digests = {name: result for name, result in checked.items() if isinstance(result, bytes)}
    return digests, {name: fault for name, fault in checked.items() if isinstance(fault, str)}


def _unreadable(root: Path, faults: dict[str, str], total: int) -> UserError:
    more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    return UserError(
        f"{len(faults)} of {total} files in {str(root)!r} are not readable images: "
        f"{'; '.join(list(faults.values())[:NAMED])}{more}. Mend or remove them, or leave them out "
        "with on_unreadable='skip'"
    )


def _require_all(root: Path, groups, filled) -> None:
    splits = {split for split, _ in groups}
    for split, name in sorted({(split, name) for split in splits for _, name in groups}):
        if (split, name) not in filled:
            where = f"{split} of {str(root)!r}" if len(splits) > 1 else repr(str(root))
            raise UserError(f"class {name!r} has no readable image in {where}; add some or drop it")
