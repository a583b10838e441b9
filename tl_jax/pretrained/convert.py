"""From a weight file's names to a chain's variables, by table, every name accounted for."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from tl_jax.errors import UserError

SHOWN = 5
IGNORED = r".*\.num_batches_tracked"


def convert(
    state: Mapping[str, np.ndarray], table: Sequence[tuple[str, str]], expected: Mapping[str, Any]
) -> dict[str, Any]:
    """PyTorch arrays by name to variables as in `expected` (nested; leaves have a shape).

    `table` holds (pattern of the whole name, path with the pattern's groups). Convolution kernels
    go from OIHW to HWIO, dense ones from (out, in) to (in, out). Raises a UserError that lists both
    sides unless each name in the file and each expected variable is met exactly once, in its shape
    and in floating point.
    """
    flat = flax.traverse_util.flatten_dict(expected, sep="/")
    patterns = [(re.compile(pattern), path) for pattern, path in table]
    filled: dict[str, np.ndarray] = {}
    surplus, unfit = [], []
    for name, array in state.items():
        if re.fullmatch(IGNORED, name):
            continue
        paths = [m.expand(path) for p, path in patterns if (m := p.fullmatch(name))]
        if len(paths) != 1 or paths[0] not in flat or paths[0] in filled:
            surplus.append(f"{name!r:.80}")
            continue
        path = paths[0]
        array, wanted = _layout(path, array), flat[path]
        if array.shape != wanted.shape or not jnp.issubdtype(array.dtype, jnp.floating):
            unfit.append(f"{path} {array.dtype}{array.shape} instead of float32{wanted.shape}")
        filled[path] = array
    missing = sorted(flat.keys() - filled.keys())
    complaints = [
        f"{what} {_some(names)}"
        for what, names in (
            ("the file lacks", missing),
            ("the file has besides", surplus),
            ("of another shape or type", unfit),
        )
        if names
    ]
    if complaints:
        raise UserError("the weights are of another architecture: " + "; ".join(complaints))
    ordered = {path: np.ascontiguousarray(filled[path], np.float32) for path in flat}
    # Without batch norm a collection is empty, and an empty one has no paths.
    return {c: {} for c in expected} | flax.traverse_util.unflatten_dict(ordered, sep="/")


def _layout(path: str, array: np.ndarray) -> np.ndarray:
    if path.endswith("/kernel") and array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if path.endswith("/kernel") and array.ndim == 2:
        return array.T
    return array


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
