"""Cases, compiled."""

import functools

from tl_jax.ops.onednn import primitives, winograd
from tl_jax.ops.onednn.cases import BatchNorm, Case, Convolution, Pooling, Winograd
from tl_jax.ops.onednn.program import Program

_COMPILERS = {
    Convolution: primitives.convolution,
    BatchNorm: primitives.batch_norm,
    Pooling: primitives.pooling,
    Winograd: winograd.winograd,
}


@functools.cache
def compiled(case: Case) -> Program:
    """What `case` says, on its inputs and then its outputs; DnnlError if oneDNN has no such thing.

    Programs are few and small, and so are never given back.
    """
    return _COMPILERS[type(case)](case)


def workspace(case: BatchNorm | Pooling) -> int:
    """The bytes that the forward pass of `case` leaves for its gradient: its last output."""
    sizes = compiled(case).sizes
    return sizes[max(sizes)]
