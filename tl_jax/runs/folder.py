"""A results folder: one process at a time, one config, and `result.json` once all is done."""

import contextlib
import errno
import fcntl
import json
import logging
import math
import os
import pathlib
from collections.abc import Callable, Generator, Iterable, Mapping

import jax

from tl_jax import report
from tl_jax.data.files import is_leftover, path_of
from tl_jax.engine import processes
from tl_jax.errors import UserError
from tl_jax.runs.config import differences
from tl_jax.runs.results import read_json, write_json
from tl_jax.train.identity import changed_data

logger = logging.getLogger(__name__)

READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
ANY_TIME = ("cache", "checkpoint_seconds")  # settings that do not change what a run finds


def finished(
    work: Callable[[], dict],
    config: dict,
    workdir: pathlib.Path,
    *,
    cache: str | os.PathLike | None,
    check: Callable[[], object] = lambda: None,
    data: Callable[[], dict] | None = None,
    images: Iterable[str] = (),
    needs_report: bool = True,
    stands: Callable[[dict], bool] = lambda result: True,
) -> tuple[dict, bool]:
    """Return the result that the folder holds; if it holds none, do the `work` first.

    Also return whether the result was there before. `config` is all that the result depends on, as
    JSON-able data; `cache` is a folder for what JAX compiles (empty or None: it is not kept).
    `check` raises UserError for what is wrong with the config, before anything slow is read. `data`
    loads the tasks and tells them, as `identity.of_tasks` does. `images` are the folders of their
    images. A result for which `stands` is false is computed again. UserError if another process
    works in the folder, if it belongs to another config or to other data, if it or the cache lies
    among the images, or if a report is needed and what draws it is not installed. Of several
    processes all do the work; the first writes, and the folder and the cache must be shared.
    """
    for folder in images:
        require_apart(folder, {"workdir": workdir, "cache": cache})
    with claimed(workdir, config) as result:
        if result is None:
            if needs_report:
                report.require()
            check()
        if data is not None and processes.first():
            _require_same_data(workdir, data, finished=result is not None)
        if result is not None and stands(result):
            return result, True
        if data is not None and processes.several():
            processes.require_same(data(), "the data")
        if cache:
            processes.require_shared(path_of(cache), "cache=")
        keep_compiled(cache)
        result = work()
        if processes.first():
            write_json(workdir / "result.json", result)  # last: it says that all is done
        processes.together()
    return result, False


def require_apart(images: str, written: Mapping[str, str | os.PathLike | None]) -> None:
    """UserError for a place to write at, by its setting, where the next walk would find a class."""
    top = path_of(images).resolve()
    for setting, place in written.items():
        found = path_of(place or "/").resolve()
        inside = found.is_relative_to(top)
        if inside and not any(map(is_leftover, found.relative_to(top).parts)):
            raise UserError(
                f"{setting}={place} lies in the folder of the images, {images}, and would be taken "
                "for a class there: choose one outside it"
            )


def keep_compiled(cache: str | os.PathLike | None) -> None:
    """Let JAX keep what it compiles in the folder `cache` (empty or None: it does not), for the
    next process. Of a folder that cannot be written it only takes what is there.
    """
    if not cache:
        return
    # Absolute, as JAX opens its files whenever it compiles, in whatever folder the program then is.
    folder = path_of(cache).absolute()
    compiled = folder / "compiled"
    if folder.is_dir() and not os.access(compiled if compiled.is_dir() else folder, os.W_OK):
        if not compiled.is_dir():
            return
        # No program takes so long to compile that it is written, which would be a warning each.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", math.inf)
    jax.config.update("jax_compilation_cache_dir", str(compiled))


@contextlib.contextmanager
def claimed(workdir: pathlib.Path, config: dict) -> Generator[dict | None]:
    """Hold the folder for this process and this config; yield its result if there is one.

    The first of several processes holds it for all. UserError if another process works there, if
    the folder belongs to another config, or if the processes do not share it.
    """
    with contextlib.ExitStack() as stack:
        if processes.first():
            stack.enter_context(_held(workdir, config))
        processes.require_shared(workdir, "workdir=")
        done = workdir / "result.json"
        yield _read(done) if done.exists() else None


@contextlib.contextmanager
def _held(workdir: pathlib.Path, config: dict) -> Generator[None]:
    """Hold the lock of the folder, which belongs to this config or to none yet."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = open(workdir / ".lock", "w")
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"workdir={workdir} is a file, or lies in one: take another") from None
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        line = f"workdir={workdir} cannot be written ({error.strerror}): take another"
        raise UserError(line) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is at work in {workdir}: wait for it, or take another folder "
                "(workdir=)"
            ) from None
        kept = workdir / "config.json"
        if _begun(workdir):
            _require_same(workdir, theirs=_read(kept), ours=json.loads(json.dumps(config)))
        else:
            write_json(kept, config)
        yield


def _begun(workdir: pathlib.Path) -> bool:
    """Whether there is something to lose; until then a mistake in the command can be mended."""
    begun = (workdir / "result.json").exists() or (workdir / "cells.jsonl").exists()
    return begun or any((workdir / "checkpoints").glob("*_step*"))


def _require_same_data(
    workdir: pathlib.Path, data: Callable[[], dict], *, finished: bool
) -> None:
    """UserError if the data are not those that the folder belongs to; noted where it is new."""
    kept = workdir / "data.json"
    if not _begun(workdir):
        write_json(kept, data())
    elif kept.exists():  # an older version kept none
        theirs = _read(kept)
        logger.info("%s: reading the data, which may have changed since", workdir)
        try:
            ours = data()
        except (UserError, OSError) as error:
            if not finished:
                raise
            logger.warning("the data of this result could not be looked at: %s", error)
            return
        if changed := changed_data(theirs, ours):
            more = f"; and {len(changed) - 5} more" if len(changed) > 5 else ""
            raise UserError(
                f"{workdir} belongs to other data ({'; '.join(changed[:5])}{more}): "
                "take another folder (workdir=), or those data"
            )


def _require_same(workdir: pathlib.Path, *, theirs: dict, ours: dict) -> None:
    different = differences(theirs, ours, apart_from=ANY_TIME)
    if different:
        raise UserError(
            f"{workdir} belongs to another config ({'; '.join(different[:3])}): "
            "take another folder (workdir=), or that config"
        )


def _read(path: pathlib.Path) -> dict:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        said = f"{path} is lost or damaged ({error}); take another folder (workdir=)"
        raise UserError(said) from error
