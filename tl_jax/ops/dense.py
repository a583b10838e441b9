"""The product of a dense layer with few outputs."""

import jax
import jax.numpy as jnp

THIN = 4  # outputs, up to which a product for each is faster on the CPU


def dot_general(x, kernel, dimensions, precision=None, preferred_element_type=None):
    """`jax.lax.dot_general` for `nn.Dense`: `x` (..., D), `kernel` (D, E).

    For a head of two classes the kernel's gradient is a product of two columns, at which XLA's CPU
    backend is five times slower than at a matrix by a vector, twice.
    """

    def usual(x, kernel):
        return jax.lax.dot_general(
            x, kernel, dimensions, precision, preferred_element_type=preferred_element_type
        )

    def by_output(x, kernel):
        return jnp.stack([x @ kernel[:, e] for e in range(kernel.shape[1])], -1)

    if kernel.shape[1] > THIN:
        return usual(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=by_output, default=usual)
