"""Errors that a user can mend: one clear line, exit status 2 at the command line."""

import difflib
import numbers
import re
from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input, with what to do about it, in one line."""


def takes(fits: bool, what: str, expected: str, value: object) -> None:
    """UserError that says what an argument takes unless its value fits."""
    if not fits:
        raise UserError(f"{what} takes {expected}; got {value!r:.80}")


def takes_whole(value: object, what: str, low: int, high: int) -> None:
    """UserError unless the value is a whole number in the range, both ends included."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    fits = whole and low <= int(value) <= high
    takes(fits, what, f"a whole number, at least {low} and at most {high}", value)


def unknown(kind: str, name: str, known: Iterable[str], *, ordered: bool = False) -> UserError:
    """The error for a name that is not among the `known` ones; the near misses come first.

    `ordered`: the known names have an order of their own, which is kept; near are then those, too,
    that differ by a number.
    """
    known = list(known) if ordered else sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if ordered:
        alike = re.fullmatch(r"([a-z_]+)\d+", name)
        near = [o for o in known if alike and re.match(rf"{alike[1]}\d", o)] or near
        near.sort(key=known.index)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
    return UserError(f"unknown {kind} {name!r}; {hint}")
