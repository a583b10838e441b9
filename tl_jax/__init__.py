"""Representation transfer in JAX: reuse a pretrained network's layers and measure what it gives.

`tl_jax.load_base(name, weights)` is the door: see `tl_jax.base`.
"""

import importlib
from typing import Any

from tl_jax.ops.cpu import xla

xla.set_flag()  # before JAX starts its first backend


def __getattr__(name: str) -> Any:
    # Not at the top: programs that only show their flags do without JAX.
    if name in ("Base", "load_base"):
        return getattr(importlib.import_module("tl_jax.base.base"), name)
    if name == "UserError":
        return importlib.import_module("tl_jax.errors").UserError
    if name == "models":
        return importlib.import_module("tl_jax.models")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
