"""Arrays on disk that are computed once, checked whenever they are opened, and mapped, not read.

A store is a folder: `data` (raw rows), `rows.jsonl` (a checksum for each finished block of rows),
`what` (it holds, in words), `lock`.
What was interrupted, altered or lost is found by its checksum and computed again.
"""

import contextlib
import errno
import hashlib
import json
import logging
import mmap
import os
import pathlib
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax import interrupt, locks
from tl_jax.errors import UserError

logger = logging.getLogger(__name__)

FILES = {"data", "rows.jsonl", "what", "lock"}  # all that is in a store's folder
BLOCK = 64  # rows that are computed, written and checked together


def build(
    folder: pathlib.Path,
    shape: Sequence[int],
    dtype: Any,  # anything that names a type of numpy's
    compute: Callable[[int, int], np.ndarray],
    *,
    what: str,
    progress: Callable[[Iterator[int], int], Iterator[int]] = lambda blocks, total: blocks,
) -> np.ndarray:
    """A read-only array of `shape` (rows, ...) with rows `compute(first, last)`, mapped from disk.

    Only blocks of rows that are not there or fail their checksum are computed. Says beforehand how
    much disk it takes; UserError if the disk has less.
    """
    rows, dtype = shape[0], np.dtype(dtype)
    row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
    blocks = [(first, min(first + BLOCK, rows)) for first in range(0, rows, BLOCK)]
    with _disk_full_is_said(folder), locks.held(folder / "lock", what=f"{what} in {folder}"):
        _note(folder, what)
        done = _verified(folder, blocks, row_bytes)
        todo = [b for b in blocks if b not in done]
        if todo:
            _announce(folder, what, sum(last - first for first, last in todo) * row_bytes)
            _compute(folder, todo, row_bytes, dtype, compute, progress)
    return np.memmap(folder / "data", dtype, "r", shape=tuple(shape))


def take(rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """`rows[numbers]`, in memory of their own.

    Of rows that are mapped, what was read is given back to the system, to keep or drop: it would
    count as the process's own.
    """
    taken = rows[numbers]
    if isinstance(rows.base, mmap.mmap):
        rows.base.madvise(mmap.MADV_DONTNEED)
    return taken


def _compute(folder, todo, row_bytes, dtype, compute, progress) -> None:
    with open(folder / "data", "ab"):
        pass
    # Written, not mapped: a full disk is then an OSError and not a bus error.
    with open(folder / "data", "r+b", buffering=0) as data, open(folder / "rows.jsonl", "a") as log:
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


def _verified(folder, blocks, row_bytes) -> set[tuple[int, int]]:
    """The blocks whose rows on disk have the checksum noted when they were written."""
    noted = {}
    if (folder / "rows.jsonl").exists():
        for line in (folder / "rows.jsonl").read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a torn last line
                entry = json.loads(line)
                noted[entry["first"], entry["last"]] = entry["sha256"]
    good = set()
    if noted and (folder / "data").exists():
        with open(folder / "data", "rb") as data:
            for first, last in blocks:
                data.seek(first * row_bytes)
                content = data.read((last - first) * row_bytes)
                if noted.get((first, last)) == hashlib.sha256(content).hexdigest():
                    good.add((first, last))
        bad = len([b for b in blocks if b in noted]) - len(good)
        if bad:
            logger.warning("%s: %d damaged blocks are computed again", folder, bad)
    return good


def _announce(folder: pathlib.Path, what: str, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    logger.info("%s: %.1f MB on disk in %s (%.0f MB free)", what, needed / 1e6, folder, free / 1e6)
    if needed > free:
        raise _no_space(folder, f"{what} needs {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free")


def _no_space(folder: pathlib.Path, why: str) -> UserError:
    return UserError(
        f"no space left in {folder}: {why}; free some or choose another disk with --config.cache"
    )


@contextlib.contextmanager
def _disk_full_is_said(folder: pathlib.Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise _no_space(folder, os.strerror(error.errno or errno.ENOSPC)) from error


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
        if {"lock", "rows.jsonl"} <= files.keys() <= FILES and not folder.is_symlink():
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
            for name in sorted(FILES - {"lock"}):
                (one.folder / name).unlink(missing_ok=True)
            (one.folder / "lock").unlink()
            one.folder.rmdir()
    return free


def _note(folder: pathlib.Path, what: str) -> None:
    """Keep what the folder holds and, as the time of its lock, when it was last used."""
    os.utime(folder / "lock")
    if not (folder / "what").exists():
        (folder / "what").write_text(what)
