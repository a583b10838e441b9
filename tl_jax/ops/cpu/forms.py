"""The door of this folder: how the operations of `tl_jax.ops` ask for their form on a CPU.

An operation calls `by_platform` with its name, its platform-neutral form and its arrays. Which of
the two forms runs is decided when the program is lowered, so one program text serves every
platform; with TL_JAX_CPU=plain only the neutral form is traced.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax.ops.cpu import constants, convolution, dense, norm, onednn, pooling, switch


class Form(NamedTuple):
    """An operation on a CPU; each function gets the operation's arrays and settings.

    Notes are bytes that the forward pass leaves for the gradient.
    """

    compute: Callable  # its first argument is the neutral form, to fall back to
    takes: Callable[..., bool] = lambda *arrays, **settings: True  # whether it is worth tracing
    note_sizes: Callable[..., list[int]] = lambda *arrays, **settings: []


def _image(x, *others, **settings) -> bool:
    return onednn.takes_image(x)


FORMS = {
    "conv": Form(convolution.conv),
    "conv_gradients": Form(convolution.gradients),
    "channel_sums": Form(norm.channel_sums, norm.has_images),
    "batch_norm": Form(norm.batch_norm, _image, norm.note_sizes),
    "batch_norm_gradients": Form(norm.batch_norm_gradients, _image),
    "max_pool": Form(pooling.max_pool),
    "max_pool_with_notes": Form(pooling.max_pool_with_notes, note_sizes=pooling.note_sizes),
    "max_pool_gradient": Form(pooling.max_pool_gradient),
    "avg_pool": Form(pooling.avg_pool),
    "avg_pool_gradient": Form(pooling.avg_pool_gradient),
    "dot_general": Form(dense.by_output, dense.is_thin),
}


def has(operation: str, *arrays, **settings) -> bool:
    """Whether the CPU has a form of its own for such arrays."""
    return switch.fast() and FORMS[operation].takes(*arrays, **settings)


def by_platform(operation: str, neutral: Callable, *arrays, **settings) -> Any:
    """Return `neutral(*arrays)`, or the result of the operation's CPU form on a CPU."""
    if not has(operation, *arrays, **settings):
        return neutral(*arrays)
    cpu = functools.partial(FORMS[operation].compute, neutral, **settings)
    if weights_are_constant():
        return cpu(*arrays)
    return jax.lax.platform_dependent(*arrays, cpu=cpu, default=neutral)


def by_platform_with_notes(
    operation: str, neutral: Callable, *arrays, **settings
) -> tuple[list, list]:
    """Return the results, which `neutral` gives as a list, and the notes of the CPU's form.

    On other platforms notes are zeros, of the same sizes.
    """
    if not has(operation, *arrays, **settings):
        return neutral(*arrays), []
    sizes = FORMS[operation].note_sizes(*arrays, **settings)
    cpu = functools.partial(FORMS[operation].compute, neutral, **settings)

    def elsewhere(*arrays):
        return [*neutral(*arrays), *(jnp.zeros(size, jnp.uint8) for size in sizes)]

    both = jax.lax.platform_dependent(*arrays, cpu=cpu, default=elsewhere)
    count = len(both) - len(sizes)
    return both[:count], both[count:]


def weights_are_constant() -> bool:
    """Whether what is being traced takes no gradient, on a CPU, of weights that stay as they are.

    A convolution must then do without `jax.custom_vjp`, which traces its function by itself: what
    is computed once of the weights could not leave it.
    """
    return constants.active()
