"""Rematerialisation: a function that the backward pass runs again, instead of keeping its values.

Chen et al. 2016, arXiv:1604.06174. `jax.checkpoint` orders the second run by barriers, which XLA
drops on CPUs: there it runs at once, beside the first, and no memory is saved. Here the second run
reads what came of the gradient, so it cannot begin before.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def remat(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` of trees of arrays, of which only the arguments are kept for the backward pass."""

    @jax.custom_vjp
    def run(*args):
        return fn(*args)

    def forward(*args):
        return fn(*args), args

    def backward(args, gradient):
        given, structure = jax.tree.flatten(args)
        later = _nothing(gradient)
        given = [leaf + later.astype(leaf.dtype) if _is_float(leaf) else leaf for leaf in given]
        return jax.vjp(fn, *jax.tree.unflatten(structure, given))[1](gradient)

    run.defvjp(forward, backward)
    return run


def _nothing(gradient: Any) -> jax.Array:
    """0, known once the gradient is; NaN where that is no finite number."""
    firsts = [leaf.ravel()[:1] for leaf in jax.tree.leaves(gradient) if _is_float(leaf)]
    return sum((jnp.float32(0) * first.sum() for first in firsts), jnp.float32(0))


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)
