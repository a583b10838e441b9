"""The product of a dense layer."""

import jax

from tl_jax.ops.cpu import dispatch


def dot_general(x, kernel, dimensions, precision=None, preferred_element_type=None):
    """Return what `jax.lax.dot_general` does, for `nn.Dense`: `x` (..., D), `kernel` (D, E)."""

    def neutral(x, kernel):
        return jax.lax.dot_general(
            x, kernel, dimensions, precision, preferred_element_type=preferred_element_type
        )

    return dispatch.by_platform("dot_general", neutral, x, kernel)
