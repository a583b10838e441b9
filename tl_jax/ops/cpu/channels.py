"""Maps of bfloat16 side by side on a CPU."""

import jax
import jax.numpy as jnp

from tl_jax.ops.cpu import constants


def is_narrow(x, *others) -> bool:
    """Whether `x` is of bfloat16, in a program that takes no gradient."""
    return constants.active() and x.dtype == jnp.bfloat16


def by_bits(neutral, *parts):
    """Return `neutral(*parts)` by moving bits.

    XLA would convert bfloat16 to float32, concatenate that, and convert it back.
    """
    bits = [jax.lax.bitcast_convert_type(part, jnp.uint16) for part in parts]
    return jax.lax.bitcast_convert_type(neutral(*bits), jnp.bfloat16)
