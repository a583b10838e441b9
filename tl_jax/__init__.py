"""Representation transfer in JAX: reuse a pretrained network's layers and measure what it gives.

`tl_jax.load_base(name, weights)` is the door: see `tl_jax.base`.
"""

import importlib
import os
from typing import Any

# XLA's CPU backend has two convolutions, and the default one is slower by a factor of 1.5 to 2.5
# on the nets of this zoo. Flags are read when JAX starts its first backend; what a user has set
# stays.
_CPU_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
if _CPU_FLAG not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_CPU_FLAG}=".strip()


def __getattr__(name: str) -> Any:
    # Not at the top: programs that only show their flags do without JAX.
    if name in ("Base", "load_base"):
        return getattr(importlib.import_module("tl_jax.base.base"), name)
    if name == "UserError":
        return importlib.import_module("tl_jax.errors").UserError
    if name == "models":
        return importlib.import_module("tl_jax.models")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
