"""PCGrad: several tasks whose gradients are in each other's way.

Yu et al. 2020, Gradient Surgery for Multi-Task Learning (arXiv:2001.06782).
"""

import dataclasses
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp

from tl_jax.train.objective import Now
from tl_jax.train.objectives.tasks import Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class PCGrad(Tasks):
    """Algorithm 1: each task's gradient without the part that is against another task's, in the
    layers that all share.
    """

    def resolve(self, gradients: Any, values: Any, memory: Any, now: Now) -> tuple[Any, Any]:
        """The sum of the projected gradients, others taken in a random order for each task; those
        of heads are added as they are.
        """
        every = list(gradients.values())
        shared = [{n: g for n, g in one.items() if n not in self.places} for one in every]
        _, whole = jax.flatten_util.ravel_pytree(shared[0])
        rows = [jax.flatten_util.ravel_pytree(one)[0] for one in shared]
        total = jax.tree.map(lambda *parts: sum(parts), *every)
        return {**total, **whole(projected(jnp.stack(rows), now.key).sum(0))}, memory


def projected(gradients: jax.Array, key: jax.Array) -> jax.Array:
    """Of gradients (T, P) each, minus its projection on every other one with which it conflicts."""
    count = len(gradients)

    def one(number, key):
        def against(own, other):
            onto = gradients[other]
            conflict = jnp.where(other == number, 0.0, jnp.minimum(own @ onto, 0.0))
            return own - conflict / jnp.maximum(onto @ onto, 1e-12) * onto, None

        return jax.lax.scan(against, gradients[number], jax.random.permutation(key, count))[0]

    return jax.vmap(one)(jnp.arange(count), jax.random.split(key, count))
