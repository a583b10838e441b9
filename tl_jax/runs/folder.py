"""A results folder: one process at a time, one config, and `result.json` once all is done."""

import contextlib
import fcntl
import json
import pathlib
from collections.abc import Callable, Generator

import jax

from tl_jax import report
from tl_jax.errors import UserError
from tl_jax.runs.config import differences
from tl_jax.runs.results import write_json

ANY_TIME = ("cache", "checkpoint_seconds")  # settings that do not change what a run finds


def finished(
    work: Callable[[], dict],
    config: dict,
    workdir: pathlib.Path,
    *,
    cache: str | pathlib.Path | None,
    needs_report: bool = True,
) -> tuple[dict, bool]:
    """Return the result that the folder holds; if it holds none, do the `work` first.

    Also return whether the result was there before. `config` is all that the result depends on, as
    JSON-able data; `cache` is a folder for what JAX compiles (empty or None: it is not kept).
    UserError if another process works in the folder, if it belongs to another config, or if a
    report is needed and what draws it is not installed.
    """
    with claimed(workdir, config) as result:
        if result is not None:
            return result, True
        if needs_report:
            report.require()
        if cache:
            keep_compiled(cache)
        result = work()
        write_json(workdir / "result.json", result)  # last: it says that all is done
    return result, False


def keep_compiled(cache: str | pathlib.Path) -> None:
    """Let JAX keep what it compiles in the folder `cache`, for the next process."""
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(cache) / "compiled"))


@contextlib.contextmanager
def claimed(workdir: pathlib.Path, config: dict) -> Generator[dict | None]:
    """Hold the folder for this process and this config; yield its result if there is one.

    UserError if another process works there or if the folder belongs to another config.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is at work in {workdir}: wait for it, or take another --workdir"
            ) from None
        done, kept = workdir / "result.json", workdir / "config.json"
        # Until there is something to lose, a mistake in the first command can be mended there.
        begun = done.exists() or (workdir / "cells.jsonl").exists()
        if begun or any((workdir / "checkpoints").glob("*_step*")):
            _require_same(workdir, theirs=_read(kept), ours=json.loads(json.dumps(config)))
        else:
            write_json(kept, config)
        yield _read(done) if done.exists() else None


def _require_same(workdir: pathlib.Path, *, theirs: dict, ours: dict) -> None:
    different = differences(theirs, ours, apart_from=ANY_TIME)
    if different:
        raise UserError(
            f"{workdir} belongs to another config ({'; '.join(different[:3])}): "
            "take another --workdir, or that config"
        )


def _read(path: pathlib.Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is lost or damaged ({error}); take another --workdir") from error
