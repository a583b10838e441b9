"""Heads of detectors: boxes with classes from the maps of a base, in shares of an image's side.

Each returns {"scores" (N, P, C), "boxes" (N, P, 1 or C, 4)}, P boxes that may be objects, with one
box for all classes or one a class, and beside these what its objective asks for.
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax import ops
from tl_jax.chain.places import BEFORE, Layer
from tl_jax.errors import takes_whole

PROPOSALS = "proposals"  # the place of boxes (N, P, 4) that may be objects; rows of zeros are none
RARE = 0.01  # the probability of each class at first (Lin et al. 2017, arXiv:1708.02002, 4.1)
# Standard deviations of offsets, by which they are divided (Girshick 2015, arXiv:1504.08083, 2.3)
SPREAD = (0.1, 0.1, 0.2, 0.2)
LARGEST = 5.0  # logarithm of a distance, beyond any image; exp would overflow
MOST = 1024


class Merge(nn.Module):
    """Maps of a higher layer, enlarged, and of a lower one, as the sum of two 1 x 1 convolutions:
    a step of a feature pyramid (Lin et al. 2017, arXiv:1612.03144, section 3).
    """

    features: int

    @nn.compact
    def __call__(self, high, low):
        shape = (*low.shape[:3], self.features)
        high = nn.Conv(self.features, (1, 1), name="high")(high)
        low = nn.Conv(self.features, (1, 1), name="low")(low)
        return jax.image.resize(high, shape, "nearest") + low


class Tower(nn.Module):
    """A 3 x 3 convolution, group norm and ReLU: (N, H, W, C) to (N, H, W, features)."""

    features: int

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.features, (3, 3), use_bias=False, name="conv")(x)
        return nn.relu(nn.GroupNorm(num_groups=8, name="norm")(x))


class Points(nn.Module):
    """At each position of maps (N, H, W, D) its classes, a box around it, and how central it is
    there (Tian et al. 2019, FCOS, arXiv:1904.01355). P = H W.

    Gives "logits" (N, P, C), the logit "centre" (N, P) of centre-ness and "points" (N, P, 2), too.
    """

    classes: int
    dropout: float
    zero: bool = True

    @nn.compact
    def __call__(self, x):
        count, height, width, _ = x.shape
        x = nn.Dropout(self.dropout)(x, deterministic=not self.has_rng("dropout"))
        said = nn.Conv(self.classes + 5, (1, 1), name="said")(x).reshape(count, height * width, -1)
        said = said.astype(jnp.float32)
        logits = said[..., 5:] + jnp.log(RARE / (1 - RARE))
        rows, columns = jnp.meshgrid(
            (jnp.arange(height) + 0.5) / height, (jnp.arange(width) + 0.5) / width, indexing="ij"
        )
        points = jnp.stack([columns, rows], -1).reshape(-1, 2)
        # At first a box reaches two positions each way.
        reach = 2 / height * jnp.exp(jnp.minimum(said[..., 1:5], LARGEST))
        boxes = jnp.concatenate([points - reach[..., :2], points + reach[..., 2:]], -1)
        scores = jax.nn.sigmoid(logits) * jax.nn.sigmoid(said[..., :1])
        return {
            "scores": jnp.sqrt(scores),
            "boxes": boxes[:, :, None],
            "logits": logits,
            "centre": said[..., 0],
            "points": jnp.broadcast_to(points, (count, *points.shape)),
        }


class Crops(nn.Module):
    """Maps (N, H, W, C) in proposals (N, P, 4), by RoI align: (N, P, size, size, C)."""

    size: int
    further: ClassVar[dict[str, tuple[int, ...]]] = {PROPOSALS: (1, 4)}

    @nn.compact
    def __call__(self, x, proposals):
        scale = (x.shape[2], x.shape[1])
        return ops.region_align(x, proposals, size=self.size, scale=scale)


class Regions(nn.Module):
    """One dense layer with ReLU, then dropout, on each crop (N, P, ...): (N, P, features)."""

    features: int
    dropout: float

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.features)(x.reshape(*x.shape[:2], -1)))
        return nn.Dropout(self.dropout)(x, deterministic=not self.has_rng("dropout"))


class Refined(nn.Module):
    """Of each proposal its class and a better box for each class (Girshick 2015, Fast R-CNN,
    arXiv:1504.08083, section 2.1): from features (N, P, D) and proposals (N, P, 4).

    Gives "logits" (N, P, C + 1), the last of no object, and "offsets" (N, P, C, 4), in units of
    `SPREAD`, too. Scores of proposals that are none are 0.
    """

    classes: int
    zero: bool = True

    @nn.compact
    def __call__(self, x, proposals):
        logits = nn.Dense(self.classes + 1, name="classes_of")(x).astype(jnp.float32)
        by = nn.Dense(4 * self.classes, name="boxes_of")(x).astype(jnp.float32)
        by = by.reshape(*by.shape[:2], self.classes, 4)
        boxes = ops.boxes_at(proposals[:, :, None], by * jnp.asarray(SPREAD))
        there = (proposals[..., 2] > proposals[..., 0])[..., None]
        scores = jax.nn.softmax(logits)[..., :-1] * there
        return {"scores": scores, "boxes": boxes, "logits": logits, "offsets": by}


def fcos(
    classes: int, dropout: float, features: int = 64, depth: int = 2, also: str = ""
) -> tuple[Layer, ...]:
    """Return a detector of one stage: at every position of the maps a class and a box.

    `also`: a lower layer of larger maps, whose positions then count, with what the cut sees there.
    """
    takes_whole(features // 8 * 8 == features and features, "fcos: features", 8, MOST)
    takes_whole(depth, "fcos: depth", 1, 8)
    merge = (Layer("head_merge", Merge(features), (BEFORE, also)),) if also else ()
    tower = (Layer(f"head_tower{number + 1}", Tower(features)) for number in range(depth))
    return (*merge, *tower, Layer("head", Points(classes, dropout)))


def fast_rcnn(
    classes: int, dropout: float, size: int = 4, hidden: int = 256
) -> tuple[Layer, ...]:
    """Return a detector of given proposals: crops of the maps, a dense layer, classes and boxes."""
    takes_whole(size, "fast_rcnn: size", 1, 14)
    takes_whole(hidden, "fast_rcnn: hidden", 1, 4096)
    return (
        Layer("head_crops", Crops(size), (BEFORE, PROPOSALS)),
        Layer("head_regions", Regions(hidden, dropout)),
        Layer("head", Refined(classes), ("head_regions", PROPOSALS)),
    )


DETECTORS = {f.__name__: f for f in (fcos, fast_rcnn)}
