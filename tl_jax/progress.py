"""Progress for whoever watches: a bar in a terminal or a notebook, a line now and then in a log."""

import sys
import time
from collections.abc import Iterable
from typing import Any

import tqdm

LOG_SECONDS = 30.0  # between two lines of a log


class LogLines(tqdm.tqdm):
    """Progress as plain lines, at most one in `LOG_SECONDS`: a log keeps every carriage return."""

    def __init__(self, *args: Any, **options: Any):
        self._said = time.monotonic()
        super().__init__(*args, **options | {"ascii": True, "leave": False})
        self.sp = None  # with which tqdm would end a bar by a carriage return

    # tqdm says True, and its type is inferred from a version that says nothing.
    # pyrefly: ignore[bad-override]
    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Write a line if it is time to; nothing is ever cleared."""
        now = time.monotonic()
        if msg != "" and now - self._said >= LOG_SECONDS and self.n:
            self._said = now
            of = f" of {self.total:,}" if self.total else ""
            print(f"{self.desc.rstrip(': ')}: {self.n:,}{of} {self.unit}", file=sys.stderr)
        return True

    def clear(self, nolock: bool = False) -> None:
        """A line that was written stays."""


def bar(what: str, *, total: int, unit: str, initial: int = 0) -> tqdm.tqdm:
    """A progress bar that vanishes when it is closed; `update(n)` moves it."""
    return _kind()(desc=what, total=total, unit=unit, initial=initial, leave=False)


def over(items: Iterable, what: str, *, total: int, unit: str, delay: float = 0.0) -> tqdm.tqdm:
    """`items`, with a bar that moves as they are taken."""
    return _kind()(items, desc=what, total=total, unit=unit, delay=delay, leave=False)


def _kind() -> type[tqdm.tqdm]:
    if _in_notebook():
        from tqdm.notebook import tqdm as notebook  # needs ipywidgets

        return notebook
    return tqdm.tqdm if sys.stderr.isatty() else LogLines


def _in_notebook() -> bool:
    """Whether this is a notebook's kernel that can show widgets."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if type(shell).__name__ != "ZMQInteractiveShell":
        return False
    try:
        import ipywidgets  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True
