"""Checkpoints of a run: each whole or absent and verified when read; the newest two are kept.

This is the only file that knows about Orbax. A folder is complete before it gets its name, so a
killed save leaves nothing that looks like a checkpoint:

    000007_step1200/state/         the leaves, as Orbax writes them
    000007_step1200/record.json    step, meta, kind and sha256 of every leaf
    000007_step1200/SHA256SUMS     of both, as `sha256sum -c` reads it

Orbax silently loads an array with a flipped byte. So there are two sets of checksums: of the files,
verified before Orbax parses any of them (it prints tracebacks from its threads when it finds damage
itself), and of the arrays, computed before Orbax writes and verified after it reads.

The first number counts saves. So a step can be saved twice (as the end of a phase and the start of
the next), and one of the two is whole at any moment; Orbax's CheckpointManager would silently drop
the second save.

One process owns a directory: it alone calls `save` and `remove_leftovers`. The others of its run
may call `restore_latest`.
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from tl_jax.errors import UserError

PyTree = Any

BESIDE = 2**20  # bytes of records and of Orbax's own files, at the most
KEEP = 2  # the newest, and one to fall back to if the newest is damaged
_FOLDER = re.compile(r"(\d+)_step(\d+)")
_UNFINISHED = ".orbax-checkpoint-tmp"
_SET_ASIDE = ".unreadable"
_SUMS = "SHA256SUMS"
_NO_SPACE = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]


class Restored(NamedTuple):
    """A checkpoint that was read and verified."""

    step: int
    state: PyTree
    meta: dict


def save(directory: str | os.PathLike, step: int, state: PyTree, meta: dict) -> None:
    """Write a checkpoint, then remove all but the newest two.

    `state` is any pytree of JAX and numpy arrays, typed PRNG keys and Python numbers; a JAX array
    must be whole on this process (replicated, not split over processes). `meta` must be
    JSON-serialisable; its tuples come back as lists. UserError if the disk is full; earlier
    checkpoints stay.
    """
    directory = Path(directory).absolute()
    leaves = _by_path(state)
    arrays = {path: _to_numpy(path, leaf) for path, leaf in leaves.items()}
    record = json.dumps({
        "step": step,
        "meta": meta,
        "leaves": {path: _kind(leaf) for path, leaf in leaves.items()},
        "sha256": {path: _array_sha256(array) for path, array in arrays.items()},
    }, indent=1)
    remove_leftovers(directory)
    number = 1 + max((_parse(folder)[0] for folder in _folders(directory)), default=0)
    try:
        _write(directory / f"{number:06d}_step{step}", record, arrays)
    except Exception as error:
        if not _is_no_space(error):
            raise
        megabytes = math.ceil((1.1 * _nbytes(arrays) + BESIDE) / 1e6)
        raise UserError(f"no space left at {directory}: free {megabytes} MB and run the same "
                        "command again; earlier checkpoints are intact") from error
    for old in [*_folders(directory)[:-KEEP], *directory.glob(f"*{_SET_ASIDE}")]:
        shutil.rmtree(old)


def restore_latest(
    directory: str | os.PathLike, make_template: Callable[[dict], PyTree]
) -> Restored | None:
    """Return the newest whole checkpoint, or None if there is no checkpoint.

    `make_template` takes the checkpoint's meta and returns a pytree with the state's structure,
    whose leaves (arrays or `ShapeDtypeStruct`) have shape, dtype and perhaps a sharding. The
    restored state has that structure: its leaves are numpy arrays, Python numbers or JAX arrays, as
    in the template. A damaged checkpoint is set aside with a warning, and the one before is used.
    UserError if all are damaged, or if the saved state does not match the template.
    """
    newest = _newest_whole(directory)
    if newest is None:
        return None
    folder, record, arrays, damaged = newest
    template = make_template(record["meta"])
    expected = _by_path(template)
    _require_same(expected, record["leaves"], folder)
    leaves = [_as_leaf(arrays[path], leaf) for path, leaf in expected.items()]
    state = jax.tree.structure(template).unflatten(leaves)
    # Otherwise a damaged one would count as one of the two kept. The next save deletes it.
    for bad in damaged:
        with suppress(OSError):  # a read-only disk: nothing will be saved on it either
            bad.rename(bad.with_name(bad.name + _SET_ASIDE))
    return Restored(record["step"], state, record["meta"])


def latest_meta(directory: str | os.PathLike) -> dict | None:
    """Return the meta of the newest whole checkpoint, or None; change nothing on disk."""
    newest = _newest_whole(directory)
    return None if newest is None else newest[1]["meta"]


def remove_leftovers(directory: str | os.PathLike) -> None:
    """Remove what killed saves left behind; for the directory's owner, while no save is running.

    `save` calls this too; a call at the start of a run frees the space earlier.
    """
    for unfinished in Path(directory).glob(f"*{_UNFINISHED}"):
        shutil.rmtree(unfinished)


def _write(folder: Path, record: str, arrays: dict[str, np.ndarray]) -> None:
    import orbax.checkpoint as ocp  # here, not above: its import takes about a second

    unfinished = folder.with_name(folder.name + _UNFINISHED)
    unfinished.mkdir(parents=True)
    try:
        _require_room(unfinished, _nbytes(arrays))
        with _checkpointer() as checkpointer:
            checkpointer.save(unfinished / "state", args=ocp.args.PyTreeSave(arrays))
        (unfinished / "record.json").write_text(record)
        (unfinished / _SUMS).write_text(_file_sums(unfinished))
        unfinished.rename(folder)
    finally:  # it is gone after the rename; after a failure a thread may still be writing to it
        shutil.rmtree(unfinished, ignore_errors=True)


def _checkpointer() -> Any:
    """Return Orbax's checkpointer, for this process: it would wait for all processes of a run."""
    import orbax.checkpoint as ocp

    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(), multiprocessing_options=alone)


def _require_room(folder: Path, needed: int) -> None:
    """Raise OSError if the disk is too full, because Orbax's threads would print pages about it."""
    # Some file systems, an unlimited tmpfs among them, report 0 of 0 bytes.
    disk = shutil.disk_usage(folder)
    if disk.total and disk.free < 1.1 * needed + BESIDE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if needed and hasattr(os, "posix_fallocate"):  # on Linux, this checks quotas and limits too
        with (folder / "room").open("wb") as room:
            try:
                os.posix_fallocate(room.fileno(), 0, needed)
            except OSError as error:
                if _is_no_space(error):
                    raise
        (folder / "room").unlink()


def _folders(directory: Path) -> list[Path]:
    """Return the checkpoints' folders in the order of saving."""
    if not directory.is_dir():
        return []
    return sorted((p for p in directory.iterdir() if _FOLDER.fullmatch(p.name)), key=_parse)


def _parse(folder: Path) -> tuple[int, int]:
    number, _, step = folder.name.partition("_step")
    return int(number), int(step)


def _newest_whole(directory: str | os.PathLike) -> tuple[Path, dict, dict, list[Path]] | None:
    """Return (folder, record, arrays by path, newer folders that are damaged), or None."""
    damaged, reasons = [], []
    for folder in reversed(_folders(Path(directory).absolute())):
        try:
            record, arrays = _read(folder)
        except MemoryError:
            raise
        except Exception as error:  # damage shows as any exception: zstd, JSON, OCDBT, KeyError, …
            damaged.append(folder)
            first_line = next(iter(str(error).splitlines()), "")
            reasons.append(f"step {_parse(folder)[1]} is unreadable "
                           f"({type(error).__name__}: {first_line[:200]})")
            continue
        if damaged:
            logging.warning("checkpoint in %s: %s; using step %d instead",
                            directory, "; ".join(reasons), record["step"])
        return folder, record, arrays, damaged
    if damaged:
        raise UserError(f"no checkpoint in {directory} can be read: {'; '.join(reasons)}; restore "
                        "the folder from a copy, or move it away to start the run afresh")
    return None


def _read(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Return record and arrays by path, all verified; any exception means damage."""
    import orbax.checkpoint as ocp

    recorded, actual = (folder / _SUMS).read_bytes(), _file_sums(folder)
    if recorded != actual.encode():
        different = {*recorded.decode(errors="replace").splitlines()} ^ {*actual.splitlines()}
        names = sorted({line[66:] for line in different}) or [_SUMS]
        raise ValueError(f"{names[0]} is missing or differs from its checksum")
    record = json.loads((folder / "record.json").read_text())
    paths = record["leaves"]
    args = ocp.args.PyTreeRestore(
        item=dict.fromkeys(paths, 0),
        restore_args=dict.fromkeys(paths, ocp.RestoreArgs(restore_type=np.ndarray)),
    )
    with _checkpointer() as checkpointer:
        arrays = checkpointer.restore(folder / "state", args=args)
    for path, sha256 in record["sha256"].items():
        if _array_sha256(arrays[path]) != sha256:
            raise ValueError(f"{path} differs from its checksum")
    return record, arrays


def _file_sums(folder: Path) -> str:
    """Return a line for each file, `<sha256>  <path in folder>`, but not for hidden files."""
    lines = []
    for path in sorted(folder.rglob("[!.]*")):
        if path.is_file() and path.name != _SUMS:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append(f"{sha256}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)


def _array_sha256(array: np.ndarray) -> str:
    """Hash dtype, shape and bytes; these as uint8, since bfloat16 has no buffer interface."""
    sha256 = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    sha256.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha256.hexdigest()


def _by_path(tree: PyTree) -> dict[str, Any]:
    """Return the leaves by path, in the order of `jax.tree.leaves`."""
    pairs = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
             for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    leaves = dict(pairs)
    if len(leaves) < len(pairs):
        raise ValueError("two leaves of the state have the same path")
    return leaves


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _kind(leaf: Any) -> str:
    """Return what a saved leaf and the template's must have in common: `float32[4,10]`, `int`, …"""
    if not hasattr(leaf, "dtype"):
        return type(leaf).__name__
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _to_numpy(path: str, leaf: Any) -> np.ndarray:
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    if array.size == 0 or array.dtype.kind in "OSUMm":
        raise TypeError(f"{path}: a checkpoint cannot hold {_kind(leaf)}")
    return array


def _nbytes(arrays: dict[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays.values())


def _as_leaf(array: np.ndarray, leaf: Any) -> Any:
    """Return the array as the kind of leaf that the template has."""
    if not hasattr(leaf, "dtype"):
        return array.item()
    if isinstance(leaf, np.ndarray | np.generic):
        return array
    if _is_key(leaf):  # only a key knows its implementation's name; its dtype does not
        impl = jax.random.key_impl(jnp.empty((), leaf.dtype))
        array = jax.random.wrap_key_data(jnp.asarray(array), impl=impl)
    # If an uncommitted leaf came back committed, jit would refuse it beside arrays on a mesh.
    placed = jax.device_put(array, leaf.sharding if getattr(leaf, "committed", True) else None)
    if placed.dtype != leaf.dtype:
        raise UserError(f"JAX turns {leaf.dtype} into {placed.dtype}: set JAX_ENABLE_X64=1")
    return placed


def _require_same(template: dict[str, Any], saved: dict[str, str], folder: Path) -> None:
    expected = {path: _kind(leaf) for path, leaf in template.items()}
    different = [
        f"{path} is {saved.get(path, 'missing')} there, {expected.get(path, 'missing')} here"
        for path in sorted({*expected, *saved}) if expected.get(path) != saved.get(path)
    ]
    if different:
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise UserError(f"checkpoint {folder} is of another state: {'; '.join(different[:3])}"
                        f"{more}; run with the configuration it was made with, or into another "
                        "folder")


def _is_no_space(error: BaseException | None) -> bool:
    """Whether it says that the disk is full: TensorStore raises ValueError, which Orbax wraps."""
    while error is not None:
        if any(text in str(error) for text in _NO_SPACE):
            return True
        error = error.__cause__ or error.__context__
    return False
