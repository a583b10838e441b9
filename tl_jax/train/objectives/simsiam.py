"""SimSiam: one view predicts the other's embedding; no average and no negatives.

Chen & He 2021, Exploring Simple Siamese Representation Learning (arXiv:2011.10566).
"""

import dataclasses
from typing import Any

import jax

from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Layer
from tl_jax.chain.tails import Projector
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.byol import cosine
from tl_jax.train.objectives.self_supervised import JointEmbedding, spread


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimSiam(JointEmbedding):
    """Equation 2: -cos(`predicted` of a view, `projected` of the other, held constant), both ways.

    `projected` ends with a norm; the predictor narrows to `narrow`. The authors' projection has a
    third layer, and the norm at its end no offset.
    """

    width: int = 2048
    narrow: int = 512

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """`projected` and `predicted`."""
        return (
            Layer("projected", Projector(self.hidden, self.width, norm=True), (self.output,)),
            Layer("predicted", Projector(self.narrow, self.width), ("projected",)),
        )

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss`; logs the `spread` of the embeddings, in which a collapse is seen first."""
        (z, p), (other_z, other_p) = (
            net(batch[view], ("projected", "predicted")) for view in ("a", "b")
        )
        z, other_z = jax.lax.stop_gradient((z, other_z))
        cosines = (cosine(p, other_z) + cosine(other_p, z)) / 2
        return Loss({"loss": Term(-cosines.sum(), len(z))}, memory, {"spread": spread(z)})
