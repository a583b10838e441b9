"""Checkpoints of a run: each whole or absent, verified when read, the newest two kept.

The only file that knows about Orbax. A folder is complete before it gets its name, so a killed save
leaves nothing that looks like a checkpoint:

    000007_step1200/state/         the leaves, as Orbax writes them
    000007_step1200/record.json    step, meta, kind and sha256 of every leaf
    000007_step1200/SHA256SUMS     of both, as `sha256sum -c` reads it

Orbax loads an array with a flipped byte without a word. Hence two sets of checksums: over the
files, verified before Orbax parses any of them (it prints tracebacks from its threads when it finds
damage itself), and over the arrays, taken before it wrote and verified after it read.

The number in front is that of the save: the order is the order of saving. So a step may be saved
twice (a phase that ends, the next that begins) with no moment at which neither is whole; Orbax's
CheckpointManager would drop the second save without a word.

One process owns a directory: it alone calls `save`, `restore_latest` and `remove_leftovers`.
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

KEEP = 2  # one more than the newest: what to fall back to when the newest turns out damaged
_FOLDER = re.compile(r"(\d+)_step(\d+)")
_UNFINISHED = ".orbax-checkpoint-tmp"
_SET_ASIDE = ".unreadable"
_SUMS = "SHA256SUMS"
_NO_SPACE = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]


class Restored(NamedTuple):
    step: int
    state: PyTree
    meta: dict


def save(directory: str | os.PathLike, step: int, state: PyTree, meta: dict) -> None:
    """Writes a checkpoint, returns when it is whole, then removes all but the newest two.

    `state`: any pytree of jax and numpy arrays, typed PRNG keys and Python numbers; a jax array
    must be whole on this process (replicated, not split over processes). `meta`: JSON-able;
    tuples come back as lists. `UserError` when the disk is full; what was there before stays.
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
        megabytes = math.ceil(1.1 * _nbytes(arrays) / 1e6) + 1
        raise UserError(f"no space left at {directory}: free {megabytes} MB and run the same "
                        "command again; the checkpoints saved before are intact") from error
    for old in [*_folders(directory)[:-KEEP], *directory.glob(f"*{_SET_ASIDE}")]:
        shutil.rmtree(old)


def restore_latest(
    directory: str | os.PathLike, make_template: Callable[[dict], PyTree]
) -> Restored | None:
    """The newest checkpoint that is whole, or None when there is none at all.

    `make_template` gets the checkpoint's meta and returns a pytree of the state's structure, whose
    leaves (arrays or `ShapeDtypeStruct`) say shape, dtype and, where they have one, sharding. The
    state comes back in that structure: numpy leaves as numpy, Python numbers as such, others as
    jax arrays. A damaged checkpoint is set aside with a warning, the one before is used.
    `UserError` when all are damaged, or when the state saved is not the one of the template.
    """
    newest = _newest_whole(directory)
    if newest is None:
        return None
    folder, record, arrays, damaged = newest
    template = make_template(record["meta"])
    wanted = _by_path(template)
    _check_same(wanted, record["leaves"], folder)
    placed = [_place(arrays[path], leaf) for path, leaf in wanted.items()]
    state = jax.tree.structure(template).unflatten(placed)
    # Otherwise a damaged one would count as one of the two kept. The next save deletes it.
    for bad in damaged:
        with suppress(OSError):  # a read-only disk: nothing will be saved on it either
            bad.rename(bad.with_name(bad.name + _SET_ASIDE))
    return Restored(record["step"], state, record["meta"])


def latest_meta(directory: str | os.PathLike) -> dict | None:
    """Meta of the newest checkpoint that is whole, None when there is none; changes nothing."""
    newest = _newest_whole(directory)
    return None if newest is None else newest[1]["meta"]


def remove_leftovers(directory: str | os.PathLike) -> None:
    """Removes what a killed save left behind. For the owner of the directory, with no save running.

    `save` does so too; call it at the start to have the space back before.
    """
    for unfinished in Path(directory).glob(f"*{_UNFINISHED}"):
        shutil.rmtree(unfinished)


def _write(folder: Path, record: str, arrays: dict[str, np.ndarray]) -> None:
    import orbax.checkpoint as ocp  # here, not above: its import takes about a second

    unfinished = folder.with_name(folder.name + _UNFINISHED)
    unfinished.mkdir(parents=True)
    try:
        _require_room(unfinished, _nbytes(arrays))
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(unfinished / "state", args=ocp.args.PyTreeSave(arrays))
        (unfinished / "record.json").write_text(record)
        (unfinished / _SUMS).write_text(_file_sums(unfinished))
        unfinished.rename(folder)
    finally:  # nothing is there after the rename; after a failure a thread may still be writing
        shutil.rmtree(unfinished, ignore_errors=True)


def _require_room(folder: Path, needed: int) -> None:
    """OSError if there is no room. Asked first: where Orbax finds none, its threads print pages."""
    # Some file systems, an unlimited tmpfs among them, report 0 of 0 bytes.
    disk = shutil.disk_usage(folder)
    if disk.total and disk.free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if needed and hasattr(os, "posix_fallocate"):  # Linux: this asks quotas and limits, too
        with (folder / "room").open("wb") as room:
            try:
                os.posix_fallocate(room.fileno(), 0, needed)
            except OSError as error:
                if _is_no_space(error):
                    raise
        (folder / "room").unlink()


def _folders(directory: Path) -> list[Path]:
    """The checkpoints in the order of saving."""
    if not directory.is_dir():
        return []
    return sorted((p for p in directory.iterdir() if _FOLDER.fullmatch(p.name)), key=_parse)


def _parse(folder: Path) -> tuple[int, int]:
    number, _, step = folder.name.partition("_step")
    return int(number), int(step)


def _newest_whole(directory: str | os.PathLike) -> tuple[Path, dict, dict, list[Path]] | None:
    """(folder, record, arrays by path, the damaged folders that are newer)."""
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
    """Record and arrays by path, everything verified; any exception means damage."""
    import orbax.checkpoint as ocp

    sums, found = (folder / _SUMS).read_bytes(), _file_sums(folder)
    if sums != found.encode():
        odd = {*sums.decode(errors="replace").splitlines()} ^ {*found.splitlines()}
        names = sorted({line[66:] for line in odd}) or [_SUMS]
        raise ValueError(f"{names[0]} is missing or differs from its checksum")
    record = json.loads((folder / "record.json").read_text())
    paths = record["leaves"]
    args = ocp.args.PyTreeRestore(
        item=dict.fromkeys(paths, 0),
        restore_args=dict.fromkeys(paths, ocp.RestoreArgs(restore_type=np.ndarray)),
    )
    with ocp.PyTreeCheckpointer() as checkpointer:
        arrays = checkpointer.restore(folder / "state", args=args)
    for path, sha256 in record["sha256"].items():
        if _array_sha256(arrays[path]) != sha256:
            raise ValueError(f"{path} differs from its checksum")
    return record, arrays


def _file_sums(folder: Path) -> str:
    """A line for every file, `<sha256>  <path from here>`, but for those that desktops add."""
    lines = []
    for path in sorted(folder.rglob("[!.]*")):
        if path.is_file() and path.name != _SUMS:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append(f"{sha256}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)


def _array_sha256(array: np.ndarray) -> str:
    """Over dtype, shape and bytes. The bytes as uint8: bfloat16 has no buffer of its own."""
    sha256 = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    sha256.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha256.hexdigest()


def _by_path(tree: PyTree) -> dict[str, Any]:
    """Leaves by path, in the order of `jax.tree.leaves`."""
    pairs = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
             for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    leaves = dict(pairs)
    if len(leaves) < len(pairs):
        raise ValueError("two leaves of the state have the same path")
    return leaves


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _kind(leaf: Any) -> str:
    """What must agree between the saved leaf and the template's: `float32[4,10]`, `int`, …"""
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


def _place(array: np.ndarray, leaf: Any) -> Any:
    """The array as the leaf of the template wants it."""
    if not hasattr(leaf, "dtype"):
        return array.item()
    if isinstance(leaf, np.ndarray | np.generic):
        return array
    if _is_key(leaf):  # the implementation's name can be had of a key only, not of its dtype
        impl = jax.random.key_impl(jnp.empty((), leaf.dtype))
        array = jax.random.wrap_key_data(jnp.asarray(array), impl=impl)
    # Committing what was not committed would make jit refuse it beside arrays on a mesh.
    placed = jax.device_put(array, leaf.sharding if getattr(leaf, "committed", True) else None)
    if placed.dtype != leaf.dtype:
        raise UserError(f"JAX makes {placed.dtype} of the {leaf.dtype} saved: set JAX_ENABLE_X64=1")
    return placed


def _check_same(template: dict[str, Any], saved: dict[str, str], folder: Path) -> None:
    wanted = {path: _kind(leaf) for path, leaf in template.items()}
    odd = [
        f"{path} is {saved.get(path, 'missing')} there, {wanted.get(path, 'missing')} here"
        for path in sorted({*wanted, *saved}) if wanted.get(path) != saved.get(path)
    ]
    if odd:
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise UserError(f"checkpoint {folder} is of another state: {'; '.join(odd[:3])}{more}; run "
                        "with the configuration it was made with, or into another folder")


def _is_no_space(error: BaseException | None) -> bool:
    """TensorStore raises ValueError, not OSError, and Orbax wraps what its threads raise."""
    while error is not None:
        if any(text in str(error) for text in _NO_SPACE):
            return True
        error = error.__cause__ or error.__context__
    return False
