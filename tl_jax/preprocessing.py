"""What a base's weights expect of an image; it travels with the base, and a mismatch is refused."""

import dataclasses
import hashlib
import json

import jax.numpy as jnp
import numpy as np
import PIL.Image

from tl_jax.errors import UserError, unknown

INTERPOLATIONS = {
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
    "nearest": PIL.Image.Resampling.NEAREST,
}
MAX_SIZE = 4096  # a model file may come from a stranger, and memory grows with its square


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """From a decoded image to a network's input.

    The central square of `crop` times the shorter side is resized to `size` pixels; pixels (0 to
    255) become (x - mean) / std, one number or one a channel; `order` is RGB or BGR.
    """

    size: int
    crop: float = 0.875
    interpolation: str = "bilinear"
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 255.0
    order: str = "RGB"

    def __post_init__(self):
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)
        if self.order not in ("RGB", "BGR"):
            raise unknown("channel order", self.order, ("RGB", "BGR"))
        if not 1 <= self.size <= MAX_SIZE or not 0 < self.crop <= 1:
            raise UserError(
                f"input size must be at least 1 and at most {MAX_SIZE}, and crop in (0, 1]; "
                f"got {self.size}, {self.crop}"
            )

    def fit(self, image: PIL.Image.Image) -> np.ndarray:
        """The image, 'L' or 'RGB', as uint8 (size, size, 1 or 3)."""
        side = max(1, int(self.crop * min(image.size)))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        if (side, side) == (self.size, self.size):
            image = image.crop(box)
        else:
            image = image.crop(box).resize((self.size,) * 2, INTERPOLATIONS[self.interpolation])
        pixels = np.asarray(image)
        return pixels if pixels.ndim == 3 else pixels[..., None]

    def normalise(self, pixels) -> jnp.ndarray:
        """(N, H, W, 1 or 3) uint8 in RGB to float32 (N, H, W, 3); grey is repeated."""
        x = jnp.broadcast_to(pixels, (*pixels.shape[:-1], 3)).astype(jnp.float32)
        if self.order == "BGR":
            x = x[..., ::-1]
        return (x - jnp.asarray(self.mean, x.dtype)) / jnp.asarray(self.std, x.dtype)

    def fingerprint(self) -> str:
        """A hash that two preprocessings share only if they give the same pixels."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self)).encode()).hexdigest()


def require_same(*, task: Preprocessing, base: Preprocessing) -> None:
    """UserError that names the fields in which a task's pipeline disagrees with the base's."""
    ours, theirs = dataclasses.asdict(task), dataclasses.asdict(base)
    different = [f"{k}: {ours[k]!r}, not {theirs[k]!r}" for k in ours if ours[k] != theirs[k]]
    if different:
        raise UserError(
            "the task was prepared otherwise than the base's weights expect ("
            + "; ".join(different)
            + "); prepare it with the base's own preprocessing"
        )
