"""A task from a folder of images, one sub-folder a class."""

import functools
import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tl_jax import interrupt
from tl_jax.data import duplicates as same
from tl_jax.data.files import NAMED, listed, path_of, walk
from tl_jax.data.images import (
    FULL,
    Levels,
    Range,
    bands_of,
    common_bands,
    digest,
    fingerprint,
    open_image,
    read_image,
)
from tl_jax.data.layout import folder_name, grouped, normal
from tl_jax.data.splits import divide
from tl_jax.data.task import SPLITS, Task
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.errors import UserError, unknown

logger = logging.getLogger(__name__)

DIM = 64  # levels of 256: a set of 16-bit images with fewer is scaled to its own range
FEW = 16  # shades of 256: fewer are said
SKIP = "on_unreadable=skip"
DROP = "duplicates=drop"


def folder(
    path: str | os.PathLike,
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    on_unreadable: str = "stop",
    duplicates: str = "keep",
    large: bool = False,
) -> Task:
    """A task of the images below `path`, which has one sub-folder a class; or whose sub-folders are
    splits by name (train, val, test; `tl_jax.data.layout.SPLIT_NAMES`), each with one a class. Then
    `val` and `test`, where there is no such folder, are fractions of train.

    Every file in a class folder, however deep, counts as an image, but what systems leave behind
    (`tl_jax.data.files`). All are decoded once now, in threads, so that a damaged one stops the
    task here and not in training; with on_unreadable='skip' such files are left out and listed in
    `Task.skipped`. duplicates='drop' leaves out files that are byte for byte the same as another.

    Images of 16 bits a band that leave fewer than 64 of 256 levels in use are scaled to the range
    of all of them, `Task.grey_range`. `large` is of tiles: see `open_image`.
    """
    root = path_of(path)
    groups = grouped(root)
    classes = tuple(sorted({name for _, name in groups}))
    _require_classes(root, classes)
    group_of = dict(sorted((id_, group) for group, ids in groups.items() for id_ in ids))

    def require(kept: Collection[str], faults: Mapping[str, str]) -> None:
        _require_all(root, groups, {group_of[id_] for id_ in kept}, faults)

    how = {"on_unreadable": on_unreadable, "duplicates": duplicates, "large": large}
    digests, known = readable(root, group_of, require=require, **how)
    ids = tuple(digests)
    place = root.absolute()  # wherever the program goes meanwhile
    split_of, names = np.array([group_of[id_] for id_ in ids]).T
    given = {split: np.flatnonzero(split_of == split) for split in SPLITS if split in split_of}
    splits = divide(given, names, seed=seed, val=val, test=test, per_class=per_class)
    same.warn(str(root), list(digests.values()), splits, f"; leave them out with {DROP}")
    return Task(
        name=folder_name(root),
        classes=classes,
        ids=ids,
        open=lambda index: open_image(place / ids[index], known["grey_range"], large=large),
        truth=unweighted(np.searchsorted(classes, names), len(classes)),
        splits=splits,
        fingerprint=fingerprint(ids, digests.values()),
        folder=str(place),
        **known,
    )


def readable(
    root: Path,
    group_of: Mapping[str, tuple[str, str]],
    *,
    on_unreadable: str,
    duplicates: str,
    large: bool,
    require: Callable[[Collection[str], Mapping[str, str]], None] = lambda kept, faults: None,
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files below `root` that make a task, with their digests; and what the task says of them:
    `skipped`, `grey_range`, `channels`.

    group_of: split and class of each file. `require(kept, faults)` refuses what is left of them.
    """
    _require_known("on_unreadable", on_unreadable, ("stop", "skip"))
    _require_known("duplicates", duplicates, ("keep", "drop"))
    digests, faults, levels, bands = verify(root, group_of, large=large)
    require(digests, faults)
    if faults and on_unreadable == "stop":
        raise unreadable(root, faults, len(group_of))
    tell_skipped(root, faults, len(group_of))
    if not digests:
        raise UserError(f"{str(root)!r} has none of these images that can be read")
    if duplicates == "drop":
        digests = dropped(root, digests, group_of)
        require(digests, {})
    channels = common_bands({name: bands[name] for name in digests})
    known = {"skipped": tuple(faults), "channels": channels}
    return digests, known | {"grey_range": grey_range_of(root, levels)}


def gallery(path: str | os.PathLike, *, large: bool = False) -> Task:
    """Images to be looked up, however they lie in folders: a task all of which is its test split.

    Classes are the sub-folders, if every image is in one and there are several; else there is only
    one class, named as the folder. Files that cannot be decoded are left out and listed in
    `Task.skipped`.
    """
    root = path_of(path)
    if not root.is_dir():
        raise UserError(f"{str(root)!r} is not a folder; give one with images in it")
    digests, faults, levels, bands = verify(root, walk(root).files, large=large)
    if not digests:
        raise UserError(f"{str(root)!r} has no image that can be read in it")
    ids, grey_range = tuple(digests), grey_range_of(root, levels)
    place = root.absolute()  # wherever the program goes meanwhile
    names = [normal(id_.split("/")[0]) if "/" in id_ else "" for id_ in ids]
    if "" in names or len(set(names)) < 2:
        names = [folder_name(root)] * len(ids)
    classes = tuple(sorted(set(names)))
    none = np.array([], np.int64)
    return Task(
        name=folder_name(root),
        classes=classes,
        ids=ids,
        open=lambda index: open_image(place / ids[index], grey_range, large=large),
        truth=unweighted(np.searchsorted(classes, names), len(classes)),
        splits={"train": none, "val": none, "test": np.arange(len(ids))},
        fingerprint=fingerprint(ids, digests.values()),
        channels=common_bands(bands),
        grey_range=grey_range,
        skipped=tuple(faults),
    )


def _require_classes(root: Path, classes: Collection[str]) -> None:
    if len(classes) < 2:
        (only,) = classes
        raise UserError(
            f"{str(root)!r} has one class, {only!r}; a task needs at least 2. If those are the "
            "folders inside it, give its path"
        )


def _require_known(option: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise unknown(f"value of {option}", value, known)


class Content(NamedTuple):
    """What is in a file."""

    digest: bytes  # SHA-256
    levels: Levels | None  # if it has 16 bits a band
    bands: int


class Verified(NamedTuple):
    """What was found in files."""

    digests: dict[str, bytes]  # SHA-256 of each that can be decoded
    faults: dict[str, str]  # what is wrong with each of the others
    levels: list[Levels]  # of each that has 16 bits a band
    bands: dict[str, int]  # of each


def verify(root: Path, names: Collection[str], *, large: bool = False) -> Verified:
    """What is in these files below the folder, all of which are decoded, in threads."""

    def check(name: str) -> Content | str:
        path = root / name
        if not os.path.isfile(path):  # opening a pipe would wait for ever
            return f"cannot read {str(path)!r}: not a file"
        found = path.stat()
        return _content(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns, large)

    checked, pool = {}, ThreadPoolExecutor()
    try:
        for name, result in zip(names, pool.map(check, names), strict=True):
            interrupt.check()
            checked[name] = result
    finally:  # no `with`: left by a signal, it would wait until every file is read
        pool.shutdown(cancel_futures=True)
    read = {name: result for name, result in checked.items() if not isinstance(result, str)}
    return Verified(
        {name: content.digest for name, content in read.items()},
        {name: fault for name, fault in checked.items() if isinstance(fault, str)},
        [own for content in read.values() if (own := content.levels) is not None],
        {name: content.bands for name, content in read.items()},
    )


@functools.lru_cache(maxsize=1 << 17)
def _content(path: Path, size: int, modified: int, changed: int, large: bool) -> Content | str:
    """What is in a file, or what is wrong with it. Kept, because a study reads its task once for
    each of its stages; a file of another size or time is read again.
    """
    try:
        image, levels = read_image(path, large=large)
        return Content(digest(path), levels, bands_of(image))
    except UserError as error:
        return str(error)


def grey_range_of(root: Path, levels: list[Levels]) -> Range | None:
    """The range of the images of 16 bits a channel, if scaling all levels to 256 would leave fewer
    than `DIM` of them.

    Rare values, such as a hot pixel, are clipped where they would cost half of the shades. What is
    lost all the same, as where one image is bright and the others dark, is said.
    """
    if not levels:
        return None
    whole, common = (_hull(kind) for kind in zip(*(own[:2] for own in levels), strict=True))
    found = common if _width(whole) > 2 * _width(common) > 0 else whole
    clipped = "" if found == whole else (
        f"; what lies beyond, to {whole[0]} and {whole[1]}, is rare and clipped"
    )  # fmt: skip
    if not 0 < _width(found) < DIM * 257:
        found = None
    else:
        logger.info(
            "%s: of 65,536 levels the %d images of 16 bits a channel use those from %d to %d, "
            "which become 0 to 255%s", root, len(levels), *found, clipped,
        )  # fmt: skip
    _tell_dim(root, levels, found or FULL)
    return found


def _hull(ranges: Iterable[Range]) -> Range:
    least, most = zip(*ranges, strict=True)
    return min(least), max(most)


def _width(levels: Range) -> int:
    return levels[1] - levels[0]


def _tell_dim(root: Path, levels: list[Levels], scaled_from: Range) -> None:
    usual = int(np.median([own.usual for own in levels]))
    shades = 1 + usual * 255 // _width(scaled_from)
    if 0 < usual and shades < FEW:
        logger.warning(
            "%s: half of the %d images of 16 bits a channel keep %d of 256 shades or fewer for "
            "98 %% of their pixels; save them stretched to their range, with 8 bits",
            root, len(levels), shades,
        )  # fmt: skip


def dropped(
    root: Path, digests: dict[str, bytes], group_of: Mapping[str, tuple[str, str]]
) -> dict[str, bytes]:
    """Those of the files, with their digests, of which no two are the same (`duplicates.distinct`).
    """
    kept, left_out = same.distinct(digests, group_of)
    if left_out:
        count, some = len(left_out), listed(left_out)
        logger.warning("%s: %d duplicates are left out: %s", root, count, some)
    return {name: digests[name] for name in kept}


def tell_skipped(root: Path, faults: Iterable[str], total: int) -> None:
    """Log which files were left out, if any were."""
    if names := list(faults):
        what = "%s: %d of %d files are not readable images and are left out: %s"
        logger.warning(what, root, len(names), total, listed(names))


def unreadable(root: Path, faults: dict[str, str], total: int) -> UserError:
    """What is said of files that are no images, where they stop the task."""
    more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    return UserError(
        f"{len(faults)} of {total} files in {str(root)!r} are not readable images: "
        f"{'; '.join(list(faults.values())[:NAMED])}{more}. Mend or remove them, or leave them out "
        f"with {SKIP}"
    )


def _require_all(root: Path, groups, filled, faults: Mapping[str, str]) -> None:
    """UserError for a class without an image in a split; one of its files' `faults` says why."""
    splits = {split for split, _ in groups}
    for (split, name), ids in sorted(groups.items()):
        if (split, name) not in filled:
            where = f"{split} of {str(root)!r}" if len(splits) > 1 else repr(str(root))
            why = next((f" ({faults[id_]})" for id_ in sorted(ids) if id_ in faults), "")
            raise UserError(
                f"class {name!r} has no readable image in {where}{why}; add some, or move the "
                "folder elsewhere if it is no class"
            )
