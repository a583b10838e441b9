"""Batch norm on a CPU, by oneDNN, and per-channel sums, image by image."""

import jax
import jax.numpy as jnp

from tl_jax.ops import plain
from tl_jax.ops.cpu import onednn


def has_images(x, *others, **settings) -> bool:
    """Whether a sum over all axes but the last can go image by image."""
    return x.ndim >= 3


def channel_sums(neutral, *arrays, terms):
    """Return `sums_by_image`, with the signature of an implementation."""
    return sums_by_image(terms, *arrays)


def sums_by_image(terms, *arrays):
    """Return what `plain.channel_sums` does, by a loop over the images.

    XLA cannot fuse the loop, so an image's `terms` are computed once, in the cache. Without it XLA
    would compute `terms` anew for each sum.
    """

    def image(arrays):
        return [plain.total(x, 0) for x in terms(*arrays)]

    def add_image(totals, arrays):
        return jax.tree.map(jnp.add, totals, image(arrays)), None

    shapes = jax.eval_shape(image, [x[0] for x in arrays])
    zeros = [jnp.zeros(s.shape, s.dtype) for s in shapes]
    totals, _ = jax.lax.scan(add_image, zeros, list(arrays))
    return [x.sum(tuple(range(x.ndim - 1))) for x in totals]


def note_sizes(x, scale, offset, *, epsilon, relu) -> list[int]:
    """Return the sizes, in bytes, of the notes of `batch_norm`: where its ReLU cut off."""
    return [onednn.batch_norm_workspace(x, epsilon=epsilon)] if relu else []


def batch_norm(neutral, x, scale, offset, *, epsilon, relu):
    """Return the normalised `x` (after a ReLU if `relu`), mean, variance, and the notes."""
    return onednn.batch_norm(x, scale, offset, epsilon=epsilon, relu=relu)


def batch_norm_gradients(neutral, x, g, mean, var, scale, y, notes, *, epsilon):
    """Return the gradients of `x`, `scale` and the offset."""
    return onednn.batch_norm_gradients(x, g, mean, var, scale, *notes, epsilon=epsilon)
