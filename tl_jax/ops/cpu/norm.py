"""Batch norm on a CPU, by oneDNN, and sums by channel, image by image."""

import jax
import jax.numpy as jnp

from tl_jax.ops import plain
from tl_jax.ops.cpu import onednn


def has_images(x, *others, **settings) -> bool:
    """Whether a sum over all axes but the last can go image by image."""
    return x.ndim >= 3


def channel_sums(neutral, *arrays, terms):
    """`sums_by_image`, as a form."""
    return sums_by_image(terms, *arrays)


def sums_by_image(terms, *arrays):
    """`plain.channel_sums` in a loop over the images, which XLA cannot fuse: each stays in the
    cache, where XLA would compute `terms` anew for each sum."""

    def image(arrays):
        return [plain.total(x, 0) for x in terms(*arrays)]

    def add_image(totals, arrays):
        return jax.tree.map(jnp.add, totals, image(arrays)), None

    shapes = jax.eval_shape(image, [x[0] for x in arrays])
    zeros = [jnp.zeros(s.shape, s.dtype) for s in shapes]
    totals, _ = jax.lax.scan(add_image, zeros, list(arrays))
    return [x.sum(tuple(range(x.ndim - 1))) for x in totals]


def note_sizes(x, scale, offset, *, epsilon, relu) -> list[int]:
    """Of what `batch_norm` notes: where its ReLU cut off."""
    return [onednn.batch_norm_workspace(x, epsilon=epsilon)] if relu else []


def batch_norm(neutral, x, scale, offset, *, epsilon, relu):
    """Norm, with its ReLU if `relu`; mean and variance; and the notes."""
    return onednn.batch_norm(x, scale, offset, epsilon=epsilon, relu=relu)


def batch_norm_gradients(neutral, x, g, mean, var, scale, y, notes, *, epsilon):
    """Gradients by `x`, `scale` and the offset."""
    return onednn.batch_norm_gradients(x, g, mean, var, scale, *notes, epsilon=epsilon)
