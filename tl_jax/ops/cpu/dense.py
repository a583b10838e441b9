"""A dense layer with few outputs on a CPU."""

import jax.numpy as jnp

THIN = 4  # outputs; up to here one matrix-vector product for each is faster


def is_thin(x, kernel) -> bool:
    """Whether the layer has at most `THIN` outputs."""
    return kernel.shape[1] <= THIN


def by_output(neutral, x, kernel):
    """Return `x @ kernel`, by a matrix-vector product for each output.

    For a head of two classes the kernel's gradient is a matrix product with two columns; XLA takes
    five times as long for it as for two matrix-vector products.
    """
    return jnp.stack([x @ kernel[:, e] for e in range(kernel.shape[1])], -1)
