"""DANN: features that a classifier of domains cannot tell apart.

Ganin et al. 2016, Domain-Adversarial Training of Neural Networks (arXiv:1505.07818).
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known, Layer
from tl_jax.train.objective import Loss, Now
from tl_jax.train.objectives.adversarial import DOMAIN, Adversarial, Discriminator, told_apart
from tl_jax.train.objectives.common import reversed_gradient
from tl_jax.train.objectives.domains import supervised


@dataclasses.dataclass(frozen=True, kw_only=True)
class DomainAdversarial(Adversarial):
    """Cross entropy on the source, and on both domains the domain's, its gradient reversed.

    Section 4.2: the tail `domain` on the features minimises its own loss; whatever is below
    maximises it. TLlib's discriminator has batch norms too.
    """

    width: int = 1024

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """The classifier of domains."""
        return (Layer(DOMAIN, Discriminator(self.width), (self.feature(network),)),)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The terms `loss` and `domain`; logs the share of domains that are told apart."""
        (ours, logits), (theirs, _) = self.seen(net, batch)
        turned = reversed_gradient(jnp.concatenate([ours, theirs]), self.coefficient(now))
        domain, right = told_apart(
            net(Known({self.feature(net.network): turned}), DOMAIN), len(ours)
        )
        terms = {"loss": supervised(logits, batch), "domain": domain}
        return Loss(terms, memory, {"domain_accuracy": right})
