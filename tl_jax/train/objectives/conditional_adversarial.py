"""CDAN: features and predictions together, whose domain nothing can tell apart.

Long et al. 2018, Conditional Adversarial Domain Adaptation (arXiv:1705.10667).
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax import ops
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known, Layer
from tl_jax.train.objective import Loss, Now
from tl_jax.train.objectives.adversarial import DOMAIN, Discriminator, told_apart
from tl_jax.train.objectives.common import reversed_gradient
from tl_jax.train.objectives.domain_adversarial import DomainAdversarial
from tl_jax.train.objectives.domains import entropies, supervised

LARGEST = 4096  # entries of the product that is taken whole


class ConditionalDiscriminator(nn.Module):
    """A `Discriminator` of the product f p^T of features (N, D) and probabilities (N, C).

    Where it has more than `LARGEST` entries it is the randomised map (R f) * (S p) / sqrt(d) to d =
    `random` numbers, with normal R and S that are the same in every step and run.
    """

    width: int
    random: int

    @nn.compact
    def __call__(self, features, logits):
        f, p = ops.mean_of_positions(features), jax.nn.softmax(logits.astype(jnp.float32))
        if f.shape[-1] * p.shape[-1] <= LARGEST:
            joint = (f[:, :, None] * p[:, None, :]).reshape(len(f), -1)
        else:
            keys = jax.random.split(jax.random.key(0))
            shapes = [(x.shape[-1], self.random) for x in (f, p)]
            r, s = (jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True))
            joint = (f @ r) * (p @ s) / self.random**0.5
        return Discriminator(self.width, name="product")(joint)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConditionalAdversarial(DomainAdversarial):
    """DANN whose classifier of domains reads the product of features and predictions.

    With `entropy` (CDAN+E) an example weighs 1 + exp(-H(p)), as one with a sure prediction is easy
    to transfer. No gradient flows through predictions and weights. The weights' mean is over both
    domains together, as in TLlib; the authors' code takes each domain's.
    """

    entropy: bool = True
    random: int = 1024

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """The classifier of domains."""
        module = ConditionalDiscriminator(self.width, self.random)
        return (Layer(DOMAIN, module, (self.feature(network), self.output)),)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The terms `loss` and `domain`; logs the share of domains that are told apart."""
        (ours, logits), (theirs, others) = self.seen(net, batch)
        turned = reversed_gradient(jnp.concatenate([ours, theirs]), self.coefficient(now))
        said = jax.lax.stop_gradient(jnp.concatenate([logits, others]))
        sure = 1 + jnp.exp(-entropies(said)) if self.entropy else 1.0
        known = Known({self.feature(net.network): turned, self.output: said})
        domain, right = told_apart(net(known, DOMAIN), len(ours), sure)
        terms = {"loss": supervised(logits, batch), "domain": domain}
        return Loss(terms, memory, {"domain_accuracy": right})
