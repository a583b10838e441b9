"""Operations of networks, each implemented so that it is fast on its platform.

The modules here hold the platform-neutral implementations: XLA's own operations, and gradients
where a closed form is known. XLA's CPU backend is slow at several of them. So each operation calls
`tl_jax.ops.cpu.dispatch.by_platform`, through which `tl_jax/ops/cpu/` provides implementations for
the CPU: oneDNN's where its package is installed, otherwise matrix products, phases and shifted
multiply-adds. The choice is made when a program is lowered (`jax.lax.platform_dependent`), so one
traced program serves every platform. The environment variable TL_JAX_CPU=plain switches that folder
off: only the neutral implementations are traced then.

`inference(fn)` and `materialise(value)` say what a program or a value is for; each platform decides
what it does with that. Inside `portable()` only the neutral implementations are traced.

Names are imported when they are first used: programs that only show their flags do without JAX.
"""

import importlib
from typing import Any

_MODULES = {
    "boxes": ("area", "box_offsets", "boxes_at", "generalised_iou", "iou", "nms", "overlap"),
    "channels": ("concatenated",),
    "convolution": ("conv",),
    "dense": ("dot_general",),
    "norm": ("BatchNorm", "batch_norm", "scale_and_shift", "stochastic", "synchronised"),
    "pooling": ("adaptive_avg_pool", "avg_pool", "max_pool"),
    "positions": ("is_real", "mean_of_positions"),
    "recurrent": ("lstm",),
    "regions": ("region_align", "region_max"),
    "programs": ("Inference", "fast_in_bfloat16", "inference", "materialise", "portable"),
    "rematerialise": ("remat",),
    "vectors": ("unit",),
    "windows": ("Padding",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
