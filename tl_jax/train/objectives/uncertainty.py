"""Several tasks weighted by their uncertainty, which is learned.

Kendall, Gal & Cipolla 2018, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
Geometry and Semantics (arXiv:1705.07115).
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Layer
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.tasks import Tasks

LOG_VARIANCES = "log_variances"


class LogVariances(nn.Module):
    """Parameters s (count,), which are its output. It reads nothing; having one axis, s is not
    decayed.
    """

    count: int
    first: float = -0.5

    @nn.compact
    def __call__(self):
        return self.param("s", nn.initializers.constant(self.first), (self.count,))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uncertainty(Tasks):
    """Sum of L / (2 exp(s)) + s / 2 over the tasks (section 3.2), s a trained layer of its own.

    As in LibMTL for every loss, with s = -0.5 at first; the paper has L / exp(s) for a
    classification, which is the same with s less ln 2. The best s is ln L, which falls for ever
    where a task is learned by heart: s counts within `limit` of 0, so that no weight exceeds
    exp(limit) / 2. There s has no gradient and stays. `weights` do not count.
    """

    limit: float = 4.0

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """The heads, and the logarithms of the variances."""
        heads = super().tails(network)
        return (*heads, Layer(LOG_VARIANCES, LogVariances(len(self.places)), ()))

    def begin(self, net: Net, batch: Any) -> Any:
        """Nothing: the weights are parameters."""
        return ()

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """A term a task, and the sum of s / 2; logs each task's weight, `weight_NAME`."""
        s = net(batch["inputs"], LOG_VARIANCES).astype(jnp.float32)
        s = jnp.clip(s, -self.limit, self.limit)
        weights = jnp.exp(-s) / 2
        pairs = zip(self.terms(net, batch).items(), weights, strict=True)
        terms = {place: term._replace(scale=w) for (place, term), w in pairs}
        logs = {f"weight_{place}": Term(term.scale) for place, term in terms.items()}
        return Loss({**terms, LOG_VARIANCES: Term(s.sum() / 2)}, memory, logs)
