"""ADDA: the target's encoder learns to give features that pass for the source encoder's.

Tzeng et al. 2017, Adversarial Discriminative Domain Adaptation (arXiv:1702.05464).
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import optax

from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known, Layer
from tl_jax.train.objective import Loss, Now, Term, Turn
from tl_jax.train.objectives.adversarial import DOMAIN, Discriminator, told_apart
from tl_jax.train.objectives.domains import Adaptation, pooled
from tl_jax.train.objectives.source_free import require_frozen

if TYPE_CHECKING:
    from tl_jax.train.problem import Problem


@dataclasses.dataclass(frozen=True, kw_only=True)
class ADDA(Adaptation):
    """Two updates a step (equation 9): of the classifier of domains, and of all other layers.

    The source's features are those of the run's first weights, in inference mode: the base is one
    that was trained on the source. The encoder minimises -log D of the target's features, and the
    classifier stays. The source's labels are not read. TLlib makes one update with a reversed
    gradient instead.
    """

    width: int = 1024
    keeps_head = True
    turns = (Turn("tell", only=(DOMAIN,)), Turn("fool", never=(DOMAIN,)))

    def check(self, problem: "Problem") -> None:
        """UserError also for a plan that trains the classifier."""
        super().check(problem)
        require_frozen(problem, self.output)

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """The classifier of domains."""
        return (Layer(DOMAIN, Discriminator(self.width), (self.feature(network),)),)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The term `domain`, of either update; logs the share of domains that are told apart."""
        place = self.feature(net.network)
        theirs = pooled(net(batch["target"]["inputs"], place))
        if now.turn == "fool":
            logits = net(Known({place: theirs}), DOMAIN)[:, 0]
            losses = optax.sigmoid_binary_cross_entropy(logits, jnp.ones_like(logits))
            return Loss({"domain": Term(losses.sum(), len(losses))}, memory)
        ours = pooled(net.at("anchor")(batch["source"]["inputs"], place, train=False))
        both = jnp.concatenate([ours, theirs])
        domain, right = told_apart(net(Known({place: both}), DOMAIN), len(ours))
        return Loss({"domain": domain}, memory, {"domain_accuracy": right})
