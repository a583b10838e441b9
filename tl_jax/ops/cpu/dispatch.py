"""The entry to this folder: how operations of `tl_jax.ops` reach their implementation for a CPU.

An operation calls `by_platform` with its name, its platform-neutral implementation and its arrays.
JAX chooses between the two when the program is lowered, so one traced program serves every
platform; with TL_JAX_CPU=plain only the neutral implementation is traced.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax.ops.cpu import channels, constants, convolution, dense, norm, onednn, pooling, switch


class Implementation(NamedTuple):
    """An operation on a CPU; each function gets the operation's arrays and settings.

    Notes are bytes that the forward pass leaves for the gradient.
    """

    compute: Callable  # its first argument is the neutral implementation, to fall back to
    takes: Callable[..., bool] = lambda *arrays, **settings: True  # whether it is worth tracing
    note_sizes: Callable[..., list[int]] = lambda *arrays, **settings: []


def _image(x, *others, **settings) -> bool:
    return onednn.takes_image(x)


IMPLEMENTATIONS = {
    "conv": Implementation(convolution.conv),
    "conv_gradients": Implementation(convolution.gradients),
    "channel_sums": Implementation(norm.channel_sums, norm.has_images),
    "batch_norm": Implementation(norm.batch_norm, _image, norm.note_sizes),
    "batch_norm_gradients": Implementation(norm.batch_norm_gradients, _image),
    "max_pool": Implementation(pooling.max_pool),
    "max_pool_with_notes": Implementation(
        pooling.max_pool_with_notes, note_sizes=pooling.note_sizes
    ),
    "max_pool_gradient": Implementation(pooling.max_pool_gradient),
    "avg_pool": Implementation(pooling.avg_pool),
    "avg_pool_gradient": Implementation(pooling.avg_pool_gradient),
    "concatenated": Implementation(channels.by_bits, channels.is_narrow),
    "dot_general": Implementation(dense.by_output, dense.is_thin),
}


def has(operation: str, *arrays, **settings) -> bool:
    """Whether the CPU has its own implementation for such arrays."""
    return switch.traced() and IMPLEMENTATIONS[operation].takes(*arrays, **settings)


def by_platform(operation: str, neutral: Callable, *arrays, **settings) -> Any:
    """Return `neutral(*arrays)` or, on a CPU, the result of the operation's own implementation."""
    if not has(operation, *arrays, **settings):
        return neutral(*arrays)
    cpu = functools.partial(IMPLEMENTATIONS[operation].compute, neutral, **settings)
    if weights_are_constant():
        return cpu(*arrays)
    return jax.lax.platform_dependent(*arrays, cpu=cpu, default=neutral)


def by_platform_with_notes(
    operation: str, neutral: Callable, *arrays, **settings
) -> tuple[list, list]:
    """Return the list of results, as from `neutral`, and the notes of the CPU's implementation.

    On other platforms the notes are zeros of the same sizes.
    """
    if not has(operation, *arrays, **settings):
        return neutral(*arrays), []
    sizes = IMPLEMENTATIONS[operation].note_sizes(*arrays, **settings)
    cpu = functools.partial(IMPLEMENTATIONS[operation].compute, neutral, **settings)

    def elsewhere(*arrays):
        return [*neutral(*arrays), *(jnp.zeros(size, jnp.uint8) for size in sizes)]

    both = jax.lax.platform_dependent(*arrays, cpu=cpu, default=elsewhere)
    count = len(both) - len(sizes)
    return both[:count], both[count:]


def weights_are_constant() -> bool:
    """Whether an inference program with constant weights is being traced, for a CPU.

    A convolution must then do without `jax.custom_vjp`, which traces its function separately:
    values that are computed once, from the weights, could not leave that trace.
    """
    return constants.active()
