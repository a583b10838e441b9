"""A detector of one stage without anchors: each position says what is there, and how far it goes.

Tian et al. 2019, FCOS: Fully Convolutional One-Stage Object Detection (arXiv:1904.01355); with
GIoU in place of the IoU loss, and positives near the centre alone, as in the authors' improved
version (arXiv:2006.09214, section 3.4).
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tl_jax import ops
from tl_jax.chain.network import Net
from tl_jax.errors import takes
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.detection import Detection, Objects

NEAR = 1.5  # positions from a box's centre up to which a position is the box's


class Wanted(NamedTuple):
    """What the P positions of one image are."""

    positive: jax.Array  # (P,) bool: of an object
    counts: jax.Array  # (P,) bool: not in an ignored region
    classes: jax.Array  # (P,) of the object; any where there is none
    boxes: jax.Array  # (P, 4) of the object
    centre: jax.Array  # (P,) centre-ness, from 0 to 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class FCOS(Detection):
    """Focal loss of classes over all positions; GIoU and centre-ness over those of objects.

    A position belongs to the smallest box that it is in and whose centre is near. `alpha`, `gamma`:
    of the focal loss (Lin et al. 2017, arXiv:1708.02002, section 3.2).
    """

    head: ClassVar[str] = "fcos"
    alpha: float = 0.25
    gamma: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        takes(0 <= self.alpha <= 1, "alpha=", "a share from 0 to 1", self.alpha)
        takes(0 <= self.gamma < math.inf, "gamma=", "a number from 0 on", self.gamma)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`classes`, `boxes` and `centre`."""
        said = net(batch["inputs"], self.output)
        wanted = jax.vmap(assigned)(said["points"], self.objects(batch))
        one_hot = jax.nn.one_hot(wanted.classes, said["logits"].shape[-1])
        one_hot = one_hot * wanted.positive[..., None]
        how = {"alpha": self.alpha, "gamma": self.gamma}
        focal = optax.sigmoid_focal_loss(said["logits"], one_hot, **how)
        positive = wanted.positive.astype(jnp.float32)
        count = jnp.maximum(positive.sum(), 1)
        # Where there is no object, a box that is right: its gradient times 0 is 0, and not NaN.
        boxes = jnp.where(wanted.positive[..., None], wanted.boxes, said["boxes"][..., 0, :])
        gaps = 1 - ops.generalised_iou(said["boxes"][..., 0, :], jax.lax.stop_gradient(boxes))
        centrality = wanted.centre * positive
        centre = optax.sigmoid_binary_cross_entropy(said["centre"], wanted.centre)
        return Loss(
            {
                "classes": Term((focal.sum(-1) * wanted.counts).sum(), count),
                "boxes": Term((gaps * centrality).sum(), centrality.sum()),
                "centre": Term((centre * positive).sum(), positive.sum()),
            },
            memory,
        )


def assigned(points: jax.Array, truth: Objects) -> Wanted:
    """What each of the points (P, 2) of one image is."""
    nearest = 1 / jnp.sqrt(len(points))  # the side of a position
    sides = jnp.concatenate(
        [points[:, None] - truth.boxes[None, :, :2], truth.boxes[None, :, 2:] - points[:, None]], -1
    )  # (P, M, 4): left, top, right, bottom
    inside = sides.min(-1) > 0
    middle = (truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2
    near = jnp.abs(points[:, None] - middle[None]).max(-1) < NEAR * nearest
    theirs = inside & near & truth.real
    size = ops.area(truth.boxes)
    own = jnp.where(theirs, size, jnp.inf).argmin(-1)
    positive = theirs.any(-1)
    across, down = (_evenness(jnp.take_along_axis(sides, own[:, None, None], 1)[:, 0, axis::2])
                    for axis in (0, 1))  # fmt: skip
    spared = (inside & truth.ignored).any(-1) & ~positive
    centre = jnp.where(positive, jnp.sqrt(across * down), 0.0)
    return Wanted(positive, ~spared, truth.classes[own], truth.boxes[own], centre)


def _evenness(pair: jax.Array) -> jax.Array:
    """The smaller of two distances (P, 2) over the larger; 0 outside a box."""
    pair = jnp.maximum(pair, 0)
    return pair.min(-1) / jnp.maximum(pair.max(-1), 1e-9)
