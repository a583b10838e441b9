"""The product of a dense layer."""

import jax

from tl_jax.ops.cpu import forms


def dot_general(x, kernel, dimensions, precision=None, preferred_element_type=None):
    """`jax.lax.dot_general` for `nn.Dense`: `x` (..., D), `kernel` (D, E)."""

    def neutral(x, kernel):
        return jax.lax.dot_general(
            x, kernel, dimensions, precision, preferred_element_type=preferred_element_type
        )

    return forms.by_platform("dot_general", neutral, x, kernel)
