"""DANN: features that a classifier of domains cannot tell apart.

Ganin et al. 2016, Domain-Adversarial Training of Neural Networks (arXiv:1505.07818).
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax

from tl_jax.chain.network import Net
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.common import jointly, reversed_gradient
from tl_jax.train.objectives.cross_entropy import Classification, entropy


@dataclasses.dataclass(frozen=True, kw_only=True)
class DomainAdversarial(Classification):
    """Cross entropy on the source, and on both domains the domain's, its gradient reversed.

    Section 4.2: the layer `domain`, a tail on the place `feature`, minimises its own loss; whatever
    is below maximises it. Gradients of a domain's logit (B, 1) arrive there times -coefficient,

        coefficient = ceiling * (2 / (1 + exp(-steepness * progress)) - 1)

    the paper's schedule (gamma 10), where the ceiling is 1; in harder shifts less keeps training
    stable.

    Asks for two sources: "source" with inputs, "targets" (B, C) and "weights" (B,), and "target",
    of which it reads the inputs alone. Batch statistics are common to both.
    """

    feature: str = "feature"
    domain: str = "domain"
    ceiling: float = 1.0
    steepness: float = 10.0
    judges = "target"

    def coefficient(self, progress: Any) -> Any:
        """Of the reversed gradient, at this share of the phase."""
        return self.ceiling * (2 / (1 + jnp.exp(-self.steepness * progress)) - 1)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The terms `loss` and `domain`; logs the share of domains that are told apart."""
        source, target = batch["source"], batch["target"]
        wanted = self.feature, self.output
        parts = jointly(net, (source["inputs"], target["inputs"]), wanted)
        (ours, logits), (theirs, _) = parts
        coefficient = self.coefficient(now.progress)
        turned = reversed_gradient(jnp.concatenate([ours, theirs]), coefficient)
        domain = net({self.feature: turned}, self.domain)[:, 0].astype(jnp.float32)
        is_source = jnp.arange(len(domain)) < len(ours)
        losses = optax.sigmoid_binary_cross_entropy(domain, is_source)
        told = ((domain > 0) == is_source).sum()
        terms = {
            "loss": entropy(logits, source["targets"], source["weights"]),
            "domain": Term(losses.sum(), len(domain)),
        }
        return Loss(terms, memory, {"domain_accuracy": Term(told, len(domain))})
