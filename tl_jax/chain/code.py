"""What layers compute, as text: equal in every process, and another once their code has changed.

Kept outputs of layers are found again by it. It says by value what the modules' fields are, and
holds a digest of the source that defines the classes and functions among them.
"""

import ast
import dataclasses
import enum
import functools
import hashlib
import importlib.util
import json
import pathlib
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tl_jax.chain.places import Layer
from tl_jax.errors import UserError

# What these compute changes by rounding alone from version to version.
LIBRARIES = {"jax", "jaxlib", "flax", "numpy", *sys.stdlib_module_names}
INSTALLED = {"site-packages", "dist-packages"}
LITERALS = (bool, int, float, complex, str, bytes, types.NoneType, np.generic, np.dtype)


def told(layers: Sequence[Layer]) -> str:
    """Return names, places and modules of the layers, and a digest of the source behind them.

    The source is that of each module (of Python) that defines one of their classes or functions,
    and of all that it imports at its top, from its own package, from this one, or from no installed
    one: a family's file, the parts it is made of, `ops`. A change there that leaves the numbers as
    they are costs computing once more; one that goes unseen would give wrong numbers.

    UserError for what has no name that holds in another process: a lambda, a function or class
    defined inside a function, an object that is no plain value.
    """
    modules: set[str] = set()
    texts = [
        [layer.name, layer.places, _text(layer.module, modules, f"layer {layer.name!r}")]
        for layer in layers
    ]
    return json.dumps([texts, _digest(modules)])


def _text(value: Any, modules: set[str], where: str) -> Any:
    """JSON-able data that say what `value` is; `modules` collects those that define its code."""
    text = functools.partial(_text, modules=modules, where=where)
    if isinstance(value, enum.Enum):
        return [text(type(value)), value.name]
    if isinstance(value, LITERALS):
        return [type(value).__name__, str(value)]
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(text, value)]
    if isinstance(value, set | frozenset):
        return ["set", *sorted(json.dumps(text(item)) for item in value)]
    if isinstance(value, Mapping):
        return ["mapping", *([text(key), text(own)] for key, own in value.items())]
    if isinstance(value, functools.partial):
        return ["partial", text(value.func), text(value.args), text(value.keywords)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name for field in dataclasses.fields(value)} - {"parent"}
        own = {name: getattr(value, name) for name in sorted(fields)}
        return [text(type(value)), text(own)]
    return _name(value, modules, where)


def _name(value: Any, modules: set[str], where: str) -> Any:
    """The name by which a class or function is imported; JAX's own closures by their parts."""
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if isinstance(module, str) and isinstance(name, str):
        library = _top(module) in LIBRARIES
        if _found(module, name) is value and (library or _file(module) is not None):
            modules.add(module)
            return f"{module}.{name}"
        if isinstance(value, types.FunctionType) and library and _defines(module, value):
            captured = [cell.cell_contents for cell in value.__closure__ or ()]
            return [f"{module}.{name}", _text(captured, modules, where)]
    what = name if isinstance(name, str) else f"an object of type {type(value).__name__}"
    raise UserError(
        f"{where} is made of {what}, by which its stored output could not be found again: "
        "define that with def or class at the top of a file that is imported, or do without cache="
    )


def _defines(module: str, function: types.FunctionType) -> bool:
    """Whether a function's code is the module's: a decorated one may have another's name."""
    return function.__globals__.get("__name__") == module


def _found(module: str, name: str) -> Any:
    """What the module holds under a dotted name; None if nothing."""
    held: Any = sys.modules.get(module)
    for part in name.split("."):
        held = getattr(held, part, None)
    return held


def _file(module: str) -> pathlib.Path | None:
    """Where the module's source is; None for what is typed in, as in a notebook."""
    path = pathlib.Path(getattr(sys.modules.get(module), "__file__", None) or "")
    return path if path.is_file() else None


def _top(module: str) -> str:
    return module.partition(".")[0]


def _digest(modules: set[str]) -> str:
    """A hash of the source of the modules and of what they import."""
    found: dict[str, str] = {}
    todo = {module for module in modules if _top(module) not in LIBRARIES}
    while todo:
        module = todo.pop()
        for name, path in _files(module).items():
            source = path.read_bytes()
            found[name] = hashlib.sha256(source).hexdigest()
            package = name if path.stem == "__init__" else name.rpartition(".")[0]
            imported = _imports(source, package) if path.suffix == ".py" else set()
            todo |= {other for other in imported if _follows(module, other)}
        todo -= found.keys()
    return hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest()


def _files(module: str) -> dict[str, pathlib.Path]:
    """The file of a module by its name; of a package, all that are below."""
    path = _file(module)
    if path is None:
        return {}
    if path.stem != "__init__":
        return {module: path}
    below = {}
    for file in path.parent.rglob("*.py"):
        parts = file.relative_to(path.parent).with_suffix("").parts
        below[".".join([module, *parts]).removesuffix(".__init__")] = file
    return below


@functools.cache  # not by name: a module may be changed and loaded again
def _imports(source: bytes, package: str) -> set[str]:
    """The modules that a file imports at its top, which are loaded as it is."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in sys.modules else base for name in names}
    return found


def _follows(module: str, other: str) -> bool:
    """Whether the source of a module that another one imports counts: not that of libraries."""
    file = _file(other)
    if file is None or _top(other) in LIBRARIES:
        return False
    installed = not INSTALLED.isdisjoint(file.parts)
    return not installed or _top(other) in {_top(module), _top(__name__)}
