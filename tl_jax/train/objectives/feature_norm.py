"""AFN: features of both domains grow, step by step, as those that transfer are large.

Xu et al. 2019, Larger Norm More Transferable: An Adaptive Feature Norm Approach for Unsupervised
Domain Adaptation (arXiv:1811.07456).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.domains import Weighted, supervised


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureNorm(Weighted):
    """Cross entropy on the source, and on each domain weight * mean (|f| - (|f|' + step))^2,
    where no gradient flows through |f|'.

    The value is always step^2: watch the logged norms. The authors' dropout that keeps norms, and
    their term for entropy, are left out.
    """

    weight: float = 0.05
    step: float = 1.0

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The terms `loss`, `source_norm` and `target_norm`; logs the mean norms."""
        (ours, logits), (theirs, _) = self.seen(net, batch)
        terms, logs = {"loss": supervised(logits, batch)}, {}
        for name, features in (("source", ours), ("target", theirs)):
            # The root of 0 has no gradient.
            norms = jnp.sqrt(jnp.maximum(jnp.square(features).sum(-1), 1e-12))
            gaps = norms - (jax.lax.stop_gradient(norms) + self.step)
            terms[f"{name}_norm"] = Term(jnp.square(gaps).sum(), len(gaps), self.weight)
            logs[f"{name}_size"] = Term(norms.sum(), len(norms))
        return Loss(terms, memory, logs)
