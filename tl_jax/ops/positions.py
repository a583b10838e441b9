"""Values at the positions of a sequence, where padding is zero vectors."""

import jax.numpy as jnp


def is_real(x):
    """Return where a sequence (N, T, D) is not padding: bool (N, T)."""
    return (x != 0).any(-1)


def mean_of_positions(x):
    """Return the mean over space of maps (N, H, W, C), over the real positions of sequences
    (N, T, D); vectors (N, D) as they are.
    """
    if x.ndim == 3:
        return x.sum(1) / jnp.maximum(is_real(x).sum(1, keepdims=True), 1).astype(x.dtype)
    return x.mean((1, 2)) if x.ndim == 4 else x
