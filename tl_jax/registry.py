"""Registries: dictionaries of functions by name, whose parameters are their options."""

import ast
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from tl_jax.errors import UserError, takes, takes_type, unknown

Table = dict[str, Callable[..., Any]]


def register(table: Table, kind: str) -> Callable[[Callable], Callable]:
    """Return a decorator that adds a function to `table` under its own name.

    UserError if the name is taken by another function.
    """

    def add(function: Callable) -> Callable:
        name = function.__name__
        if name in table and table[name] is not function:
            raise UserError(f"there is a {kind} {name!r} already: give this one another name")
        table[name] = function
        return function

    return add


def chosen(
    kind: str, spec: str, table: Mapping[str, Callable], *, given: Collection[str] = ()
) -> tuple[Callable, dict[str, Any]]:
    """Return the function that `spec` names and the options that it sets; the caller itself sets
    those that are `given`.

    `spec` is "name", "name(option=1)", or "name(2, 9)", whose positional values go to the
    function's options in order. UserError for an unknown name or option, with the near miss, for
    one that is missing, and for values that are no literals, or not of the type declared.
    """
    takes(isinstance(spec, str), f"{kind}=", "a name, or name(option=value, ...)", spec)
    name, values, named = _parsed(kind, spec)
    if name not in table:
        raise unknown(kind, name, table)
    options = {n: one for n, one in parameters(table[name]).items() if n not in given}
    if len(values) > len(options):
        names = f" ({', '.join(options)})" if options else ""
        raise UserError(f"{kind} {name!r} takes {len(options)} options{names}; got {len(values)}")
    positional = dict(zip(options, values, strict=False))
    require_options(f"{kind} {name!r}", named, options)
    if twice := sorted(positional.keys() & named.keys()):
        raise UserError(f"{kind} {name!r}: {twice[0]} is given twice")
    found = positional | named
    for option, parameter in options.items():
        if option in found:
            takes_type(f"{kind} {name!r}: {option}=", parameter.annotation, found[option])
        elif parameter.default is parameter.empty:
            raise UserError(f"{kind} {name!r} needs {option}=: {name}({option}=...)")
    return table[name], found


def summands(kind: str, text: str) -> list[str]:
    """["crop", "flip(0.5)"] of "crop + flip(0.5)"; UserError if the text cannot be read."""
    takes(isinstance(text, str), f"{kind}=", "a name, or name(option=value, ...)", text)
    try:
        return [ast.unparse(node) for node in _added(ast.parse(text.strip(), mode="eval").body)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UserError(
            f"{kind} {text[:80]!r} is not names with options, such as one+other(0.25)"
        ) from None


def _added(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_added(node.left), *_added(node.right)]
    return [node]


def parameters(function: Callable) -> dict[str, inspect.Parameter]:
    """Return a function's options by name: its parameters with a default, and keyword-only ones,
    but for those whose names begin with an underscore, which the library itself sets.
    """
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if not name.startswith("_")
        and (parameter.default is not parameter.empty or parameter.kind is parameter.KEYWORD_ONLY)
    }


def require_options(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise UserError, with the near miss, for a name in `given` that is not among the `known`."""
    known = list(known)
    for name in given:
        if name not in known:
            raise unknown(f"option of {what}", name, known)


def _parsed(kind: str, spec: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Return name, positional and named values of "name(1, option=2)"; evaluate literals only."""
    if spec.isidentifier():
        return spec, [], {}
    try:
        call = ast.parse(spec.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError(spec)
        values = [ast.literal_eval(argument) for argument in call.args]
        if any(keyword.arg is None for keyword in call.keywords):
            raise ValueError(spec)
        named = [(str(k.arg), ast.literal_eval(k.value)) for k in call.keywords]
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        line = f"{kind} {spec[:80]!r} is neither a name nor name(option=value, ...)"
        raise UserError(line) from None
    names = [name for name, _ in named]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{kind} {call.func.id!r}: {repeated[0]} is given twice")
    return call.func.id, values, dict(named)
