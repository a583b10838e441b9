"""The journal of a study: finished cells on disk, so that an interrupted study can resume."""

import contextlib
import json
import os
import pathlib
from typing import Any

from tl_jax.runs.results import finite


class Journal:
    """One JSON line for each finished cell: its key, which says what was computed, and its row.

    A line that a kill left unfinished counts as not written.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._rows: dict[str, dict] = {}
        text = path.read_text(errors="replace") if path.exists() else ""
        for line in text.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                entry = json.loads(line)
                self._rows[_name(entry["key"])] = {**entry["key"], **entry["row"]}
        if text and not text.endswith("\n"):
            with open(path, "a") as file:
                file.write("\n")

    def get(self, **key: Any) -> dict | None:
        """Return key and row of a finished cell, or None if it has not been computed yet."""
        return self._rows.get(_name(key))

    def add(self, row: dict, **key: Any) -> dict:
        """Write the row of a cell to disk, where no kill can lose it; return key and row."""
        entry = json.loads(json.dumps(finite({"key": key, "row": row})))
        with open(self.path, "a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._rows[_name(key)] = {**entry["key"], **entry["row"]}
        return self._rows[_name(key)]

    def rows(self) -> list[dict]:
        """Return key and row of every finished cell, in the order in which they finished."""
        return list(self._rows.values())


def _name(key: dict) -> str:
    return json.dumps(key, sort_keys=True)
