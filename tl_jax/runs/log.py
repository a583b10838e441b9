"""What a run says: rows of numbers to `metrics.jsonl` and TensorBoard (tensorboardX), and lines."""

import contextlib
import json
import logging
import pathlib
import shutil
import sys
import time
import weakref
from collections.abc import Callable, Generator
from typing import Any

from tl_jax.data.files import listed, shown
from tl_jax.data.task import SPLITS, Task
from tl_jax.engine import processes

CLASSES = 8  # that a line names


def writer(workdir: pathlib.Path) -> Callable[[dict], None]:
    """A function that writes a row {name: number or text}; what was there before is begun anew.

    Of several processes the first writes.
    """
    if not processes.first():
        return lambda row: None
    folder = workdir / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    (workdir / "metrics.jsonl").write_text("")
    curves = _curves(folder)

    def write(row: dict) -> None:
        with open(workdir / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        curves(row)

    return write


def described(task: Task) -> str:
    """A line of the task's classes and the sizes of its splits, long lists shortened."""
    sizes = ", ".join(f"{split} {len(task.splits[split]):,}" for split in SPLITS)
    if not task.classes:
        return f"{shown(task.name)}: {sizes}"
    names = listed(task.classes, CLASSES)
    if task.asks == "captions":
        return f"{shown(task.name)}: captions of {len(task.classes):,} words; {sizes}"
    several = len(task.classes) > 1
    what = task.asks if several else task.asks.removesuffix("s")
    if task.asks == "boxes":
        what = f"{'classes' if several else 'class'} of boxes"
    return f"{shown(task.name)}: {len(task.classes)} {what} ({names}); {sizes}"


def _curves(folder: pathlib.Path) -> Callable[[dict], None]:
    """A function that adds a row's numbers to an event file, at its step.

    Not by tensorboardX's SummaryWriter: that writes in a thread, which dies of a full disk without
    a word to us, and then its queue blocks for ever.
    """
    try:
        with _without_torch():
            from tensorboardX.event_file_writer import EventsWriter

            # Protobuf makes its classes when it is imported.
            # pyrefly: ignore[missing-module-attribute]
            from tensorboardX.proto.event_pb2 import Event

            # pyrefly: ignore[missing-module-attribute]
            from tensorboardX.proto.summary_pb2 import Summary
    except ModuleNotFoundError:
        return lambda row: None
    folder.mkdir(parents=True)
    events = EventsWriter(str(folder / "events"))

    def close() -> None:
        with contextlib.suppress(OSError):  # of a disk that is full, which was said before
            events.close()

    def add(row: dict) -> None:
        values = [
            Summary.Value(tag=f"{row['phase']}/{name}", simple_value=value)
            for name, value in row.items()
            if isinstance(value, int | float)
        ]
        summary = Summary(value=values)
        events.write_event(Event(wall_time=time.time(), step=row["step"], summary=summary))
        events.flush()

    weakref.finalize(add, close)
    return add


@contextlib.contextmanager
def _without_torch() -> Generator[None]:
    """In the block nothing imports PyTorch: tensorboardX would, for what is not used here, and
    that takes seconds and a third of a gigabyte.
    """
    modules: dict[str, Any] = sys.modules
    if "torch" in modules:
        yield
        return
    modules["torch"] = None  # an ImportError, which tensorboardX expects
    try:
        yield
    finally:
        del modules["torch"]


@contextlib.contextmanager
def quiet(name: str) -> Generator[None]:
    """Let the logger of this name, and those below it, say nothing but errors meanwhile."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
