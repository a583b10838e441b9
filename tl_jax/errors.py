"""Errors that a user can mend: one clear line, exit status 2 at the command line."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input, with what to do about it, in one line."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among the `known` ones; the near misses come first."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
    return UserError(f"unknown {kind} {name!r}; {hint}")
