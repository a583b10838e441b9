"""Two frames of a film for each image: a camera that moves over a photograph."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from tl_jax.data.augment.base import Batch, with_images
from tl_jax.errors import UserError

MOTIONS = 9  # up, none or down; times left, none or right


@dataclasses.dataclass(frozen=True)
class TwoFrames:
    """Adds "a" and "b" to a batch, of which b shows the image `step` pixels further.

    The "motion" (B,), 0 to 8, is 3 times the row's direction plus the column's; 0 is back, 1 stays,
    2 is on. Images go on mirrored beyond their edge. `of`: an augmentation of the image before; or
    None.
    """

    step: int
    of: Callable[[Array, Batch], Batch] | None = None

    def __call__(self, key: Array, batch: Batch) -> Batch:
        for_image, for_motion = jax.random.split(key)
        seen = batch if self.of is None else self.of(for_image, batch)
        images = jnp.asarray(seen["inputs"]["image"], jnp.float32)
        if self.step >= (side := min(images.shape[1:3])):
            raise UserError(
                f"a camera that moves by {self.step} pixels leaves an image of {side}: take a "
                "smaller step="
            )
        motion = jax.random.randint(for_motion, (len(images),), 0, MOTIONS)
        edges = ((0, 0), (self.step,) * 2, (self.step,) * 2, (0, 0))
        wide = jnp.pad(images, edges, mode="reflect")
        corners = self.step * jnp.stack([motion // 3, motion % 3], 1)
        cut = jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (*at, 0), images.shape[1:]))
        frames = {"a": images, "b": cut(wide, corners)}
        return {
            **batch,
            **{name: with_images(seen, frame)["inputs"] for name, frame in frames.items()},
            "motion": motion,
        }
