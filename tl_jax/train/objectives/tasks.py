"""Several classifications at once; and PCGrad, for gradients that are in each other's way.

Yu et al. 2020, Gradient Surgery for Multi-Task Learning (arXiv:2001.06782).
"""

import dataclasses
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.train.objective import Loss, Now, Objective, Term
from tl_jax.train.objectives.cross_entropy import entropy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tasks(Objective):
    """The sum of the cross entropies of several heads.

    `heads`: pairs of a place with logits (B, C) and the name of its targets (B, C) in the batch,
    which also has "weights" (B,), common to all. Predicts {place: probabilities}.
    """

    heads: tuple[tuple[str, str], ...]

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """A term a head, by its place."""
        outputs = net(batch["inputs"], tuple(place for place, _ in self.heads))
        pairs = zip(self.heads, outputs, strict=True)
        weights = batch["weights"]
        return Loss({p: entropy(z, batch[truth], weights) for (p, truth), z in pairs}, memory)

    def predict(self, net: Net, batch: Any, carry: Any) -> tuple[dict[str, jax.Array], Any]:
        """Class probabilities (B, C) by head."""
        places = tuple(place for place, _ in self.heads)
        outputs = net(batch["inputs"], places, train=False)
        found = (jax.nn.softmax(z.astype(jnp.float32)) for z in outputs)
        return dict(zip(places, found, strict=True)), carry

    def score(self, predictions: Any, batch: Any) -> dict[str, Term]:
        """Every head's accuracy, and `loss`, the sum of their cross entropies."""
        real, scores, losses = batch["real"], {}, 0.0
        for place, truth in self.heads:
            p, targets = predictions[place], batch[truth]
            right = p.argmax(-1) == targets.argmax(-1)
            scores[f"{place}_accuracy"] = Term((right * real).sum(), real.sum())
            losses = losses - (targets * jnp.log(jnp.maximum(p, 1e-12))).sum(-1)
        weights = batch["weights"] * real
        return {"loss": Term((losses * weights).sum(), weights.sum()), **scores}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PCGrad(Tasks):
    """Algorithm 1: each task's gradient without the part that is against another task's."""

    def resolve(self, gradients: Any, values: Any, memory: Any, now: Now) -> tuple[Any, Any]:
        """The sum of the projected gradients, others taken in a random order for each task."""
        _, whole = jax.flatten_util.ravel_pytree(next(iter(gradients.values())))
        rows = [jax.flatten_util.ravel_pytree(g)[0] for g in gradients.values()]
        return whole(projected(jnp.stack(rows), now.key).sum(0)), memory


def projected(gradients: jax.Array, key: jax.Array) -> jax.Array:
    """Of gradients (T, P) each, minus its projection on every other one with which it conflicts."""
    count = len(gradients)

    def one(number, key):
        def against(own, other):
            onto = gradients[other]
            conflict = jnp.where(other == number, 0.0, jnp.minimum(own @ onto, 0.0))
            return own - conflict / jnp.maximum(onto @ onto, 1e-12) * onto, None

        return jax.lax.scan(against, gradients[number], jax.random.permutation(key, count))[0]

    return jax.vmap(one)(jnp.arange(count), jax.random.split(key, count))
