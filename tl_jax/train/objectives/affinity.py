"""Which tasks help which: what a step on one task does to the loss of another.

Fifty et al. 2021, Efficiently Identifying Task Groupings for Multi-Task Learning (NeurIPS,
arXiv:2109.04617).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.chain.variables import overlaid
from tl_jax.train.objective import Loss, Now, Term, mean
from tl_jax.train.objectives.tasks import Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Affinity(Tasks):
    """Trains as `Tasks` does, and logs `affinity_I_J` = 1 - L_J(after a step on L_I) / L_J.

    Equation 1: the step is one of plain gradient descent, by `step`, in the layers that all tasks
    share, and both losses are of the same batch. It is taken and undone in each step of training;
    an epoch's row has the mean. Each costs 2 T more forward passes and T more backward ones.
    """

    step: float = 0.01

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The terms, and the logs."""
        found = super().loss(net, batch, memory, now)
        return found._replace(logs=self.affinities(net, batch))

    def affinities(self, net: Net, batch: Any) -> dict[str, Term]:
        """`affinity_I_J` of the batch, for every pair of tasks."""
        params = jax.lax.stop_gradient(net.params)
        shared = {n: params[n] for n in net.train if n in params and n not in self.places}

        def losses(shared: Any) -> dict[str, Any]:
            # Of its own, so that neither masks nor statistics of the step's pass change.
            own = Net(net.network, overlaid(params, shared), net.stats, norm=net.norm,
                      prepare=net.prepare)  # fmt: skip
            return {place: mean(term) for place, term in self.terms(own, batch).items()}

        before, found = losses(shared), {}
        for i in self.places:
            slope = jax.grad(lambda shared, i=i: losses(shared)[i])(shared)
            after = losses(jax.tree.map(lambda p, g: p - self.step * g, shared, slope))
            found |= {f"affinity_{i}_{j}": fallen(before[j], after[j]) for j in self.places}
        return found


def fallen(before: jax.Array, after: jax.Array) -> Term:
    """By what share a loss has fallen; nothing where there was none, as without a label."""
    there = before > 0
    share = jnp.where(there, 1 - after / jnp.where(there, before, 1), 0)
    return Term(share, there.astype(jnp.float32))
