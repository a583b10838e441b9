"""The finished cells of a study on disk, so that what was interrupted goes on where it was."""

import contextlib
import json
import os
import pathlib
from typing import Any

from tl_jax.runs.results import finite


class Cells:
    """One JSON line a finished cell: its key, which says what was computed, and what came of it.

    A line that a kill left unfinished counts as not written.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._rows: dict[str, dict] = {}
        text = path.read_text(errors="replace") if path.exists() else ""
        for line in text.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                self._rows[_name(entry["key"])] = {**entry["key"], **entry["row"]}
        if text and not text.endswith("\n"):
            with open(path, "a") as file:
                file.write("\n")

    def get(self, **key: Any) -> dict | None:
        """Key and row of a finished cell; None if it is still to be computed."""
        return self._rows.get(_name(key))

    def add(self, row: dict, **key: Any) -> dict:
        """Keep the row of a cell, safe from a kill when this returns; gives key and row."""
        entry = json.loads(json.dumps(finite({"key": key, "row": row})))
        with open(self.path, "a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._rows[_name(key)] = {**entry["key"], **entry["row"]}
        return self._rows[_name(key)]

    def rows(self) -> list[dict]:
        """Key and row of every finished cell, in the order in which they were finished."""
        return list(self._rows.values())


def _name(key: dict) -> str:
    return json.dumps(key, sort_keys=True)
