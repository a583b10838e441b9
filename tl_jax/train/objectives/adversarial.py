"""What adversarial adaptation shares: a classifier of domains, and gradients that are reversed."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from tl_jax import ops, registry
from tl_jax.errors import takes
from tl_jax.train.objective import Now, Term
from tl_jax.train.objectives.domains import BothDomains

DOMAIN = "domain"  # the tail that tells domains apart


def dann(progress: Any, steps: Any, *, steepness: float = 10.0) -> Any:
    """By the share of the phase that is done: 2 / (1 + exp(-steepness p)) - 1 (Ganin et al. 2016,
    section 5.2.2).
    """
    return 2 / (1 + jnp.exp(-steepness * progress)) - 1


def tllib(progress: Any, steps: Any, *, alpha: float = 1.0, iterations: float = 1000.0) -> Any:
    """By the step i of the phase: 2 / (1 + exp(-alpha i / iterations)) - 1, as in TLlib."""
    takes(iterations > 0, "iterations=", "a number above 0", iterations)
    return dann(progress * steps, steps, steepness=alpha / iterations)


def constant(progress: Any, steps: Any) -> Any:
    """1 throughout."""
    return jnp.ones(())


RAMPS = {f.__name__: f for f in (dann, tllib, constant)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversarial(BothDomains):
    """Features are trained against a tail, whose gradients arrive there times -coefficient.

    coefficient = ceiling * ramp(progress): "dann(steepness=10)", "tllib(alpha=1, iterations=1000)"
    or "constant". In hard shifts a ceiling below 1 keeps training stable.
    """

    ceiling: float = 1.0
    ramp: str = "dann"

    def __post_init__(self):
        super().__post_init__()
        takes(self.ceiling >= 0, "ceiling=", "a number from 0 on", self.ceiling)
        ramp, options = registry.chosen("ramp", self.ramp, RAMPS)
        ramp(0.0, 1.0, **options)  # refuses what it cannot take

    def coefficient(self, now: Now) -> Any:
        """Of the reversed gradient, at this moment."""
        ramp, options = registry.chosen("ramp", self.ramp, RAMPS)
        return self.ceiling * ramp(now.progress, now.steps, **options)


class Discriminator(nn.Module):
    """The mean over space, two dense layers of `width` with ReLU, and a domain's logit: (N, D) to
    (N, 1), positive for the source.
    """

    width: int

    @nn.compact
    def __call__(self, x):
        x = ops.mean_of_positions(x)
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(1)(x)


def told_apart(logits: jax.Array, sources: int, weights: Any = 1.0) -> tuple[Term, Term]:
    """The weighted binary cross entropy of domains' logits (B, 1), the first `sources` of which are
    the source's; and the share of them that are right.
    """
    logits = logits[:, 0].astype(jnp.float32)
    is_source = jnp.arange(len(logits)) < sources
    weights = jnp.broadcast_to(weights, logits.shape)
    losses = optax.sigmoid_binary_cross_entropy(logits, is_source)
    right = ((logits > 0) == is_source).sum()
    return Term((losses * weights).sum(), weights.sum()), Term(right, len(logits))
