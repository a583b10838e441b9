"""Operations of networks, each in the form that is fast on its platform.

Modules here hold the platform-neutral text: XLA's own operations, and gradients where a closed form
is known. XLA's CPU backend is slow at several of them. So each operation is called by name through
one door, `tl_jax.ops.cpu.forms.by_platform`, behind which `tl_jax/ops/cpu/` holds the CPU's forms:
oneDNN's where its package is installed, otherwise products, phases and shifted multiply-adds. The
choice is made when a program is lowered (`jax.lax.platform_dependent`), so one program text serves
every platform. The environment variable TL_JAX_CPU=plain switches all of that folder off: what is
traced then is the neutral text alone.

`inference(fn)` and `materialise(value)` say what a program is for, and leave it to the platform
what follows from that.

Names are imported when they are first used: programs that only show their flags do without JAX.
"""

import importlib
from typing import Any

_MODULES = {
    "convolution": ("conv",),
    "dense": ("dot_general",),
    "norm": ("BatchNorm", "batch_norm", "scale_and_shift", "synchronised"),
    "pooling": ("adaptive_avg_pool", "avg_pool", "max_pool"),
    "programs": ("Inference", "inference", "materialise"),
    "windows": ("Padding",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
