"""Errors that a user can fix: one clear line, exit status 2 at the command line."""

import dataclasses
import difflib
import numbers
import os
import re
import types
import typing
from collections.abc import Iterable
from typing import Any

# Types that a setting may declare: what fits them, and how an error calls that.
DECLARED: dict[Any, tuple[type, str]] = {
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    str: (str, "text"),
    bool: (bool, "True or False"),
    os.PathLike: (os.PathLike, "a path"),
    types.NoneType: (types.NoneType, "None"),
}


class UserError(ValueError):
    """Wrong input; the message says in one line what is wrong and what to do about it."""


def takes(fits: bool, what: str, expected: str, value: object) -> None:
    """Raise a UserError that says what the argument takes, unless its value `fits`."""
    if not fits:
        raise UserError(f"{what} takes {expected}; got {value!r:.80}")


def takes_type(what: str, declared: Any, value: object) -> None:
    """UserError unless the value is of the type declared: one of `DECLARED`, or a union of those.

    Of other types nothing is said. A truth value is no number.
    """
    union = isinstance(declared, types.UnionType) or typing.get_origin(declared) is typing.Union
    kinds = typing.get_args(declared) if union else (declared,)
    if all(kind in DECLARED for kind in kinds):
        known = [DECLARED[kind] for kind in kinds]
        fits = any(isinstance(value, kind) for kind, _ in known)
        fits &= not isinstance(value, bool) or bool in kinds
        takes(fits, what, " or ".join(name for _, name in known), value)


def takes_types(settings: Any) -> None:
    """`takes_type` for every field of a dataclass."""
    for field in dataclasses.fields(settings):
        takes_type(f"{field.name}=", field.type, getattr(settings, field.name))


def takes_whole(value: object, what: str, low: int, high: int) -> None:
    """Raise UserError unless the value is a whole number from `low` to `high`, both included."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    fits = whole and low <= int(value) <= high
    takes(fits, what, f"a whole number, at least {low} and at most {high}", value)


def takes_several(values: Iterable[Any], what: str) -> None:
    """Raise UserError unless it is a list with a value in it, and none is there twice."""
    values = values if isinstance(values, str) else tuple(values)
    several = not isinstance(values, str) and 0 < len(values) == len(set(values))
    takes(several, what, "a list of one or more, each once", values)


def unknown(kind: str, name: object, known: Iterable[str], *, ordered: bool = False) -> UserError:
    """Return the error for a name that is not among the `known` ones; it suggests near misses.

    With `ordered` the names stay in the order given, and those that differ from `name` only in
    their number count as near misses too.
    """
    known = list(known) if ordered else sorted(set(known))
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.6)
    if ordered:
        numbered = re.fullmatch(r"([a-z_]+)\d+", str(name))
        near = [k for k in known if numbered and re.match(rf"{numbered[1]}\d", k)] or near
        near.sort(key=known.index)
    hint = f"known: {', '.join(known) or 'none'}"
    if near:
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    return UserError(f"unknown {kind} {name!r}; {hint}")
