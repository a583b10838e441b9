"""Masked autoencoder for convolutions: hidden patches are painted from what is left.

He et al. 2022, Masked Autoencoders Are Scalable Vision Learners (arXiv:2111.06377), whose encoder
leaves hidden patches out; a convolution sees them filled, as in Context Encoders (Pathak et al.
2016, arXiv:1604.07379).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import IMAGE, Known, Layer
from tl_jax.chain.tails import Decoder
from tl_jax.errors import UserError, takes, takes_whole
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.self_supervised import SelfSupervised


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masked(SelfSupervised):
    """The mean squared error of the hidden pixels, each patch at mean 0 and deviation 1.

    A `share` of the `patch` x `patch` patches is hidden, other ones in each step, behind the mean
    of the visible pixels. The tail `decoded` reads the features: of maps, each position paints the
    pixels above it; a vector paints the whole image, which leaves little of where things are.
    """

    patch: int = 4
    share: float = 0.6
    hidden: int = 512

    def __post_init__(self):
        takes_whole(self.patch, "masked: patch", 1, 1024)
        takes(0 < self.share < 1, "masked: share", "a share above 0 and below 1", self.share)

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """`decoded`."""
        return (Layer("decoded", Decoder(self.hidden), (IMAGE, self.output)),)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss`."""
        images = jnp.asarray(batch["inputs"][IMAGE], jnp.float32)
        hidden = self.mask(now.key, images)
        shown = jnp.where(hidden, 0, images)
        mean = shown.sum((1, 2), keepdims=True) / (~hidden).sum((1, 2), keepdims=True)
        seen = Known({IMAGE: jnp.where(hidden, mean, images)})
        gaps = net(seen, "decoded").astype(jnp.float32) - standardised(images, self.patch)
        squares = jnp.where(hidden, gaps**2, 0)
        return Loss({"loss": Term(squares.sum(), hidden.sum() * squares.shape[-1])}, memory)

    def mask(self, key: jax.Array, images: jax.Array) -> jax.Array:
        """(B, H, W, 1) whether a pixel is hidden; of every image as many."""
        count, side = images.shape[:2]
        if side % self.patch:
            raise UserError(
                f"masked: images of {side} x {side} pixels are not made of patches of {self.patch}:"
                " take a patch= that divides the side"
            )
        rows = side // self.patch
        if rows < 2:
            raise UserError(
                f"masked: one patch of {self.patch} is the whole image of {side} x {side} pixels, "
                "and leaves nothing to paint it from: take a smaller patch="
            )
        hidden = min(max(1, round(self.share * rows**2)), rows**2 - 1)
        order = jax.random.uniform(key, (count, rows**2)).argsort(1).argsort(1)
        cells = (order < hidden).reshape(count, rows, rows, 1)
        return cells.repeat(self.patch, 1).repeat(self.patch, 2)


def standardised(images: jax.Array, patch: int) -> jax.Array:
    """(B, H, W, C), each patch of each channel at mean 0 and deviation 1; flat ones are 0."""
    count, side, _, channels = images.shape
    rows = side // patch
    cells = images.reshape(count, rows, patch, rows, patch, channels)
    gaps = cells - cells.mean((2, 4), keepdims=True)
    deviation = jnp.sqrt(cells.var((2, 4), keepdims=True) + 1)  # of levels from 0 to 255
    return (gaps / deviation).reshape(images.shape)
