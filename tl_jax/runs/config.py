"""Configs: read from a file, flattened to dotted keys, compared. Imports nothing slow."""

import glob
import os
import re
import runpy
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_collections

from tl_jax.errors import UserError, unknown


def load_config(path: str) -> ml_collections.ConfigDict:
    """Return what `get_config()` of the file returns; a UserError says where the file is wrong."""
    if not os.path.isfile(path):
        there = set(glob.glob("configs/**/[!_]*.py", recursive=True)) - {"configs/defaults.py"}
        if not there:
            raise UserError(
                f"there is no config file {path!r}, nor any in ./configs: run the program in the "
                "checkout, or give the file's whole path"
            )
        raise unknown("config file", path, there)
    try:
        names = runpy.run_path(path)
        if "get_config" not in names:
            raise UserError("it has no function get_config()")
        config = names["get_config"]()
    except (Exception, SystemExit) as error:  # the file is a program
        raise UserError(f"{path}{_line_in(path, error)}: {_message(error)}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(f"{path}: get_config() gives no ConfigDict but {type(config).__name__}")
    return config


def flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the settings of a nested config by dotted key: {"task": {"name": 1}} -> task.name."""
    settings = {}
    for key, value in config.items():
        nested = hasattr(value, "items")
        settings |= flat(value, f"{above}{key}.") if nested else {above + key: value}
    return settings


def nested(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge settings, the later over the earlier: {"tune": {"epochs": 3}} and {"tune.decay": 0}
    give {"tune": {"epochs": 3, "decay": 0}}.
    """
    merged: dict[str, Any] = {}
    for path, value in (pair for layer in layers for pair in layer.items()):
        *above, name = path.split(".")
        level = merged
        for part in above:
            level = level.setdefault(part, {})
        if isinstance(value, Mapping):
            value = {**level.get(name, {}), **value}
        level[name] = value
    return merged


def differences(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], *, apart_from: Iterable[str] = ()
) -> list[str]:
    """Return one phrase, such as "seed 0, not 1", for each setting in which two configs differ."""
    theirs, ours = flat(theirs), flat(ours)
    return [
        f"{key} {theirs.get(key)!r}, not {ours.get(key)!r}"
        for key in sorted(theirs.keys() | ours.keys())
        if theirs.get(key) != ours.get(key) and key not in apart_from
    ]


def _line_in(path: str, error: BaseException) -> str:
    frames = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1] if frames else None
    return f", line {line}" if line else ""


def _message(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    text = str(error.args[0]) if error.args else ""
    # Where a key is unknown, ml_collections prints all the others with their values.
    text = re.sub(r" Other fields present: .*?(?=Did you mean|$)", " ", text, flags=re.DOTALL)
    return f"{type(error).__name__}: {text}"
