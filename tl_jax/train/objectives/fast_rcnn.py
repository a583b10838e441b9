"""A detector of given proposals: what each is of, and a better box.

Girshick 2015, Fast R-CNN (arXiv:1504.08083).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tl_jax import ops
from tl_jax.chain.detectors import PROPOSALS, SPREAD
from tl_jax.chain.network import Net
from tl_jax.chain.places import Known
from tl_jax.data.proposals import make as finder_of
from tl_jax.errors import UserError, takes, takes_whole, unknown
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.detection import HIT, Detection, Objects


class Sample(NamedTuple):
    """The proposals of one image that a step learns from, S of them."""

    boxes: jax.Array  # (S, 4)
    classes: jax.Array  # (S,) of their objects; C of background
    targets: jax.Array  # (S, 4) boxes of their objects; any for background
    counts: jax.Array  # (S,) bool: whether it is there at all


@dataclasses.dataclass(frozen=True)
class WithProposals:
    """The augmentation `of`, (key, batch) -> batch, of images of `side` pixels, which moves
    proposals as it does the boxes of objects.
    """

    of: Callable[[Any, Any], Any]
    side: int

    def __call__(self, key: jax.Array, batch: Any) -> Any:
        proposals, count = batch["inputs"][PROPOSALS], batch["boxes"].shape[1]
        there = proposals[..., 2] > proposals[..., 0]
        further = {
            "boxes": proposals * self.side,
            "classes": jnp.where(there, 0, -1),
            "ignored": jnp.zeros_like(there),
        }
        own = {n: jnp.concatenate([jnp.asarray(batch[n]), f], 1) for n, f in further.items()}
        moved = self.of(key, {**batch, **own})
        there = moved["classes"][:, count:, None] >= 0
        proposals = jnp.where(there, moved["boxes"][:, count:] / self.side, 0.0)
        inputs = Known({**moved["inputs"], PROPOSALS: proposals})
        return {**moved, "inputs": inputs} | {n: moved[n][:, :count] for n in further}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastRCNN(Detection):
    """Cross entropy of the classes of `sampled` proposals an image, and the smooth L1 loss of the
    offsets of those of objects (section 2.3).

    Of these a quarter at most have an IoU of 0.5 or more with an object; the others are background,
    with an IoU from `low` to below 0.5. The paper takes 0.1, which leaves easy background out. The
    objects' own boxes are proposals, too, while it learns. `proposals`: how the others are found.

    `held_out`: classes whose boxes it does not see, so that these are background, and whose output
    weights get no gradient. `whole`: it sees no boxes at all, but which classes are in an image,
    whose only proposal is the whole of it. Both are steps of LSDA (Hoffman et al. 2014,
    arXiv:1407.5035).
    """

    head: ClassVar[str] = "fast_rcnn"
    proposals: str = "selective_search"
    sampled: int = 64
    low: float = 0.0
    held_out: tuple[str, ...] = ()
    _hidden: tuple[int, ...] = ()  # the numbers of these classes in the task
    whole: bool = False

    def __post_init__(self):
        super().__post_init__()
        takes_whole(self.sampled, "sampled=", 4, 4096)
        takes(0 <= self.low < HIT, "low=", "a share from 0 to below 0.5", self.low)
        names = isinstance(self.held_out, tuple) and all(isinstance(n, str) for n in self.held_out)
        takes(names, "held_out=", "names of classes, as ('cat', 'dog')", self.held_out)
        finder_of(self.proposals)

    def fitted(self, task: Any) -> "FastRCNN":
        """With the numbers of the classes held out; UserError for one that there is not."""
        for name in self.held_out:
            if name not in task.classes:
                raise unknown("class held out", name, task.classes)
        if self.held_out and len(self.held_out) >= len(task.classes):
            raise UserError("held_out= leaves no class with boxes: name fewer")
        hidden = tuple(sorted(map(task.classes.index, self.held_out)))
        return dataclasses.replace(self, _hidden=hidden)

    def check(self, problem: Any) -> None:
        """UserError for a precision in which a box is pixels off, and for views of images, which
        proposals do not follow.
        """
        for name in ("precision", "cache_precision"):
            if (precision := getattr(problem, name)) != "float32":
                raise UserError(
                    f"fast_rcnn reads boxes, which are too coarse in {precision}: take "
                    f"{name}=float32"
                )
        for phase in problem.plan.phases:
            if phase.settings.views != "none":
                raise UserError(
                    f"phase {phase.name!r}: proposals do not follow views={phase.settings.views}: "
                    "take augment=flip"
                )

    def augmented(self, augment: Callable[[Any, Any], Any] | None) -> Callable | None:
        """The augmentation that takes proposals along with the objects' boxes."""
        return None if augment is None else WithProposals(augment, self._side)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`classes` and `boxes`; of whole images `classes`."""
        inputs, truth = batch["inputs"], self.objects(batch)
        if self.whole:
            return Loss({"classes": self._of_images(net, inputs, truth)}, memory)
        seen = truth.real & ~self._held(truth.classes)
        truth = truth._replace(real=seen)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(now.key, jnp.arange(len(truth.boxes)))
        sample = jax.vmap(self.sample)(keys, inputs[PROPOSALS], truth)
        said = net(Known({**inputs, PROPOSALS: sample.boxes}), self.output)
        is_object = sample.classes >= 0
        labels = jnp.where(is_object, sample.classes, said["logits"].shape[-1] - 1)
        logits = said["logits"]
        fixed = self._held(jnp.arange(logits.shape[-1]))
        logits = jnp.where(fixed, jax.lax.stop_gradient(logits), logits)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        own = jnp.maximum(sample.classes, 0)[..., None, None]
        offsets = jnp.take_along_axis(said["offsets"], own, 2)[:, :, 0]
        # Offsets of no object stay out before the loss: theirs may be infinite.
        targets = jnp.where(is_object[..., None], sample.targets, sample.boxes)
        wanted = ops.box_offsets(targets, sample.boxes) / jnp.asarray(SPREAD)
        gaps = optax.huber_loss(offsets, jnp.where(is_object[..., None], wanted, offsets)).sum(-1)
        counts = sample.counts.astype(jnp.float32)
        return Loss(
            {
                "classes": Term((entropy * counts).sum(), counts.sum()),
                "boxes": Term((gaps * counts).sum(), counts.sum()),
            },
            memory,
        )

    def _held(self, classes: jax.Array) -> jax.Array:
        """Which of these numbers are of classes held out."""
        return jnp.isin(classes, jnp.asarray(self._hidden, jnp.int32))

    def _of_images(self, net: Net, inputs: Known, truth: Objects) -> Term:
        """The cross entropy of the classes that are in each image, all alike."""
        whole = jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0, 1.0]), (len(truth.boxes), 1, 4))
        logits = net(Known({**inputs, PROPOSALS: whole}), self.output)["logits"][:, 0, :-1]
        there = jax.nn.one_hot(truth.classes, logits.shape[-1]) * truth.real[..., None]
        there = there.max(1)
        some = there.any(-1)
        targets = there / jnp.maximum(there.sum(-1, keepdims=True), 1)
        return Term((optax.softmax_cross_entropy(logits, targets) * some).sum(), some.sum())

    def sample(self, key: jax.Array, proposals: jax.Array, truth: Objects) -> Sample:
        """The proposals of one image, (R, 4) and its objects' own boxes, that a step learns from.

        Those with an IoU of 0.5 or more with an ignored region alone are left out.
        """
        boxes = jnp.concatenate([proposals, truth.boxes])
        there = jnp.concatenate([proposals[:, 2] > proposals[:, 0], truth.real])
        overlaps = ops.iou(boxes, truth.boxes)
        of_objects = jnp.where(truth.real, overlaps, 0.0)
        nearest, best = of_objects.argmax(-1), of_objects.max(-1)
        spared = jnp.where(truth.ignored, overlaps, 0.0).max(-1) >= HIT
        positive = there & (best >= HIT)
        negative = there & (best >= self.low) & (best < HIT) & ~spared
        draw = jax.random.uniform(key, (len(boxes),))
        positive &= _rank(jnp.where(positive, draw, 2.0)) < self.sampled // 4
        room = self.sampled - positive.sum()
        negative &= _rank(jnp.where(negative, draw, 2.0)) < room
        first = jnp.where(positive, 0, jnp.where(negative, 1, 2))
        chosen = jnp.argsort(first, stable=True)[: self.sampled]
        classes = jnp.where(positive, truth.classes[nearest], -1)[chosen]
        counts = (positive | negative)[chosen]
        return Sample(boxes[chosen], classes, truth.boxes[nearest[chosen]], counts)

    def finish(self, predictions: Any, task: Any, examples: Any) -> dict[str, Any]:
        """What every detector says, and the share of objects that a proposal overlaps by an IoU of
        0.5: more cannot be found.
        """
        truth = {name: array[examples] for name, array in task.truth.items()}
        found = recall(task.arrays[PROPOSALS][examples], self.objects(truth))
        return super().finish(predictions, task, examples) | {"proposal_recall": found}


def recall(proposals: Any, truth: Objects) -> float:
    """The share of the objects of N images that one of their proposals (N, P, 4) comes near."""
    best = jax.lax.map(lambda pair: ops.iou(*pair).max(0), (proposals, truth.boxes))
    return float(((best >= HIT) & truth.real).sum() / jnp.maximum(truth.real.sum(), 1))


def _rank(values: jax.Array) -> jax.Array:
    """The place (n,) of each value in ascending order."""
    return jnp.argsort(jnp.argsort(values, stable=True), stable=True)
