"""Convolution, pooling and batch norm in the form that is fast on the backend.

On the CPU all three are oneDNN's where its package is installed (`tl_jax.ops.onednn`), which XLA's
own come not near; without it they get forms of their own: products, phases, shifted multiply-adds.
XLA is slow in the gradient of max pooling and in sums by channel, and it computes a fused
elementwise expression anew in each of its consumers, of which a backward pass has many (it drops
optimisation barriers before it fuses); hence loops over the images, which it cannot fuse, each
image in the cache. Every other platform keeps XLA's own forms. The choice is made when a program is
lowered (`jax.lax.platform_dependent`), so that one program text serves all of them.
"""

from tl_jax.ops.convolution import conv
from tl_jax.ops.cpu.frozen import want
from tl_jax.ops.dense import dot_general
from tl_jax.ops.norm import BatchNorm, batch_norm, scale_and_shift, synchronised
from tl_jax.ops.pooling import adaptive_avg_pool, avg_pool, max_pool
from tl_jax.ops.windows import Padding

__all__ = [
    "BatchNorm",
    "Padding",
    "adaptive_avg_pool",
    "avg_pool",
    "batch_norm",
    "conv",
    "dot_general",
    "max_pool",
    "scale_and_shift",
    "synchronised",
    "want",
]
