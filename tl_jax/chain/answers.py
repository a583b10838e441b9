"""Answers: what the last outputs of a network say of an example. They travel with a base."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from tl_jax import ops, registry
from tl_jax.errors import UserError, takes, takes_types, takes_whole

CANDIDATES = 400  # the boxes of an image with the highest scores, which suppression looks at


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classes:
    """One class of C: logits (N, C) become probabilities (N, C) that sum to 1."""

    asks: ClassVar[str] = "classes"
    classifies: ClassVar[bool] = True  # whether outputs of an example say what it is

    def outputs(self, names: int) -> int:
        """How many outputs a network has for so many classes, labels or numbers."""
        return names

    def __call__(self, outputs: Any) -> jax.Array:
        """What is said, (N, names), of outputs (N, ...)."""
        return jax.nn.softmax(outputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranks(Classes):
    """One class of K in order: logits (N, K - 1) of being above class k, for those that are not
    below it, become probabilities (N, K) (CORN; Shi et al. 2021, arXiv:2111.08851, equation 3).
    """

    def outputs(self, names: int) -> int:
        return names - 1

    def __call__(self, outputs: Any) -> jax.Array:
        above = jnp.cumprod(jax.nn.sigmoid(outputs), -1)
        one = jnp.ones_like(above[..., :1])
        return jnp.concatenate([one, above], -1) - jnp.concatenate([above, 0 * one], -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels(Classes):
    """Any of C labels: logits (N, C) become the probability (N, C) of each.

    A label is given from its threshold on: `thresholds` (C,); empty: 1/2.
    """

    asks: ClassVar[str] = "labels"
    thresholds: tuple[float, ...] = ()

    def outputs(self, names: int) -> int:
        return _matching(names, self.thresholds)

    def __call__(self, outputs: Any) -> jax.Array:
        return jax.nn.sigmoid(outputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numbers(Classes):
    """D numbers in their own units: outputs (N, D) times `scale` (D,) plus `mean` (D,)."""

    asks: ClassVar[str] = "numbers"
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def outputs(self, names: int) -> int:
        return _matching(names, self.mean, self.scale)

    def __call__(self, outputs: Any) -> jax.Array:
        return outputs * jnp.asarray(self.scale or 1.0) + jnp.asarray(self.mean or 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captions(Classes):
    """Captions, by a search over their words, which are the names: see `tl_jax.base.captions`."""

    asks: ClassVar[str] = "captions"
    classifies: ClassVar[bool] = False
    beam: int = 3
    length: float = 0.0
    longest: int = 20

    def __call__(self, outputs: Any) -> jax.Array:
        raise UserError("a base that tells captions has no classes: take its captions")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs(Classes):
    """Vectors of images and of texts, which may be compared; the names are words of texts."""

    asks: ClassVar[str] = "captions"
    classifies: ClassVar[bool] = False

    def __call__(self, outputs: Any) -> jax.Array:
        raise UserError("a base that compares images with texts has no classes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Boxes(Classes):
    """Boxes of C classes: of the outputs of a detector (`tl_jax.chain.detectors`) those of a score
    from `least` on, without those that overlap a better one of their class by an IoU above
    `overlap`, and of these the best `most`.

    `proposals`: how the boxes are found that go in beside an image (`tl_jax.data.proposals`);
    empty: none do.
    """

    asks: ClassVar[str] = "boxes"
    classifies: ClassVar[bool] = False
    least: float = 0.05
    overlap: float = 0.5
    most: int = 100
    proposals: str = ""

    def __post_init__(self):
        """UserError for values that cannot be; they may come from a file."""
        takes_types(self)
        for name in ("least", "overlap"):
            value = getattr(self, name)
            takes(0 <= value <= 1, f"{name}=", "a share from 0 to 1", value)
        takes_whole(self.most, "most=", 1, CANDIDATES)

    def __call__(self, outputs: Any) -> dict[str, jax.Array]:
        """{"boxes" (N, K, 4) in shares of the side, "scores" (N, K), which fall, "classes" (N, K)},
        K = `most`; the class of what is none is -1.
        """
        return jax.vmap(self._detections)(outputs["scores"], outputs["boxes"])

    def _detections(self, scores: jax.Array, boxes: jax.Array) -> dict[str, jax.Array]:
        """Those of one image, from scores (P, C) and boxes (P, 1 or C, 4)."""
        count, classes = scores.shape
        boxes = jnp.broadcast_to(boxes, (count, classes, 4)).reshape(-1, 4).clip(0, 1)
        scores = scores.reshape(-1)
        scores, best = jax.lax.top_k(scores, min(len(scores), CANDIDATES))
        numbers, boxes = best % classes, boxes[best]
        scores = jnp.where(scores >= self.least, scores, -jnp.inf)
        stays = ops.nms(boxes, scores, numbers, threshold=self.overlap)
        scores = jnp.where(stays, scores, -jnp.inf)
        if short := max(0, self.most - len(scores)):
            scores = jnp.pad(scores, (0, short), constant_values=-jnp.inf)
        scores, best = jax.lax.top_k(scores, self.most)
        there, best = scores > -jnp.inf, jnp.minimum(best, len(boxes) - 1)
        return {
            "boxes": jnp.where(there[:, None], boxes[best], 0.0),
            "scores": jnp.where(there, scores, 0.0),
            "classes": jnp.where(there, numbers[best], -1),
        }


ANSWERS = {
    "boxes": Boxes,
    "classes": Classes,
    "labels": Labels,
    "numbers": Numbers,
    "ranks": Ranks,
    "captions": Captions,
    "pairs": Pairs,
}


def make(spec: str) -> Classes:
    """The answers that "labels(thresholds=(0.5, 0.2))" says; UserError for a name or an option that
    there is not.
    """
    function, options = registry.chosen("answers", spec, ANSWERS)
    return function(**options)


def _matching(names: int, *values: tuple[float, ...]) -> int:
    """The number of names; UserError for values of another number."""
    for each in values:
        numbers = isinstance(each, tuple) and all(isinstance(x, int | float) for x in each)
        if not numbers or len(each) not in (0, names):
            raise UserError(f"answers for {names} names have {each!r:.60}: a number for each")
    return names
