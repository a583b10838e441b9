"""Compiled cases: the programs of oneDNN's primitives for them, each created once."""

import functools

from tl_jax.ops.cpu import constants
from tl_jax.ops.cpu.onednn import depthwise, primitives, winograd
from tl_jax.ops.cpu.onednn.cases import BatchNorm, Case, Convolution, Pair, Pooling, Winograd
from tl_jax.ops.cpu.onednn.lanes import Lane, lane
from tl_jax.ops.cpu.onednn.library import DnnlError
from tl_jax.ops.cpu.onednn.program import Program


def _convolution(case: Convolution) -> Program:
    in_parts = depthwise.in_parts(case)
    return depthwise.kernel_gradient(case) if in_parts else primitives.convolution(case)


_COMPILERS = {
    Convolution: _convolution,
    BatchNorm: primitives.batch_norm,
    Pooling: primitives.pooling,
    Winograd: winograd.winograd,
    Pair: primitives.pair,
}


@functools.cache
def compiled(case: Case, lane: Lane) -> Program:
    """Return the program for `case` in the caller's lane; its arrays are the inputs, then outputs.

    DnnlError if oneDNN does not provide it. Programs are few and small, so they are never freed.
    """
    return _COMPILERS[type(case)](case)


def last_size(case: Case) -> int:
    """Return the size of the last output of `case`, in bytes."""
    with lane(one_core=constants.active()) as mine:
        sizes = compiled(case, mine).sizes
    return sizes[max(sizes)]


def possible(case: Case) -> bool:
    """Whether oneDNN provides `case`."""
    try:
        with lane(one_core=constants.active()) as mine:
            compiled(case, mine)
    except DnnlError:
        return False
    return True
