"""Random augmentation inside a training step: `(key, batch) -> batch`, pure and jittable.

An augmentation is a frozen dataclass of numbers. Equal ones compare and hash equal, because they
are part of what a program is compiled for. A batch is a dictionary: `inputs` (a mapping) holds
`image` (B, H, W, C), uint8 or float, 0 to 255, and an augmentation gives it back as float32 in that
range and of that shape. What is drawn depends on the key, the example's row and, in a `Sequence`,
the part's position alone, so a resumed run draws the same, on however many devices. Under `pmap`
each device counts its own rows, so the key must differ by device (`engine.Parallel.key`).
"""

import ast
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import dm_pix as pix
import jax
import jax.numpy as jnp
from jax import Array

from tl_jax.data import randaugment
from tl_jax.errors import UserError, unknown

Batch = dict[str, Any]


def option(default: float, low: float, high: float) -> Any:
    """A field of an augmentation: a number in `low` to `high`."""
    return dataclasses.field(default=default, metadata={"range": (low, high)})


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What all have in common: options are checked, and kept as the type that they are said to be.

    `coupled`: examples are made of each other, so a part of a batch gives other examples than the
    whole.
    """

    coupled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if "range" in field.metadata:
                value = _checked(self, field, getattr(self, field.name))
                object.__setattr__(self, field.name, value)

    def __call__(self, key: Array, batch: Batch) -> Batch:
        raise NotImplementedError


def _checked(owner: Augmentation, field: dataclasses.Field, value: Any) -> float:
    low, high = field.metadata["range"]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    whole = field.type is int
    if not number or not low <= value <= high or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise UserError(
            f"{_name(owner)}: {field.name} must be {kind} from {low:g} to {high:g}, not {value!r}"
        )
    return field.type(value)


@dataclasses.dataclass(frozen=True)
class Sequence(Augmentation):
    """One after the other, each with a key of its own, which later parts leave as it is."""

    parts: tuple[Augmentation, ...]

    @property
    def coupled(self) -> bool:
        return any(part.coupled for part in self.parts)

    def __call__(self, key: Array, batch: Batch) -> Batch:
        for number, part in enumerate(self.parts):
            batch = part(jax.random.fold_in(key, number), batch)
        return batch


# Of one image


class OfImages(Augmentation):
    """Changes every image by itself: subclasses have `images`, with a key for each row."""

    def images(self, keys: Array, images: Array) -> Array:
        """(B,) keys and (B, H, W, C) float32 0..255 to images of the same shape."""
        raise NotImplementedError

    def __call__(self, key: Array, batch: Batch) -> Batch:
        images = jnp.asarray(batch["inputs"]["image"], jnp.float32)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(images)))
        return _with_images(batch, self.images(keys, images))


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
        places = rectangles(keys, images.shape[1:3], self.least, self.most, self.ratio)
        return jax.vmap(stretched)(images, *places)


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
        return jax.vmap(pix.random_crop, (0, 0, None))(keys, wide, images.shape[1:])


@dataclasses.dataclass(frozen=True)
class Jitter(OfImages):
    """Brightness, contrast, saturation and hue by random amounts, in this order.

    Each of the first three is multiplied by a factor uniform in 1 ± its option, hue moves by up to
    its option of the colour circle. The defaults are MoCo v2's (Chen et al. 2020,
    arXiv:2003.04297). Images that are not of three channels have brightness and contrast only.
    Contrast is about the mean of each channel and saturation is that of HSV, as dm-pix and
    TensorFlow have them.
    """

    brightness: float = option(0.4, 0, 1)
    contrast: float = option(0.4, 0, 1)
    saturation: float = option(0.4, 0, 1)
    hue: float = option(0.1, 0, 0.5)

    def images(self, keys: Array, images: Array) -> Array:
        by = draws(keys, 4).T[..., None, None] * 2 - 1  # (4, B, 1, 1) in -1..1
        images = images / 255
        if self.brightness:
            images = jnp.clip(images * (1 + self.brightness * by[0, ..., None]), 0, 1)
        if self.contrast:
            images = pix.adjust_contrast(images, 1 + self.contrast * by[1, ..., None])
            images = jnp.clip(images, 0, 1)
        if images.shape[-1] == 3 and self.saturation:
            images = pix.adjust_saturation(images, 1 + self.saturation * by[2])
        if images.shape[-1] == 3 and self.hue:
            images = pix.adjust_hue(images, self.hue * by[3])
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
        names = len(randaugment.OPERATIONS)
        for number in range(self.operations):
            each = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            which, sign = draws(each, 2).T
            which = jnp.minimum((which * names).astype(jnp.int32), names - 1)
            strength = jnp.where(sign < 0.5, -1, 1) * self.magnitude / 30
            images = randaugment.operate(images, which, strength)
        return images


@dataclasses.dataclass(frozen=True)
class Erase(OfImages):
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
        holes = jax.vmap(lambda *place: within(size, *_whole(size, *place)))(*places)
        holes &= (draws(which, 1) < self.probability)[..., None]
        return jnp.where(holes[..., None], noise(jax.vmap(jax.random.bits)(words), images), images)


# Of two images


class OfPairs(Augmentation):
    """Mixes each example with a partner: a random permutation of the batch, one share for all.

    The share is drawn from Beta(alpha, alpha). With shares s and 1 - s, weights w and v and targets
    t and u, the loss of an example becomes s w CE(t) + (1 - s) v CE(u): the new weight is
    s w + (1 - s) v, and the new targets are the mean of t and u by those two products.
    """

    coupled = True
    alpha: float

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
        return _with_images(batch, images) | {"targets": targets, "weights": total}


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


# Pieces


def draws(keys: Array, count: int) -> Array:
    """(B, count) uniform numbers in 0 to 1, of a key each."""
    return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys)


def rectangles(
    keys: Array, size: tuple[int, int], least: float, most: float, ratio: float
) -> tuple[Array, Array, Array, Array]:
    """Top, left, height and width, (B,) each, of random rectangles in images of `size`, in pixels.

    Area and place are uniform, width to height log-uniform between what `ratio` allows and what
    fits. torchvision draws again until one fits, which makes large areas rarer.
    """
    height, width = size
    area, shape, top, left = draws(keys, 4).T
    area = (least + (most - least) * area) * height * width
    fits = area / height**2, width**2 / area
    low, high = (jnp.log(jnp.clip(limit, *fits)) for limit in (ratio, 1 / ratio))
    shape = jnp.exp(low + (high - low) * shape)
    tall = jnp.minimum(jnp.sqrt(area / shape), height)
    wide = jnp.minimum(jnp.sqrt(area * shape), width)
    return top * (height - tall), left * (width - wide), tall, wide


def _whole(size: tuple[int, int], top: Array, left: Array, tall: Array, wide: Array) -> list[Array]:
    """The rectangle in whole pixels, one at least, inside an image of `size`."""
    sides = [jnp.maximum(jnp.round(side), 1) for side in (tall, wide)]
    firsts = zip((top, left), size, sides, strict=True)
    return [jnp.minimum(jnp.round(first), most - side) for first, most, side in firsts] + sides


def within(size: tuple[int, int], top: Array, left: Array, tall: Array, wide: Array) -> Array:
    """(H, W) whether a pixel lies in the rectangle, which has whole numbers."""
    rows, columns = jnp.arange(size[0])[:, None], jnp.arange(size[1])
    inside = (rows >= top) & (rows < top + tall)
    return inside & (columns >= left) & (columns < left + wide)


def stretched(image: Array, top: Array, left: Array, tall: Array, wide: Array) -> Array:
    """The rectangle of `image` (H, W, C) in the image's own size, by linear interpolation.

    Two passes of gathers, which on a CPU take much less than the matrix products of
    `jax.image.scale_and_translate`. Crops only grow, so there is nothing to smooth.
    """
    for axis, first, length in ((0, top, tall), (1, left, wide)):
        size = image.shape[axis]
        at = first + (jnp.arange(size) + 0.5) * length / size - 0.5
        at = jnp.clip(at, 0, size - 1)
        before = jnp.floor(at).astype(jnp.int32)
        share = jnp.expand_dims(at - before, [1 - axis, 2])
        after = jnp.minimum(before + 1, size - 1)
        below, above = (jnp.take(image, i, axis=axis, mode="clip") for i in (before, after))
        image = below + share * (above - below)
    return image


def noise(words: Array, like: Array) -> Array:
    """Random whole numbers 0 to 255 in the shape of `like` (B, ...): of one random word (B,) each.

    Appleby's finalizer of MurmurHash3 on the number of each value: without visible pattern, and a
    small part of what threefry costs on a CPU.
    """
    values = jax.lax.broadcasted_iota(jnp.uint32, (len(like), like[0].size), 1)
    values = values * jnp.uint32(0x9E3779B9) + words.astype(jnp.uint32)[:, None]
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        values = (values ^ (values >> shift)) * jnp.uint32(factor)
    return ((values ^ (values >> 16)) >> 24).astype(jnp.float32).reshape(like.shape)


def _with_images(batch: Batch, images: Array) -> Batch:
    inputs = batch["inputs"]
    return {**batch, "inputs": type(inputs)({**inputs, "image": jnp.clip(images, 0, 255)})}


def _mixable(owner: Augmentation, batch: Batch) -> tuple[Array, Array]:
    """Targets (B, C) and weights (B,), which mixing needs."""
    targets, weights = batch.get("targets"), batch.get("weights")
    if weights is None or getattr(targets, "ndim", 0) != 2:
        raise UserError(
            f"{_name(owner)} mixes the classes of two images: the batch needs targets (B, C) and "
            f"weights (B,), and has {', '.join(sorted(batch))}"
        )
    return jnp.asarray(targets), jnp.asarray(weights)


def _ordered(owner: "Crop | Erase") -> None:
    if owner.least > owner.most:
        raise UserError(
            f"{_name(owner)}: least {owner.least:g} must not be above most {owner.most:g}"
        )


# By name

AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = {
    "crop": Crop,
    "flip": Flip,
    "shift": Shift,
    "jitter": Jitter,
    "randaugment": RandAugment,
    "erase": Erase,
    "mixup": MixUp,
    "cutmix": CutMix,
}


def _name(augmentation: Augmentation) -> str:
    return type(augmentation).__name__.lower()


def make(text: str) -> Augmentation | None:
    """The augmentation of a setting such as 'crop+flip+erase(0.25, most=0.2)'; '' is None.

    Raises:
        UserError: the text cannot be read, or has a name, option or value that there is not.
    """
    if not text.strip():
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        parts = tuple(_part(node) for node in _terms(tree))
    except UserError:
        raise
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise UserError(
            f"augmentation {text[:80]!r} cannot be read; an example: 'crop+flip+erase(0.25)'"
        ) from None
    return parts[0] if len(parts) == 1 else Sequence(parts)


def _terms(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_terms(node.left), *_terms(node.right)]
    return [node]


def _part(node: ast.expr) -> Augmentation:
    """The augmentation of 'name' or 'name(option, option=value)'."""
    named = node.func if isinstance(node, ast.Call) else node
    if not isinstance(named, ast.Name):
        raise ValueError("a name was expected")
    if named.id not in AUGMENTATIONS:
        raise unknown("augmentation", named.id, AUGMENTATIONS)
    kind = AUGMENTATIONS[named.id]
    known = inspect.signature(kind).parameters
    values = [ast.literal_eval(value) for value in getattr(node, "args", ())]
    if len(values) > len(known):
        raise UserError(
            f"{named.id} takes {len(known)} options ({', '.join(known)}), not {len(values)}"
        )
    options = dict(zip(known, values, strict=False))
    for keyword in getattr(node, "keywords", ()):
        if keyword.arg is None:
            raise ValueError("'**' has no place here")
        if keyword.arg not in known:
            raise unknown(f"option of {named.id}", keyword.arg, known)
        if keyword.arg in options:
            raise UserError(f"{named.id}: {keyword.arg} is given twice")
        options[keyword.arg] = ast.literal_eval(keyword.value)
    return kind(**options)
