"""Several tasks, weighted so that all learn at a like rate.

Chen et al. 2018, GradNorm: Gradient Normalization for Adaptive Loss Balancing (arXiv:1711.02257).
"""

import dataclasses
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.errors import unknown
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.tasks import Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradNorm(Tasks):
    """Algorithm 1, with the weights w (T,) in memory and not among the parameters.

    G = w |gradient of L at `shared`|, the last layer that all tasks share; its target is the mean
    of G times r^`alpha`, r the loss relative to the first step's, divided by the mean of that. w
    goes down the slope of sum |G - target|, which has a closed form, by `rate`; then its sum is T
    again. LibMTL takes the norm over all shared layers, and the first epoch's mean for the first
    loss.
    """

    shared: str
    alpha: float = 1.5
    rate: float = 0.025

    def begin(self, net: Net, batch: Any) -> dict[str, jax.Array]:
        """The weights, and the first losses, which are not known yet: 0."""
        found = super().begin(net, batch)
        return found | {"first": jnp.zeros_like(found["weights"])}

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """A term a task, unweighted; logs each task's weight, `weight_NAME`."""
        pairs = zip(self.places, memory["weights"], strict=True)
        return Loss(self.terms(net, batch), memory, {f"weight_{p}": Term(w) for p, w in pairs})

    def resolve(self, gradients: Any, values: Any, memory: Any, now: Now) -> tuple[Any, Any]:
        """The weighted sum of the gradients, and the next weights."""
        own = [gradients[place] for place in self.places]
        if self.shared not in own[0]:
            raise unknown("layer that learns and that all tasks share, for GradNorm", self.shared,
                          [name for name in own[0] if name not in self.places])  # fmt: skip
        losses, w = jnp.stack([values[place] for place in self.places]), memory["weights"]
        first = jnp.where(memory["first"] == 0, losses, memory["first"])
        flat = [jax.flatten_util.ravel_pytree(each[self.shared])[0] for each in own]
        norms = jnp.linalg.norm(jnp.stack(flat), axis=1)
        ratio = losses / jnp.maximum(first, 1e-12)
        target = (w * norms).mean() * (ratio / jnp.maximum(ratio.mean(), 1e-12)) ** self.alpha
        moved = jnp.maximum(w - self.rate * jnp.sign(w * norms - target) * norms, 1e-2)
        total = jax.tree.map(lambda *each: jnp.tensordot(w, jnp.stack(each), 1), *own)
        return total, {"weights": len(w) * moved / moved.sum(), "first": first}
