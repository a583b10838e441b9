"""The files below a folder that a person put there; training and prediction share this walk."""

import fnmatch
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tl_jax.errors import UserError, takes_type

logger = logging.getLogger(__name__)

# What systems leave in people's folders, apart from hidden names; compared without regard to case.
LEFTOVERS = (
    *("thumbs.db", "thumbs.db:*", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"),  # Windows
    *("$recycle.bin", "system volume information", "*:zone.identifier", "found.[0-9][0-9][0-9]"),
    *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS
    *("@eadir", "#recycle", "#snapshot", "@tmp", "*@synoeastream", "*@synoresource"),  # Synology
    *("@recycle", "@recently-snapshot", "@__thumb", "@sharebin"),  # QNAP
    *("lost+found", "__pycache__", "picasa.ini"),
)
NAMED = 3  # of a list, in a line


class Found(NamedTuple):
    """What a walk found: sorted paths below its top, as `a/b.png`."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    left_out: tuple[str, ...]  # links to folders that were not followed, with the reason


def path_of(text: str | os.PathLike) -> Path:
    """The path that a person gives: `~` is their home, and an unknown `~name` stays as it is."""
    takes_type("a path", str | os.PathLike, text)
    return Path(os.path.expanduser(text))


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is hidden or a system's own, not a person's."""
    return name.startswith(".") or any(fnmatch.fnmatchcase(name.lower(), p) for p in LEFTOVERS)


def walk(top: Path) -> Found:
    """Everything below the folder `top` but hidden names and `LEFTOVERS`.

    Every folder is entered once, by its own name if it lies below `top`, else by the first link to
    it in sorted order. A link to a folder that was entered already, or that lies in the folder it
    links to, is left out, and a warning names it. UserError for a folder that cannot be read.
    """
    state = _Walk(top)
    state.enter(top, "")
    while state.links:
        links, state.links = sorted(state.links), []
        for name in links:
            state.follow(name)
    found = Found(*(tuple(sorted(each)) for each in (state.files, state.folders, state.left_out)))
    if found.left_out:
        some = listed(found.left_out)
        logger.warning("%s: %d links left out: %s", top, len(found.left_out), some)
    return found


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """The first names in a line, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + more


def shown(name: str) -> str:
    """A name from a stranger's disk for a line of text: what does not print is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


class _Walk:
    """A walk under way."""

    def __init__(self, top: Path):
        self.top = top
        self.entered: dict[tuple[int, int], str] = {}
        self.files: list[str] = []
        self.folders: list[str] = []
        self.links: list[str] = []
        self.left_out: list[str] = []

    def enter(self, folder: Path, name: str) -> None:
        """Note what is in the folder, called `name` below the top, and in those inside it."""
        pending = [(folder, name)]
        while pending:
            here, name = pending.pop()
            if (first := self.entered.setdefault(_identity(here), name)) != name:
                self.left_out.append(f"{name} (the same folder as {first})")
                continue
            if name:
                self.folders.append(name)
            for entry in _entries(here):
                below = f"{name}/{entry.name}" if name else entry.name
                if not _is_folder(entry):
                    self.files.append(below)
                elif entry.is_symlink():
                    self.links.append(below)
                else:
                    pending.append((here / entry.name, below))

    def follow(self, name: str) -> None:
        """Enter the folder that a link leads to, unless that was done or would never end."""
        target, place = (self.top / name).resolve(), (self.top / name).parent.resolve()
        if place.is_relative_to(target) or self.top.resolve().is_relative_to(target):
            self.left_out.append(f"{name} (a link to a folder that it is in)")
        else:
            self.enter(target, name)


def _entries(folder: Path) -> Iterator[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not is_leftover(entry.name))
    except OSError as error:
        raise UserError(f"cannot read the folder {str(folder)!r}: {error.strerror}") from error


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to one another
        return False


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise UserError(f"cannot read the folder {str(folder)!r}: {error.strerror}") from error
    return status.st_dev, status.st_ino
