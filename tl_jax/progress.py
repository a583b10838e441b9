"""What one watches: progress of long work, a bar or a line now and then, and the lines of a log."""

import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import tqdm

LOG_SECONDS = 30.0  # between two lines in a log
shown = True  # of several processes, in the first alone


class LogLines(tqdm.tqdm):
    """Progress as plain lines, at most one per `LOG_SECONDS`; a log would keep each redrawn bar."""

    def __init__(self, *args: Any, **options: Any):
        self._last_line = time.monotonic()
        super().__init__(*args, **options | {"ascii": True, "leave": False})
        self.sp = None  # tqdm's printer, which would end a bar with a carriage return

    # tqdm returns True; pyrefly infers None, from a version that returns nothing.
    # pyrefly: ignore[bad-override]
    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Write a line if the last one is `LOG_SECONDS` old; never clear anything."""
        now = time.monotonic()
        if msg != "" and now - self._last_line >= LOG_SECONDS and self.n:
            self._last_line = now
            of = f" of {self.total:,}" if self.total else ""
            print(f"{self.desc.rstrip(': ')}: {self.n:,}{of} {self.unit}", file=sys.stderr)
        return True

    def clear(self, nolock: bool = False) -> None:
        """Do nothing: a line that was written stays."""


def plain(handler: logging.Handler) -> None:
    """Let a handler of logs show the lines alone, and each of them once."""
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(said_once())


def said_once() -> Callable[[logging.LogRecord], bool]:
    """Return a filter for a handler of logs that lets a line pass the first time only: what a task
    says of its files is the same for every seed.
    """
    lines: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        before = len(lines)
        lines.add(record.getMessage())
        return len(lines) > before

    return is_new


def bar(what: str, *, total: int, unit: str, initial: int = 0) -> tqdm.tqdm:
    """Return a progress bar, which vanishes when it is closed; `update(n)` moves it."""
    options = {"leave": False, "disable": not shown}
    return _bar_class()(desc=what, total=total, unit=unit, initial=initial, **options)


def over(items: Iterable, what: str, *, total: int, unit: str, delay: float = 0.0) -> tqdm.tqdm:
    """Return an iterable over `items` with a progress bar that moves as they are consumed."""
    options = {"delay": delay, "leave": False, "disable": not shown}
    return _bar_class()(items, desc=what, total=total, unit=unit, **options)


def _bar_class() -> type[tqdm.tqdm]:
    if _in_notebook():
        from tqdm.notebook import tqdm as notebook  # needs ipywidgets

        return notebook
    return tqdm.tqdm if sys.stderr.isatty() else LogLines


def _in_notebook() -> bool:
    """Whether this process is a notebook's kernel that can show widgets."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if type(shell).__name__ != "ZMQInteractiveShell":
        return False
    try:
        import ipywidgets  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True
