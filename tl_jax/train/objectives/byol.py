"""BYOL: one view of an image predicts what the average of the network makes of another view.

Grill et al. 2020, Bootstrap Your Own Latent (arXiv:2006.07733).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Layer
from tl_jax.chain.tails import Projector
from tl_jax.errors import takes
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.common import falling, unit
from tl_jax.train.objectives.self_supervised import JointEmbedding, spread


@dataclasses.dataclass(frozen=True, kw_only=True)
class BYOL(JointEmbedding):
    """Equation 2, both ways: 2 - 2 cos(`predicted` of a view, averaged `projected` of the other).

    The average moves by `rate` (1 - tau in the paper), which falls to 0 with a cosine. `predicted`
    is a tail on `projected`, of the same shape.
    """

    rate: float = 0.004

    def __post_init__(self):
        takes(0 < self.rate <= 1, "byol: rate", "a number above 0 and up to 1", self.rate)

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """`projected` and `predicted`."""
        predicted = Layer("predicted", Projector(self.hidden, self.width), ("projected",))
        return *super().tails(network), predicted

    def average(self, now: Now) -> Any:
        """1 - tau, at this step of the phase."""
        return falling(self.rate, now)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss`; logs the `spread` of the embeddings."""
        total, count = 0.0, 0
        for own, other in (("a", "b"), ("b", "a")):
            predicted = net(batch[own], "predicted")
            target = jax.lax.stop_gradient(net.at("average")(batch[other], "projected"))
            cosines = cosine(predicted, target)
            total, count = total + (2 - 2 * cosines).sum(), count + len(cosines)
        return Loss({"loss": Term(total, count)}, memory, {"spread": spread(target)})


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """The cosines (B,) of vectors (B, D), in float32."""
    return (unit(a.astype(jnp.float32)) * unit(b.astype(jnp.float32))).sum(-1)
