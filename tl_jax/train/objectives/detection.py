"""What detectors have in common: how their outputs become detections, and how these are judged."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import ops
from tl_jax.chain import answers
from tl_jax.chain.network import Net
from tl_jax.data.boxes import letterbox
from tl_jax.errors import takes_types
from tl_jax.stats import detection as stats
from tl_jax.train.objective import Objective, Term

HIT = 0.5  # least IoU of a detection with the object that it has found


class Objects(NamedTuple):
    """The truth of a batch, boxes in shares of the side."""

    boxes: jax.Array  # (B, M, 4)
    classes: jax.Array  # (B, M)
    real: jax.Array  # (B, M), bool: an object that counts
    ignored: jax.Array  # (B, M), bool: a region where nothing counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detection(Objective):
    """Of objects with a class and a box; losses are its subclasses'.

    Asks of the batch "boxes" (B, M, 4) in pixels of the prepared images, "classes" (B, M), -1 where
    there is no object, and "ignored" (B, M). `least`, `overlap` and `most` are those of
    `tl_jax.chain.answers.Boxes`.
    """

    asks = "boxes"
    chosen_by = "val_image_ap"
    head: ClassVar[str]  # the kind of head that it trains (`tl_jax.chain.detectors`)
    proposals: ClassVar[str] = ""  # how boxes are proposed (`tl_jax.data.proposals`); empty: none
    output: str = "head"
    least: float = 0.05
    overlap: float = 0.5
    most: int = 100
    _side: int = 0

    def __post_init__(self):
        takes_types(self)
        self.detections()

    def detections(self) -> answers.Boxes:
        """What outputs say; UserError for values that cannot be."""
        return answers.Boxes(
            least=self.least, overlap=self.overlap, most=self.most, proposals=self.proposals
        )

    @property
    def answers(self) -> str:
        """Boxes, chosen so."""
        asked = {"least": self.least, "overlap": self.overlap, "most": self.most}
        asked |= {"proposals": self.proposals} if self.proposals else {}
        return f"boxes({', '.join(f'{name}={value!r}' for name, value in asked.items())})"

    def framed(self, side: int) -> "Detection":
        """For images of so many pixels a side."""
        return dataclasses.replace(self, _side=side)

    def objects(self, batch: Mapping[str, Any]) -> Objects:
        """The truth of a batch."""
        classes, ignored = batch["classes"], batch["ignored"]
        there = classes >= 0
        return Objects(batch["boxes"] / self._side, classes, there & ~ignored, there & ignored)

    def predict(self, net: Net, batch: Any, carry: Any) -> tuple[dict[str, jax.Array], Any]:
        """{"boxes" (B, K, 4) in pixels of the prepared image, "scores", "classes" (B, K)}."""
        found = self.detections()(net(batch["inputs"], self.output, train=False))
        return {**found, "boxes": found["boxes"] * self._side}, carry

    def score(self, predictions: Any, batch: Any) -> dict[str, Term]:
        """The mean over images with objects of each one's own average precision at an IoU of 0.5,
        whatever the classes' frequencies: what can be summed in the program, to choose epochs by.
        """
        truth = self.objects(batch)
        boxes = predictions["boxes"] / self._side
        own = jax.vmap(image_precision)(boxes, predictions["classes"], truth)
        weights = truth.real.any(-1) * batch["real"]
        return {"image_ap": Term((own * weights).sum(), weights.sum())}

    def finish(self, predictions: Any, task: Any, examples: Any) -> dict[str, Any]:
        """COCO's mean average precision in pixels of the original images, and what `score` says.

        See `tl_jax.stats.detection.average_precision`.
        """
        said = super().finish(predictions, task, examples)
        return said | self.precision(predictions, task, examples, "coco")

    def precision(self, predictions: Any, task: Any, examples: Any, rule: str) -> dict[str, Any]:
        """The average precision of predictions for examples (n,) of the task, by a rule."""
        truth = {name: np.asarray(array[examples]) for name, array in task.truth.items()}
        found = originals(predictions, truth["sizes"], self._side)
        wanted = letterbox.originals(truth, self._side)
        return stats.average_precision(found, wanted, classes=task.classes, rule=rule)


def originals(detections: Mapping[str, Any], sizes: np.ndarray, side: int) -> dict[str, Any]:
    """The detections of n prepared images in pixels of the original ones, of `sizes` (n, 2)."""
    arrays = {name: np.asarray(array) for name, array in detections.items()}
    return {**arrays, "boxes": letterbox.back(arrays["boxes"], sizes, side)}


def image_precision(boxes: jax.Array, classes: jax.Array, truth: Objects) -> jax.Array:
    """The average precision of one image's detections, boxes (K, 4) whose scores fall: the mean
    over its objects of the precision at the detection that finds each; 0 for those not found.

    A detection finds the object of its class that it overlaps most among those not yet found, from
    an IoU of `HIT` on. One that finds none, but an ignored region of its class, does not count.
    """
    near = ops.iou(boxes, truth.boxes) >= HIT
    near &= classes[:, None] == truth.classes[None, :]
    overlaps = jnp.where(near, ops.iou(boxes, truth.boxes), 0.0)

    def look(found, row):
        overlaps, there = row
        free = jnp.where(truth.real & ~found, overlaps, 0.0)
        hit = there & (free.max() > 0)
        spared = (jnp.where(truth.ignored, overlaps, 0.0).max() > 0) & ~hit
        found = found | (hit & (jnp.arange(len(found)) == free.argmax()))
        return found, (hit, there & ~hit & ~spared)

    _, (hits, misses) = jax.lax.scan(look, jnp.zeros_like(truth.real), (overlaps, classes >= 0))
    precision = jnp.cumsum(hits) / jnp.maximum(jnp.cumsum(hits) + jnp.cumsum(misses), 1)
    return (precision * hits).sum() / jnp.maximum(truth.real.sum(), 1)
