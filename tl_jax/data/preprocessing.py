"""What a base's weights expect of an image; it travels with the base, and a mismatch is refused."""

import dataclasses
import hashlib
import json
import math
import numbers
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from tl_jax.data.boxes import letterbox
from tl_jax.data.files import path_of
from tl_jax.data.images import FULL, Image, image_of, open_image, plain
from tl_jax.data.task import Task
from tl_jax.errors import UserError, takes, takes_types, takes_whole, unknown

INTERPOLATIONS = {
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
    "nearest": PIL.Image.Resampling.NEAREST,
}
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # of pixels from 0 to 255, by channel in RGB
IMAGENET_STD = (58.395, 57.12, 57.375)
MAX_SIZE = 4096  # a model file may come from a stranger, and memory grows with its square
MAX_CHANNELS = 1024


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """From a decoded image to a network's input.

    The shorter side is resized to `size` / `crop` pixels and the central square of `size` is kept,
    as torchvision and timm do; or, with `crop_first`, the central square of `crop` times the
    shorter side is resized to `size`, as TensorFlow's recipes do. Pixels (0 to 255) become
    (x - mean) / std, one number or one for each of the `channels`, which come in `order`, RGB or
    BGR. Of images with 16 bits a channel the levels of `grey_range` become 0 to 255 (None: all).
    With `letterbox` nothing is cropped: the whole image is resized into the square, its ratio kept,
    and the rest has the colour of the mean, as detectors take images.
    """

    size: int
    crop: float = 0.875
    interpolation: str = "bilinear"
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 255.0
    order: str = "RGB"
    channels: int = 3
    crop_first: bool = False
    grey_range: tuple[int, int] | None = None
    tile: int = 0  # side of the tiles that images are cut into for a prediction; 0: they stay whole
    letterbox: bool = False

    def __post_init__(self):
        takes_types(self)
        takes_whole(self.channels, "channels=", 1, MAX_CHANNELS)
        takes_whole(self.tile, "tile=", 0, MAX_SIZE)
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)
        if self.order not in ("RGB", "BGR"):
            raise unknown("channel order", self.order, ("RGB", "BGR"))
        if not 1 <= self.size <= MAX_SIZE or not 0 < self.crop <= 1:
            raise UserError(
                f"input size must be at least 1 and at most {MAX_SIZE}, and crop in (0, 1]; "
                f"got {self.size}, {self.crop}"
            )
        self._require_statistics()
        least, most = self.grey_range or FULL
        if not 0 <= least < most <= FULL[1]:
            raise UserError(f"grey_range rises, within 0 and 65535; got {self.grey_range}")

    def _require_statistics(self) -> None:
        """UserError for a mean or deviation that is not of pixels from 0 to 255."""
        for name, values in (("mean=", self.mean), ("std=", self.std)):
            each = values if isinstance(values, tuple) else (values,) * self.channels
            fits = all(isinstance(value, numbers.Real) and math.isfinite(value) for value in each)
            expected = f"a finite number, or a tuple of one for each of {self.channels} channels"
            takes(fits and len(each) == self.channels, name, expected, values)
        least = min(self.std) if isinstance(self.std, tuple) else self.std
        expected = "deviations of pixels from 0 to 255, so at least 1 (times 255, if from 0 to 1)"
        takes(least >= 1, "std=", expected, self.std)

    def fit(self, image: Image) -> np.ndarray:
        """The image as uint8 (size, size, its bands); those of an array are fitted one by one."""
        if isinstance(image, np.ndarray):
            each = (PIL.Image.fromarray(image[..., band]) for band in range(image.shape[2]))
            return np.concatenate([self.fit(band) for band in each], -1)
        if self.letterbox:
            return self._letterboxed(image)
        box = None
        if self.crop_first:
            side = max(1, int(self.crop * min(image.size)))
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        else:
            box = self._kept(image.size)
        image = image.resize((self.size,) * 2, INTERPOLATIONS[self.interpolation], box)
        pixels = np.asarray(image)
        return pixels if pixels.ndim == 3 else pixels[..., None]

    def _letterboxed(self, image: PIL.Image.Image) -> np.ndarray:
        size, corner = letterbox.inner(np.array(image.size), self.size)
        resized = image.resize(size.tolist(), INTERPOLATIONS[self.interpolation])
        square = PIL.Image.new(image.mode, (self.size,) * 2, self._mean_colour(image.mode))
        square.paste(resized, tuple(corner.tolist()))
        pixels = np.asarray(square)
        return pixels if pixels.ndim == 3 else pixels[..., None]

    def _mean_colour(self, mode: str) -> int | tuple[int, ...]:
        """The pixel of this mode, 'L' or 'RGB', that becomes 0 or, of the other mode, nearly so."""
        each = np.broadcast_to(np.asarray(self.mean), self.channels)
        each = each[::-1] if self.order == "BGR" else each
        if mode == "L" or self.channels != 3:
            return (round(float(each.mean())),) * 3 if mode == "RGB" else round(float(each.mean()))
        return tuple(round(float(value)) for value in each)

    def _kept(self, sides: tuple[int, int]) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of an image of `sides` that is left after resizing, cropping.

        To resize that box alone gives the same pixels, up to rounding, and costs less.
        """
        shorter = max(self.size, round(self.size / self.crop))
        resized = [side * shorter // min(sides) for side in sides]
        corner = [round((side - self.size) / 2) for side in resized]
        scale = [side / new for side, new in zip(sides, resized, strict=True)]
        left, top = (c * s for c, s in zip(corner, scale, strict=True))
        right, bottom = ((c + self.size) * s for c, s in zip(corner, scale, strict=True))
        return left, top, right, bottom

    def normalise(self, pixels) -> jnp.ndarray:
        """(N, H, W, 1 or channels) uint8 in RGB to float32 (N, H, W, channels); grey is repeated.

        Of three channels, a base of one takes the mean.
        """
        x = jnp.asarray(pixels).astype(jnp.float32)
        if self.channels == 1:
            x = x.mean(-1, keepdims=True)
        self.require_channels(x.shape[-1])
        x = jnp.broadcast_to(x, (*x.shape[:-1], self.channels))
        if self.order == "BGR":
            x = x[..., ::-1]
        return (x - jnp.asarray(self.mean, x.dtype)) / jnp.asarray(self.std, x.dtype)

    def require_channels(self, channels: int, what: str = "images") -> None:
        """UserError, which `what` begins, unless images of so many channels go into the base."""
        if channels in (1, self.channels) or (channels, self.channels) == (3, 1):
            return
        adapted = f"its stem was adapted to {self.channels} (config.channels, with_channels)"
        hint = f"adapt its stem, channels={channels} (Base.with_channels)"
        raise UserError(
            f"{what} of {channels} channels for a base of {self.channels}: "
            f"{hint if self.channels == 3 else adapted}"
        )

    def __call__(self, images) -> jnp.ndarray:
        """One image or several, whatever their size, ready for the base: float32 (N, S, S, C).

        PIL images, or arrays (H, W, C): uint8, or floating point from 0 to 1. C is 1, 3, or the
        base's own number of channels.
        """
        return self.normalise(self.fitted(images if isinstance(images, list | tuple) else [images]))

    def fitted(self, images) -> np.ndarray:
        """Several such images as uint8 (N, size, size, 1, 3 or channels)."""
        if not len(images):
            raise UserError("no images were given")
        fitted = [self._fitted(image) for image in images]
        counts = sorted({pixels.shape[-1] for pixels in fitted})
        if len(set(counts) - {1}) > 1:
            raise UserError(f"images of {counts[-2]} and of {counts[-1]} channels at once")
        channels = counts[-1]
        wide = [np.broadcast_to(pixels, (*pixels.shape[:-1], channels)) for pixels in fitted]
        return np.stack(wide)

    def _fitted(self, image) -> np.ndarray:
        """(size, size, 1, 3 or channels) uint8."""
        image = self.opened(image)
        if isinstance(image, np.ndarray):
            image = image_of(_bytes(image, {1, 3, self.channels}))
        return self.fit(image)

    def read(self, images) -> np.ndarray:
        """One image or several, or paths of image files, as uint8 (N, size, size, C).

        UserError for a file that cannot be read.
        """
        return self.fitted(images if isinstance(images, list | tuple) else [images])

    def opened(self, image: Any) -> Image:
        """The image in the file of this path, or this image as one would see it; or an array."""
        if isinstance(image, str | os.PathLike):
            return open_image(path_of(image), self.grey_range, large=self.tile > 0)
        if isinstance(image, PIL.Image.Image):
            return plain(image, self.grey_range)
        return np.asarray(image)

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """What the network reads of one image, as a shape."""
        return jax.ShapeDtypeStruct(self.input_shape, jnp.float32)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Of one image as the network takes it: (1, size, size, channels)."""
        return 1, self.size, self.size, self.channels

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest value that `normalise` gives."""
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        return float(((0 - mean) / std).min()), float(((255 - mean) / std).max())

    def with_channels(self, channels: int) -> "Preprocessing":
        """The same for images of another number of channels.

        Beyond RGB, and for grey, mean and deviation are the mean of the three.
        """
        if channels == self.channels:
            return self

        def adapted(values):
            if isinstance(values, int | float):
                return values
            kept = tuple(values)[:: -1 if self.order == "BGR" else 1] if channels > 3 else ()
            return kept + (float(np.mean(values)),) * (channels - len(kept))

        order = self.order if channels == 3 else "RGB"
        mean, std = adapted(self.mean), adapted(self.std)
        return dataclasses.replace(self, mean=mean, std=std, channels=channels, order=order)

    def resized(self, size: int | None = None, crop: float | None = None) -> "Preprocessing":
        """The same for inputs of another size or crop."""
        takes(crop is None or isinstance(crop, int | float), "crop=", "a share up to 1", crop)
        size, crop = self.size if size is None else size, self.crop if crop is None else crop
        return dataclasses.replace(self, size=size, crop=crop)

    def of_task(self, task: Task) -> tuple["Preprocessing", Task]:
        """The preprocessing of this task's images, and the task; boxes, if it has any, in pixels of
        the square that images are then fitted into whole.

        UserError for a task without images, and for one of other channels than the base's.
        """
        if task.open is None:
            has = "no images, but texts" if task.texts else "no images"
            raise UserError(f"the base reads images, and the task {task.name!r} has {has}")
        self.require_channels(task.channels)
        own = dataclasses.replace(self, grey_range=task.grey_range, tile=task.tile)
        if task.asks != "boxes":
            return own, task
        moved = letterbox.fitted(task.truth, self.size)
        return dataclasses.replace(own, letterbox=True), task.with_truth(**moved)

    def described(self) -> dict[str, Any]:
        """Its fields, as JSON-able data."""
        return dataclasses.asdict(self)

    def require(self, who: str, images: Any) -> None:
        """UserError unless these are preprocessed images (N, H, W, C), of whatever size."""
        expects = f"{who} takes preprocessed images, float32 (N, H, W, C), channels last"
        if images.ndim != 4 or images.shape[-1] != self.channels:
            many = f"{expects} and {self.channels} of them"
            raise UserError(f"{many}; got an array {images.shape}")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise UserError(f"{expects}; got {images.dtype}: base.preprocessing takes pixels")
        if not len(images):
            raise UserError(f"{expects}; got none")
        if not isinstance(images, jax.core.Tracer):
            _require_range(np.asarray(images), self.range, expects)

    def fingerprint(self) -> str:
        """A hash that two preprocessings share only if they give the same pixels."""
        fields = dataclasses.asdict(self)
        del fields["tile"]  # a task of tiles has other images
        if not self.letterbox:  # as hashes were before there was one
            del fields["letterbox"]
        return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def imagenet(size: int, resize: int, interpolation: str = "bilinear") -> Preprocessing:
    """torchvision's and timm's usual one: the shorter side to `resize`, ImageNet's statistics."""
    return Preprocessing(size, size / resize, interpolation, IMAGENET_MEAN, IMAGENET_STD)


def minus_one_to_one(size: int, crop: float = 0.875, interpolation: str = "bilinear"):
    """Pixels from -1 to 1: TensorFlow's and the Inception nets' (Keras's mode "tf")."""
    return Preprocessing(size, crop, interpolation, 127.5, 127.5)


def caffe(size: int) -> Preprocessing:
    """Keras's mode "caffe": BGR from which ImageNet's mean is taken, not scaled."""
    return Preprocessing(size, mean=(103.939, 116.779, 123.68), std=1.0, order="BGR")


def _require_range(images: np.ndarray, declared: tuple[float, float], expects: str) -> None:
    """UserError if the values cannot be images normalised to the declared range.

    Some values beyond it are let pass (noise, augmented colours), but not most of them.
    """
    low, high = declared
    if not np.isfinite(images).all():
        raise UserError(f"{expects}, and finite; got NaN or infinity")
    raw = images.min() >= 0 and images.max() > high
    if raw or ((images < low) | (images > high)).mean() > 0.5:
        raise UserError(
            f"{expects}, with values from {low:.4g} to {high:.4g}; got {images.min():.4g} to "
            f"{images.max():.4g}: base.preprocessing takes pixels"
        )


def _bytes(array: np.ndarray, channels: set[int]) -> np.ndarray:
    """An image as an array (H, W, C) of uint8; UserError for what is none."""
    if array.ndim == 4:
        raise UserError(f"several images are a list of images; got one array {array.shape}")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in channels or 0 in array.shape:
        raise UserError(
            f"an image is an array (height, width, {' or '.join(map(str, sorted(channels)))}), "
            f"channels last; got {array.shape}"
        )
    if jnp.issubdtype(array.dtype, jnp.floating):
        low, high = float(array.min()), float(array.max())
        if not (0 <= low and high <= 1):
            raise UserError(
                f"floating-point images are from 0 to 1; got {low:.4g} to {high:.4g} "
                "(pixels from 0 to 255 are uint8)"
            )
        array = np.round(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise UserError(f"images are uint8 or floating point from 0 to 1; got {array.dtype}")
    return np.ascontiguousarray(array)
