"""Conversion of a weight file's arrays to a chain's variables; it accounts for every name."""

import contextlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from tl_jax.errors import UserError

SHOWN = 5  # names in an error
HEAD = "params/head/Dense_0/kernel"  # (D, classes)


class Rule(NamedTuple):
    """Where the arrays of a file's modules go.

    `pattern` is a regular expression for a module's whole name. `path` is the module's path here
    ("stem/conv"), or, of a parameter with a name of its own, all of it ("params/embed/table"); with
    the pattern's groups as in `re.Match.expand`. Or it is a function that returns the path for the
    groups (numbers as int), or raises LookupError if there is none. With None the module is left
    out, as auxiliary heads are. `kernel` transposes the module's kernel, where the library's usual
    layout does not apply.
    """

    pattern: str
    path: str | Callable[..., str] | None
    kernel: Callable[[np.ndarray], np.ndarray] | None = None


class Found(NamedTuple):
    """The arrays of a file, sorted by the rules."""

    arrays: dict[str, np.ndarray]  # by path ("params/stem/conv/kernel"), in the file's order
    names: dict[str, str]  # names in the file, by path
    surplus: list[str]  # names in the file that no rule matches
    left_out: list[str]  # names of what the base has no use for, as auxiliary heads
    aside: list[str] = []  # names beside the network's: of its loss, its optimizer, a second head
    outside: list[str] = []  # names not even below what stands in front of the network's own


# (last part of a name, whether it is a norm's): path here
_TORCH = {
    ("weight", False): "params/{}/kernel",
    ("bias", False): "params/{}/bias",
    ("weight", True): "params/{}/scale",
    ("bias", True): "params/{}/bias",
    ("running_mean", True): "batch_stats/{}/mean",
    ("running_var", True): "batch_stats/{}/var",
}
_KERAS = {
    ("kernel", False): "params/{}/kernel",
    ("depthwise_kernel", False): "params/{}/kernel",
    ("bias", False): "params/{}/bias",
    ("gamma", True): "params/{}/scale",
    ("beta", True): "params/{}/bias",
    ("moving_mean", True): "batch_stats/{}/mean",
    ("moving_variance", True): "batch_stats/{}/var",
}


def dense_after(side: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that converts PyTorch's dense kernel (D, C * side * side) to ours.

    PyTorch's kernel expects flattened channels-first maps. The function also converts the kernel
    (D, C, side, side) of a convolution that covers its whole input.
    """

    def convert(kernel):
        kernel = kernel.reshape(len(kernel), -1, side, side)
        return kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel))

    return convert


def dense_of_conv(kernel: np.ndarray) -> np.ndarray:
    """Return the kernel (1, 1, C, D) of Keras's 1x1 convolution as a dense kernel (C, D)."""
    return kernel.reshape(kernel.shape[-2:])


def keras_depthwise(kernel: np.ndarray) -> np.ndarray:
    """Return Keras's depthwise kernel (kh, kw, C, 1) as (kh, kw, 1, C).

    A rule must ask for this: Keras 3 calls it `kernel`, like any other kernel.
    """
    return kernel.transpose(0, 1, 3, 2)


def find(state: Mapping[str, np.ndarray], rules: Sequence[Rule], *, keras: bool) -> Found:
    """Sort the arrays of a file by the rules; of two arrays with one path the second is surplus.

    Convolution kernels become HWIO (depthwise (kh, kw, 1, C)), dense kernels (in, out).
    """
    separator, leaves, usual = ("/", _KERAS, _unchanged) if keras else (".", _TORCH, _from_torch)
    patterns = [(re.compile(rule.pattern), rule) for rule in rules]
    found = Found({}, {}, [], [])
    for name, array in state.items():
        module, _, leaf = name.rpartition(separator)
        if leaf == "num_batches_tracked":
            continue
        target, rule = _match(module, patterns)
        if rule and target is None:
            found.left_out.append(name)
            continue
        path = _path(leaf, target, leaves) if rule and target is not None else None
        if rule is None or path is None or path in found.arrays:
            found.surplus.append(name)
            continue
        if leaf in ("weight", "kernel", "depthwise_kernel"):
            with contextlib.suppress(TypeError, ValueError):  # wrong rank, which `fill` reports
                array = (rule.kernel or usual)(array)
        found.arrays[path], found.names[path] = array, name
    return found


def named(
    variables: Mapping[str, np.ndarray],
    found: Found,
    state: Mapping[str, Any],
    rules: Sequence[Rule],
) -> dict[str, np.ndarray]:
    """Return the variables (flat, by path) under the names that a file of PyTorch has for them and
    in its layout: the inverse of `find`, by the same rules.

    `found` is what `find` gave for the file's `state`, whose arrays need no more than a shape.
    """
    patterns = [(re.compile(rule.pattern), rule) for rule in rules]
    arrays = {}
    for path, name in found.names.items():
        module, _, leaf = name.rpartition(".")
        _, rule = _match(module, patterns)
        array = np.asarray(variables[path])
        if leaf == "weight" and rule is not None:
            undo = _to_torch if rule.kernel is None else _undoing(rule.kernel, state[name].shape)
            array = undo(array)
        arrays[name] = array
    return arrays


def _undoing(
    kernel: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the inverse of a rule's `kernel` for arrays of that shape.

    A kernel only moves elements, so it shows with their numbers where it moves each.
    """

    def undo(array: np.ndarray) -> np.ndarray:
        numbers = kernel(np.arange(array.size, dtype=np.int32).reshape(shape))
        undone = np.empty(array.size, array.dtype)
        undone[numbers.ravel()] = array.ravel()
        return undone.reshape(shape)

    return undo


def _path(leaf: str, target: str, leaves: Mapping[tuple[str, bool], str]) -> str | None:
    """Return where a module's leaf goes, if it has such a one; `target` may be all of the path."""
    if target.startswith("params/"):
        return target
    path = leaves.get((leaf, target.endswith("norm")))
    return path and path.format(target)


def _match(module: str, patterns) -> tuple[str | None, Rule | None]:
    """Return the path of a file's module and the rule that matches it."""
    for pattern, rule in patterns:
        if match := pattern.fullmatch(module):
            if not callable(rule.path):
                return rule.path and match.expand(rule.path), rule
            # The number may lie beyond this variant's last block, or be too long for `int`.
            with contextlib.suppress(LookupError, ValueError):
                groups = [int(g) if g and g.isdecimal() else g for g in match.groups()]
                return rule.path(*groups), rule
    return None, None


def _from_torch(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T


def _to_torch(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T


def _unchanged(kernel: np.ndarray) -> np.ndarray:
    return kernel


def fill(found: Found, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables like `expected` (nested; leaves have a shape), in float32.

    UserError, which lists both sides, unless the names in the file and the expected variables match
    one to one, in shape and as floating-point numbers. Arrays beside the network's are logged and
    left out.
    """
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(expected, sep="/")
    surplus = found.surplus + [name for path, name in found.names.items() if path not in flat]
    unfit = [
        f"{path} {a.dtype}{a.shape} instead of float32{flat[path].shape}"
        for path, a in found.arrays.items()
        if path in flat
        and (a.shape != flat[path].shape or not jnp.issubdtype(a.dtype, jnp.floating))
    ]
    missing = sorted(flat.keys() - found.arrays.keys())
    if missing or unfit or surplus:
        surplus += found.aside + found.outside
    complaints = [
        f"{complaint} {some(names)}"
        for complaint, names in (
            ("the file lacks", missing),
            ("the file also has", [f"{name!r:.80}" for name in surplus]),
            ("of another shape or type:", unfit),
        )
        if names
    ]
    if complaints:
        raise UserError("the weights are of another architecture: " + "; ".join(complaints))
    if found.left_out:
        logging.getLogger(__name__).info(
            "left out %d arrays that the base has no use for, such as %s",
            len(found.left_out),
            found.left_out[0],
        )
    if left := found.aside + found.outside:
        aside = some([f"{name!r:.80}" for name in left])
        logging.getLogger(__name__).warning("left out what is no part of the network: %s", aside)
    ordered = {path: np.ascontiguousarray(found.arrays[path], np.float32) for path in flat}
    # A collection is empty without batch norm, and an empty one has no paths.
    return {c: {} for c in expected} | flax.traverse_util.unflatten_dict(ordered, sep="/")


def some(names: Sequence[str]) -> str:
    """Return the names as a line, or the first ones and how many more there are."""
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
