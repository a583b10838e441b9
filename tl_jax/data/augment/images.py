"""Augmentations that change every image by itself."""

import dataclasses

import dm_pix as pix
import jax
import jax.numpy as jnp
from jax import Array

from tl_jax.data.augment import boxes as of_boxes
from tl_jax.data.augment import randaugment
from tl_jax.data.augment.base import Augmentation, Batch, name, option, with_images
from tl_jax.data.augment.rectangles import draws, noise, rectangles, stretched, whole, within
from tl_jax.errors import UserError


class OfImages(Augmentation):
    """Changes every image by itself: subclasses have `images`, with a key for each row."""

    def images(self, keys: Array, images: Array) -> Array:
        """(B,) keys and (B, H, W, C) float32 0..255 to images of the same shape."""
        raise NotImplementedError

    def boxes(self, keys: Array, batch: Batch, size: tuple[int, ...]) -> Batch:
        """What becomes of a batch's boxes in images (H, W); UserError where they cannot follow."""
        raise UserError(
            f"augment={name(self)} moves what is in an image, and boxes cannot follow: take flip, "
            "crop, jitter or erase"
        )

    def __call__(self, key: Array, batch: Batch) -> Batch:
        images = jnp.asarray(batch["inputs"]["image"], jnp.float32)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(images)))
        moved = self.boxes(keys, batch, images.shape[1:3]) if "boxes" in batch else {}
        return with_images(batch, self.images(keys, images)) | moved


class InPlace(OfImages):
    """Leaves everything where it is, and so the boxes too."""

    def boxes(self, keys: Array, batch: Batch, size: tuple[int, ...]) -> Batch:
        return {}


@dataclasses.dataclass(frozen=True)
class Crop(OfImages):
    """A random rectangle, stretched to the whole image (Szegedy et al. 2015, arXiv:1409.4842).

    Its share of the area is uniform in `least` to `most`, its width to height log-uniform in
    `ratio` to 1/`ratio`. Szegedy et al. and torchvision's RandomResizedCrop begin at 0.08, to train
    on ImageNet from nothing; 0.35 is what fastai's train_imagenette.py takes on a small dataset.
    """

    least: float = option(0.35, 0.01, 1)
    most: float = option(1.0, 0.01, 1)
    ratio: float = option(3 / 4, 0.1, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ordered(self)

    def images(self, keys: Array, images: Array) -> Array:
        return jax.vmap(stretched)(images, *self._places(keys, images.shape[1:3]))

    def boxes(self, keys: Array, batch: Batch, size: tuple[int, ...]) -> Batch:
        return of_boxes.cropped(batch, self._places(keys, size), size)

    def _places(self, keys: Array, size: tuple[int, ...]) -> tuple[Array, ...]:
        return rectangles(keys, size, self.least, self.most, self.ratio)


@dataclasses.dataclass(frozen=True)
class Flip(OfImages):
    """Mirrors left to right, and top to bottom, with a probability each."""

    probability: float = option(0.5, 0, 1)
    vertical: float = option(0.0, 0, 1)

    def images(self, keys: Array, images: Array) -> Array:
        across, down = draws(keys, 2).T[..., None, None, None]
        images = jnp.where(across < self.probability, pix.flip_left_right(images), images)
        if self.vertical:
            images = jnp.where(down < self.vertical, pix.flip_up_down(images), images)
        return images

    def boxes(self, keys: Array, batch: Batch, size: tuple[int, ...]) -> Batch:
        across, down = draws(keys, 2).T
        return of_boxes.mirrored(batch, across < self.probability, down < self.vertical, size)


@dataclasses.dataclass(frozen=True)
class Shift(OfImages):
    """Moves by up to so many whole pixels each way; the image goes on mirrored beyond its edge.

    A random crop without stretching, as Krizhevsky et al. 2012 and He et al. 2016 (4 pixels on
    CIFAR, arXiv:1512.03385) have it: (2 pixels + 1)² positions.
    """

    pixels: int = option(4, 0, 1000)

    def images(self, keys: Array, images: Array) -> Array:
        edges = ((0, 0), (self.pixels, self.pixels), (self.pixels, self.pixels), (0, 0))
        wide = jnp.pad(images, edges, mode="reflect")
        cropped = jax.vmap(pix.random_crop, (0, 0, None))(keys, wide, images.shape[1:])
        return jnp.asarray(cropped)


@dataclasses.dataclass(frozen=True)
class Jitter(InPlace):
    """Brightness, contrast, saturation and hue by random amounts, in this order.

    Each of the first three is multiplied by a factor uniform in 1 ± its option, hue moves by up to
    its option of the colour circle. The defaults are MoCo v2's (Chen et al. 2020,
    arXiv:2003.04297). Grey images have brightness and contrast only; those of other bands than RGB
    are refused unless saturation and hue are 0. Contrast is about the mean of each channel and
    saturation is that of HSV, as dm-pix and TensorFlow have them.
    """

    brightness: float = option(0.4, 0, 1)
    contrast: float = option(0.4, 0, 1)
    saturation: float = option(0.4, 0, 1)
    hue: float = option(0.1, 0, 0.5)

    def images(self, keys: Array, images: Array) -> Array:
        if self.saturation or self.hue:
            _require_colours(images, "take jitter(saturation=0, hue=0)")
        by = draws(keys, 4).T[..., None, None] * 2 - 1  # (4, B, 1, 1) in -1..1
        images = images / 255
        if self.brightness:
            images = jnp.clip(images * (1 + self.brightness * by[0, ..., None]), 0, 1)
        if self.contrast:
            changed = pix.adjust_contrast(images, 1 + self.contrast * by[1, ..., None])
            images = jnp.clip(changed, 0, 1)
        if images.shape[-1] == 3 and self.saturation:
            images = jnp.asarray(pix.adjust_saturation(images, 1 + self.saturation * by[2]))
        if images.shape[-1] == 3 and self.hue:
            images = jnp.asarray(pix.adjust_hue(images, self.hue * by[3]))
        return images * 255


@dataclasses.dataclass(frozen=True)
class RandAugment(OfImages):
    """So many of `randaugment.OPERATIONS` at one magnitude (Cubuk et al. 2020, arXiv:1909.13719).

    Operations and signs are drawn for each image by itself. Magnitudes go from 0 to 30 as in the
    paper and torchvision; 2 at 9 is the paper's choice for ResNet-50 on ImageNet.
    """

    operations: int = option(2, 1, 14)
    magnitude: float = option(9.0, 0, 30)

    def images(self, keys: Array, images: Array) -> Array:
        _require_colours(images, "take crop, flip, shift, erase or jitter(saturation=0, hue=0)")
        names = len(randaugment.OPERATIONS)
        for number in range(self.operations):
            each = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            which, sign = draws(each, 2).T
            which = jnp.minimum((which * names).astype(jnp.int32), names - 1)
            strength = jnp.where(sign < 0.5, -1, 1) * self.magnitude / 30
            images = randaugment.operate(images, which, strength)
        return images


@dataclasses.dataclass(frozen=True)
class Erase(InPlace):
    """A random rectangle becomes noise, with a probability (Zhong et al. 2020, arXiv:1708.04896).

    Its share of the area is uniform in `least` to `most`, up to rounding to whole pixels, its width
    to height log-uniform in `ratio` to 1/`ratio`. Each of its pixels is random, which is the best
    of the paper's four fillings.
    """

    probability: float = option(0.5, 0, 1)
    least: float = option(0.02, 0, 1)
    most: float = option(0.33, 0, 1)
    ratio: float = option(0.3, 0.1, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ordered(self)

    def images(self, keys: Array, images: Array) -> Array:
        size = images.shape[1:3]
        which, inside, words = jnp.moveaxis(jax.vmap(lambda k: jax.random.split(k, 3))(keys), 1, 0)
        places = rectangles(inside, size, self.least, self.most, self.ratio)
        holes = jax.vmap(lambda *place: within(size, *whole(size, *place)))(*places)
        holes &= (draws(which, 1) < self.probability)[..., None]
        return jnp.where(holes[..., None], noise(jax.vmap(jax.random.bits)(words), images), images)


def _require_colours(images: Array, instead: str) -> None:
    """UserError for images of bands, which have no colours that could change."""
    if (count := images.shape[-1]) not in (1, 3):
        raise UserError(
            f"augment= changes the colours of RGB, and the images have {count} bands: {instead}"
        )


def _ordered(owner: "Crop | Erase") -> None:
    if owner.least > owner.most:
        raise UserError(
            f"{name(owner)}: least {owner.least:g} must not be above most {owner.most:g}"
        )
