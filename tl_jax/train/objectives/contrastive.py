"""Images and their texts, by contrast with the others of a batch: CLIP's objective.

Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision
(arXiv:2103.00020).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.chain import words
from tl_jax.chain.network import Net
from tl_jax.chain.places import Known
from tl_jax.data.texts.captions import END, NONE
from tl_jax.errors import UserError
from tl_jax.stats import pairs
from tl_jax.train.objective import Loss, Now, Objective, Term


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrastive(Objective):
    """Which text of the batch belongs to an image, and which image to a text: the mean of both
    cross entropies over scaled cosines.

    Texts that are the same word for word are right for each other's images, in equal parts, where
    CLIP takes them for wrong. Of several captions of an image one is drawn in each step, and the
    first one is judged in an epoch's loss. `encoder` is a base that reads texts, whose vectors of
    the captions are handed in at `texts`; empty: the head's own vectors of words are learned. Asks
    for a task of captions and for the head pair.
    """

    asks = "captions"
    answers = "pairs"
    chosen_by = "val_loss"
    coupled = True
    output: str = "head"
    encoder: str = ""

    def check(self, problem: Any) -> None:
        """UserError for another head, and for one of other texts."""
        if "head_text" not in problem.chain.names:
            raise UserError("Contrastive compares what the head pair gives: head=pair")
        has_words = words.EMBED in problem.chain.names
        if self.encoder and has_words:
            raise UserError("contrastive(encoder=...) hands in vectors: head=pair(text=384), say")
        if not self.encoder and not has_words:
            raise UserError("pair(text=...) reads vectors, and there is no encoder=: head=pair()")

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss`; logs the `scale` of the cosines."""
        found = net(_without_ends(batch["inputs"]), self.output)
        there = batch["same"] >= 0
        drawn = jax.random.categorical(now.key, jnp.where(there, 0.0, -jnp.inf))
        term = _both_ways(found, batch["same"], drawn, jnp.ones(len(drawn)))
        return Loss({"loss": term}, memory, {"scale": Term(found["scale"])})

    def predict(self, net: Net, batch: Any, carry: Any) -> tuple[dict[str, Any], Any]:
        """Unit vectors of images, (B, D), and of their texts, (B, K, D), and the scale (B,)."""
        found = net(_without_ends(batch["inputs"]), self.output, train=False)
        return {**found, "scale": jnp.broadcast_to(found["scale"], len(found["image"]))}, carry

    def score(self, predictions: Any, batch: Any) -> dict[str, Term]:
        """`loss`, of the images that are judged together."""
        found = {**predictions, "scale": predictions["scale"][0]}
        first = jnp.zeros(len(batch["real"]), int)
        return {"loss": _both_ways(found, batch["same"], first, batch["real"])}

    def finish(self, predictions: Any, task: Any, examples: Any) -> dict[str, Any]:
        """`loss`, and the recalls of `tl_jax.stats.pairs`."""
        found = super().finish(predictions, task, examples)
        image, text = (np.asarray(predictions[name]) for name in ("image", "text"))
        return found | pairs.evaluate(image, text, task.truth["same"][examples])


def _without_ends(known: Any) -> Known:
    """The inputs; of words alone count, not their marks of begin and end."""
    given = dict(known)
    if words.WORDS in given:
        numbers = given[words.WORDS]
        given[words.WORDS] = jnp.where(numbers <= END, NONE, numbers)
    return Known(given)


def _both_ways(found: Any, same: jax.Array, which: jax.Array, real: jax.Array) -> Term:
    """The mean over images and over texts of -log p of what belongs to them.

    `which` (B,): the caption of each image that is compared; `real` (B,): 0 for rows that only pad.
    """

    def chosen(values: jax.Array) -> jax.Array:
        index = which.reshape(-1, *[1] * (values.ndim - 1))
        return jnp.take_along_axis(values, index, 1)[:, 0]

    numbers = chosen(same)
    logits = found["scale"] * (found["image"] @ chosen(found["text"]).T).astype(jnp.float32)
    right = (numbers[:, None] == numbers) * real * real[:, None]
    targets = right / jnp.maximum(right.sum(1, keepdims=True), 1)
    logits = jnp.where(real * real[:, None] > 0, logits, -1e9)
    losses = [-(targets * jax.nn.log_softmax(each)).sum(1) for each in (logits, logits.T)]
    return Term((sum(losses) * real).sum() / 2, real.sum())
