"""Arrays on disk that are computed once, checked whenever they are opened, and mapped, not read.

A store is a folder: `data` (raw rows), `rows.jsonl` (a checksum for each finished block of rows;
the other processes of a run add theirs to `rows-1.jsonl` and so on), `what` (it holds, in words),
`lock`.
What was interrupted, altered or lost is found by its checksum and computed again.
"""

import contextlib
import errno
import hashlib
import json
import logging
import math
import mmap
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax import interrupt, locks
from tl_jax.engine import processes
from tl_jax.errors import UserError

logger = logging.getLogger(__name__)

FILES = re.compile(r"data|rows(-\d+)?\.jsonl|what|lock")  # all that is in a store's folder
BLOCK = 64  # rows that are computed, written and checked together


class Store(NamedTuple):
    """Rows of an array in a folder, there already or not."""

    folder: pathlib.Path
    shape: tuple[int, ...]  # (rows, ...)
    dtype: Any  # anything that names a type of numpy's
    what: str  # it holds

    @property
    def row_bytes(self) -> int:
        """Of one row, on disk."""
        return math.prod(self.shape[1:]) * np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        """Of all rows, on disk."""
        return self.shape[0] * self.row_bytes

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """First row and the row after the last of what is computed, written and checked at once."""
        rows = self.shape[0]
        return [(first, min(first + BLOCK, rows)) for first in range(0, rows, BLOCK)]

    def need(self) -> "Need":
        """What it will still take on disk. Whether what is there is whole is seen by `build`."""
        noted = _noted(self.folder)
        rows = sum(last - first for first, last in self.blocks if (first, last) not in noted)
        return Need(self.what, self.folder, rows * self.row_bytes)


class Need(NamedTuple):
    """Disk that something will take."""

    what: str
    folder: pathlib.Path  # in which it will be written, there already or not
    nbytes: int


def require_room(needs: Iterable[Need]) -> None:
    """Say what will be written and where; UserError if a disk has less room than it will take."""
    by_disk: dict[int, list[Need]] = {}
    for need in needs:
        if need.nbytes:
            by_disk.setdefault(_existing(need.folder).stat().st_dev, []).append(need)
    for own in by_disk.values():
        where, total = own[0].folder.parent, sum(need.nbytes for need in own)
        free = shutil.disk_usage(_existing(where)).free
        each = ", ".join(f"{need.what}: {_megabytes(need.nbytes)}" for need in own)
        said = f"{each}; {_megabytes(total)}" if len(own) > 1 else each
        logger.info("%s on disk in %s (%s free)", said, where, _megabytes(free))
        if total > free:
            why = f"{_megabytes(total)} are needed ({each}), {_megabytes(free)} are free"
            raise _no_space(where, why)


def build(
    kept: Store,
    compute: Callable[[int, int], np.ndarray],
    *,
    progress: Callable[[Iterator[int], int], Iterator[int]] = lambda blocks, total: blocks,
) -> np.ndarray:
    """A store's array, read-only, with rows `compute(first, last)`, mapped from disk.

    Only blocks of rows that are not there or fail their checksum are computed. Several processes
    compute a part each, on devices of their own. UserError if the disk has not the room for them,
    or cannot be written; a whole store need not be.
    """
    folder, what = kept.folder, kept.what
    if not os.access(_existing(folder), os.W_OK):
        if len(_verified(kept, kept.blocks)) < len(kept.blocks):
            why = f"{folder.parent} cannot be written, and lacks what is needed ({what})"
            raise UserError(f"{why}: choose another folder (cache=)")
        return np.memmap(folder / "data", kept.dtype, "r", shape=kept.shape)
    with _disk_full_is_said(folder), _held_for_all(folder, what):
        blocks = processes.part(kept.blocks)
        done = _verified(kept, blocks)
        todo = [block for block in blocks if block not in done]
        if todo:
            lacking = sum(last - first for first, last in todo) * kept.row_bytes
            require_room([Need(what, folder, lacking)])
            _compute(kept, todo, compute, progress)
    return np.memmap(folder / "data", kept.dtype, "r", shape=kept.shape)


@contextlib.contextmanager
def _held_for_all(folder: pathlib.Path, what: str) -> Generator[None]:
    """Hold the store's lock, and note what the store is; of several processes the first holds it
    until all have left.
    """
    with contextlib.ExitStack() as stack:
        if processes.first():
            stack.enter_context(locks.held(folder / "lock", what=f"{what} in {folder}"))
            _note(folder, what)
        processes.together()
        yield
        processes.together()


def take(rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """`rows[numbers]`, in memory of their own.

    Of rows that are mapped, what was read is given back to the system, to keep or drop: it would
    count as the process's own.
    """
    taken = rows[numbers]
    if isinstance(rows.base, mmap.mmap):
        rows.base.madvise(mmap.MADV_DONTNEED)
    return taken


def _compute(kept: Store, todo, compute, progress) -> None:
    folder, row_bytes, dtype = kept.folder, kept.row_bytes, np.dtype(kept.dtype)
    with open(folder / "data", "ab"):
        pass
    # Written, not mapped: a full disk is then an OSError and not a bus error.
    notes = folder / processes.named("rows", ".jsonl")
    with open(folder / "data", "r+b", buffering=0) as data, open(notes, "a") as log:
        log.write("\n")  # ends what a kill left of a line
        for first, last in progress(iter(todo), len(todo)):
            interrupt.check()
            content = np.ascontiguousarray(compute(first, last), dtype).tobytes()
            assert len(content) == (last - first) * row_bytes, "compute gave rows of another shape"
            data.seek(first * row_bytes)
            view = memoryview(content)
            while view:  # an unbuffered write may be partial
                view = view[data.write(view) :]
            line = {"first": first, "last": last, "sha256": hashlib.sha256(content).hexdigest()}
            log.write(json.dumps(line) + "\n")
            log.flush()


def _noted(folder: pathlib.Path) -> dict[tuple[int, int], str]:
    """The checksums of the blocks that were written, as far as there are data."""
    noted = {}
    if (folder / "data").exists():
        files = sorted(folder.glob("rows*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        for line in "\n".join(path.read_text(errors="replace") for path in files).splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                entry = json.loads(line)  # of a line that is torn, ValueError
                noted[entry["first"], entry["last"]] = entry["sha256"]
    return noted


def _verified(kept: Store, blocks: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of the blocks whose rows on disk have the checksum noted when they were written."""
    folder, noted, good = kept.folder, _noted(kept.folder), set()
    if noted:
        with open(folder / "data", "rb") as data:
            for first, last in blocks:
                data.seek(first * kept.row_bytes)
                content = data.read((last - first) * kept.row_bytes)
                if noted.get((first, last)) == hashlib.sha256(content).hexdigest():
                    good.add((first, last))
        bad = len([block for block in blocks if block in noted]) - len(good)
        if bad:
            logger.warning("%s: %d damaged blocks are computed again", folder, bad)
    return good


def _existing(folder: pathlib.Path) -> pathlib.Path:
    """The folder, or the nearest one above that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:.1f} MB"


def _no_space(where: pathlib.Path, why: str) -> UserError:
    return UserError(
        f"no space left in {where}: {why}; free some (python -m experiments.cache lists "
        "and deletes what is kept), or choose a folder on another disk (cache=, workdir=)"
    )


@contextlib.contextmanager
def _disk_full_is_said(folder: pathlib.Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise _no_space(folder.parent, os.strerror(error.errno or errno.ENOSPC)) from error


class Kept(NamedTuple):
    """A store on disk."""

    folder: pathlib.Path
    what: str  # it holds
    nbytes: int  # on disk
    used: float  # seconds since the epoch


def kept(cache: pathlib.Path) -> list[Kept]:
    """The stores right below `cache`, the one used longest ago first; other folders are no stores.
    """
    found = []
    for folder in cache.iterdir() if cache.is_dir() else ():
        files = {path.name: path.stat() for path in folder.iterdir()} if folder.is_dir() else {}
        begun = "lock" in files and any(name.startswith("rows") for name in files)
        if begun and all(map(FILES.fullmatch, files)) and not folder.is_symlink():
            what = (folder / "what").read_text() if "what" in files else "of an older version"
            nbytes = sum(512 * one.st_blocks for one in files.values())
            found.append(Kept(folder, what, nbytes, files["lock"].st_mtime))
    return sorted(found, key=lambda one: (one.used, one.folder))


def remove(one: Kept) -> bool:
    """Delete a store, unless a process is building it; return whether it was deleted.

    Runs that read it go on reading: what is mapped stays until the last of them ends.
    """
    with locks.held_if_free(one.folder / "lock") as free:
        if free:
            for path in [*one.folder.iterdir()]:
                if path.name != "lock" and FILES.fullmatch(path.name):
                    path.unlink()
            (one.folder / "lock").unlink()
            one.folder.rmdir()
    return free


def _note(folder: pathlib.Path, what: str) -> None:
    """Keep what the folder holds and, as the time of its lock, when it was last used."""
    os.utime(folder / "lock")
    if not (folder / "what").exists():
        (folder / "what").write_text(what)
