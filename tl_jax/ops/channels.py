"""Maps side by side."""

import jax.numpy as jnp

from tl_jax.ops.cpu import dispatch


def concatenated(parts):
    """Return the parts (..., C_i), of one type, as one array (..., sum of C_i)."""

    def neutral(*parts):
        return jnp.concatenate(parts, -1)

    return dispatch.by_platform("concatenated", neutral, *parts)
