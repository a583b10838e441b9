"""From a weight file's names to a chain's variables, by table, every name accounted for."""

import contextlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from tl_jax.errors import UserError

SHOWN = 5
HEAD = "params/head/Dense_0/kernel"  # (D, classes)


class Rule(NamedTuple):
    """One row of a table: where the arrays of some of a file's modules go.

    `pattern` is a regular expression for the module's whole name. `path` is the module's place here
    ("stem/conv"), with the pattern's groups as in `re.Match.expand`, or a function of them (numbers
    come as int; LookupError: no such place) that gives it, or None: left out, as auxiliary heads
    are. `kernel` turns the module's kernel where the naming's usual way does not.
    """

    pattern: str
    path: str | Callable[..., str] | None
    kernel: Callable[[np.ndarray], np.ndarray] | None = None


class Found(NamedTuple):
    """What a table made of a file."""

    arrays: dict[str, np.ndarray]  # by path ("params/stem/conv/kernel"), in the file's order
    names: dict[str, str]  # in the file, by path
    surplus: list[str]  # names in the file that no rule knows
    left_out: list[str]
    aside: list[str] = []  # in the file, but no part of the net: its loss, a second head
    outside: list[str] = []  # not even below what stands in front of the net's own names


# (leaf of a name, whether it is a norm's): place here
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
    """PyTorch's dense kernel (D, C * side * side) on flattened channels-first maps, to ours.

    Also for a convolution (D, C, side, side) that sees all of its input.
    """

    def turned(kernel):
        kernel = kernel.reshape(len(kernel), -1, side, side)
        return kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel))

    return turned


def dense_of_conv(kernel: np.ndarray) -> np.ndarray:
    """Keras's 1x1 convolution (1, 1, C, D) as a dense kernel (C, D)."""
    return kernel.reshape(kernel.shape[-2:])


def keras_depthwise(kernel: np.ndarray) -> np.ndarray:
    """Keras's depthwise kernel (kh, kw, C, 1) as (kh, kw, 1, C).

    Keras 2 calls it `depthwise_kernel`, Keras 3 just `kernel`, which does not tell it apart.
    """
    return kernel.transpose(0, 1, 3, 2)


def find(state: Mapping[str, np.ndarray], rules: Sequence[Rule], *, keras: bool) -> Found:
    """Where each array of a file goes. Of two arrays for one place the second is surplus.

    Convolution kernels become HWIO (depthwise (kh, kw, 1, C)), dense ones (in, out).
    """
    separator, leaves, usual = ("/", _KERAS, _as_it_is) if keras else (".", _TORCH, _torch_layout)
    patterns = [(re.compile(rule.pattern), rule) for rule in rules]
    found = Found({}, {}, [], [])
    for name, array in state.items():
        module, _, leaf = name.rpartition(separator)
        if leaf == "num_batches_tracked":
            continue
        path, rule = _place(module, patterns)
        if rule and path is None:
            found.left_out.append(name)
            continue
        place = leaves.get((leaf, path.endswith("norm"))) if rule and path is not None else None
        if rule is None or place is None or (place := place.format(path)) in found.arrays:
            found.surplus.append(name)
            continue
        if leaf in ("weight", "kernel", "depthwise_kernel"):
            with contextlib.suppress(TypeError, ValueError):  # of another rank; `fill` will say so
                array = (rule.kernel or usual)(array)
        found.arrays[place], found.names[place] = array, name
    return found


def _place(module: str, patterns) -> tuple[str | None, Rule | None]:
    for pattern, rule in patterns:
        if match := pattern.fullmatch(module):
            if not callable(rule.path):
                return rule.path and match.expand(rule.path), rule
            # A number beyond this variant's last block, or so long that Python does not read it
            with contextlib.suppress(LookupError, ValueError):
                groups = [int(g) if g and g.isdecimal() else g for g in match.groups()]
                return rule.path(*groups), rule
    return None, None


def _torch_layout(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T


def _as_it_is(kernel: np.ndarray) -> np.ndarray:
    return kernel


def fill(found: Found, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Variables as in `expected` (nested; leaves have a shape), in float32.

    UserError that lists both sides unless each name in the file and each expected variable is met
    exactly once, in its shape and in floating point; what stands beside the net is said and left
    out.
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
        f"{what} {_some(names)}"
        for what, names in (
            ("the file lacks", missing),
            ("the file has besides", [f"{name!r:.80}" for name in surplus]),
            ("of another shape or type", unfit),
        )
        if names
    ]
    if complaints:
        raise UserError("the weights are of another architecture: " + "; ".join(complaints))
    if found.left_out:
        logging.getLogger(__name__).info(
            "left out %d arrays of auxiliary heads, such as %s",
            len(found.left_out),
            found.left_out[0],
        )
    if left := found.aside + found.outside:
        aside = _some([f"{name!r:.80}" for name in left])
        logging.getLogger(__name__).warning("left out what is no part of the net: %s", aside)
    ordered = {path: np.ascontiguousarray(found.arrays[path], np.float32) for path in flat}
    # Without batch norm a collection is empty, and an empty one has no paths.
    return {c: {} for c in expected} | flax.traverse_util.unflatten_dict(ordered, sep="/")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
