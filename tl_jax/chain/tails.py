"""Modules of tails: what an objective puts beside a network while it trains, and leaves behind."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax import ops


class Projector(nn.Module):
    """The mean over space, a dense layer, batch norm, ReLU, a dense layer: to (N, features).

    With `norm` the output is normalised by the batch as well.
    """

    hidden: int
    features: int
    norm: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.hidden, use_bias=False)(ops.mean_of_positions(x))
        x = ops.BatchNorm(name="norm")(x, activation=jax.nn.relu)
        x = nn.Dense(self.features)(x)
        return ops.BatchNorm(use_scale=False, name="norm_out")(x) if self.norm else x


class Prototypes(nn.Module):
    """Cosines of (N, D) with `count` vectors that are learnt: (N, count)."""

    count: int

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.normal(1.0), (x.shape[-1], self.count))
        lengths = jnp.linalg.norm(x, axis=-1, keepdims=True), jnp.linalg.norm(kernel, axis=0)
        return (x / (lengths[0] + 1e-6)) @ (kernel / lengths[1])


class Slots(nn.Module):
    """The mean over space, then a dense layer for each of `slots` places that a part may take: to
    (N, slots, features).

    The sum over slots of the parts of one whole, each in its own, is a dense layer on all of them
    side by side.
    """

    slots: int
    features: int

    @nn.compact
    def __call__(self, x):
        return nn.DenseGeneral((self.slots, self.features))(ops.mean_of_positions(x))


class ReluDense(nn.Module):
    """ReLU and a dense layer on the last axis: (..., D) to (..., features)."""

    features: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features)(jax.nn.relu(x))


class Decoder(nn.Module):
    """An image (N, H, W, C) from maps (N, h, w, D), or from a vector (N, D), which is a map of one
    position: each position gives the pixels above it, by a hidden layer and a dense one.
    """

    hidden: int

    @nn.compact
    def __call__(self, image, x):
        count, height, width, channels = image.shape
        x = x if x.ndim == 4 else x[:, None, None]
        rows, columns = x.shape[1:3]
        tall, wide = -(-height // rows), -(-width // columns)
        x = nn.Dense(tall * wide * channels)(jax.nn.relu(nn.Dense(self.hidden)(x)))
        x = x.reshape(count, rows, columns, tall, wide, channels).swapaxes(2, 3)
        return x.reshape(count, rows * tall, columns * wide, channels)[:, :height, :width]
