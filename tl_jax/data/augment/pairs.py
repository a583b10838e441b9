"""Augmentations that mix each example with another of its batch."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from tl_jax.data.augment.base import Augmentation, Batch, name, option, with_images
from tl_jax.data.augment.rectangles import within
from tl_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class OfPairs(Augmentation):
    """Mixes each example with a partner: a random permutation of the batch, one share for all.

    The share is drawn from Beta(alpha, alpha). With shares s and 1 - s, weights w and v and targets
    t and u, the loss of an example becomes s w CE(t) + (1 - s) v CE(u): the new weight is
    s w + (1 - s) v, and the new targets are the mean of t and u by those two products.
    """

    alpha: float = option(1.0, 0.01, 100)

    @property
    def coupled(self) -> bool:
        return True

    def images(self, key: Array, own: Array, other: Array, share: Array) -> tuple[Array, Array]:
        """Mixed images, and the share of `own` that is in them."""
        raise NotImplementedError

    def __call__(self, key: Array, batch: Batch) -> Batch:
        images = jnp.asarray(batch["inputs"]["image"], jnp.float32)
        targets, weights = _mixable(self, batch)
        for_share, for_partners, for_images = jax.random.split(key, 3)
        share = jax.random.beta(for_share, self.alpha, self.alpha)
        partners = jax.random.permutation(for_partners, len(images))
        images, share = self.images(for_images, images, images[partners], share)
        own, other = share * weights, (1 - share) * weights[partners]
        total = own + other
        # Where both weights are 0 any finite targets do: its own.
        part = jnp.where(total > 0, own / jnp.where(total > 0, total, 1), 1)[:, None]
        targets = part * targets + (1 - part) * targets[partners]
        return with_images(batch, images) | {"targets": targets, "weights": total}


@dataclasses.dataclass(frozen=True)
class MixUp(OfPairs):
    """Each image and its partner, blended (Zhang et al. 2018, arXiv:1710.09412).

    On ImageNet the paper finds alpha in 0.1 to 0.4 best.
    """

    alpha: float = option(0.2, 0.01, 100)

    def images(self, key: Array, own: Array, other: Array, share: Array) -> tuple[Array, Array]:
        return share * own + (1 - share) * other, share


@dataclasses.dataclass(frozen=True)
class CutMix(OfPairs):
    """A rectangle of the partner in each image (Yun et al. 2019, arXiv:1905.04899).

    It has the image's proportions and lies anywhere, cut off at the edge; the share is then that of
    the pixels that remain. One place for the whole batch.
    """

    alpha: float = option(1.0, 0.01, 100)

    def images(self, key: Array, own: Array, other: Array, share: Array) -> tuple[Array, Array]:
        size = jnp.asarray(own.shape[1:3])
        middle = jax.random.uniform(key, (2,)) * size
        half = size * jnp.sqrt(1 - share) / 2
        first = jnp.round(jnp.clip(middle - half, 0, size)).astype(jnp.int32)
        sides = jnp.round(jnp.clip(middle + half, 0, size)).astype(jnp.int32) - first
        hole = within(own.shape[1:3], *first, *sides)[..., None]
        return jnp.where(hole, other, own), 1 - sides.prod() / size.prod()


def _mixable(owner: Augmentation, batch: Batch) -> tuple[Array, Array]:
    """Targets (B, C) and weights (B,), which mixing needs."""
    targets, weights = batch.get("targets"), batch.get("weights")
    if weights is None or getattr(targets, "ndim", 0) != 2:
        raise UserError(
            f"{name(owner)} mixes the classes of two images: the batch needs targets (B, C) and "
            f"weights (B,), and has {', '.join(sorted(batch))}"
        )
    return jnp.asarray(targets), jnp.asarray(weights)
