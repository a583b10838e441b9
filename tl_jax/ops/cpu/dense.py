"""A dense layer with few outputs on a CPU."""

import jax.numpy as jnp

THIN = 4  # outputs, up to which a product for each is faster


def is_thin(x, kernel) -> bool:
    """Whether there are so few outputs."""
    return kernel.shape[1] <= THIN


def by_output(neutral, x, kernel):
    """A product of `x` and a vector for each output.

    For a head of two classes the kernel's gradient is a product of two columns, at which XLA is
    five times slower than at a matrix by a vector, twice.
    """
    return jnp.stack([x @ kernel[:, e] for e in range(kernel.shape[1])], -1)
