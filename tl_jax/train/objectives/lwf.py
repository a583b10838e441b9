"""Learning without forgetting: the base's old classifier goes on saying what it said at first.

Li & Hoiem 2016, Learning without Forgetting (arXiv:1606.09282), equations 2 and 3.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from tl_jax.chain.network import Net
from tl_jax.chain.source_head import SOURCE_HEAD
from tl_jax.errors import takes, takes_types
from tl_jax.train.objective import Term


@dataclasses.dataclass(frozen=True)
class LearningWithoutForgetting:
    """A term for `CrossEntropy.also`: weight times KL(p0 || p), averaged over the batch.

    p and p0, (B, S), are the old classifier's probabilities and the pretrained network's on the
    same images, both of logits / temperature. The gradients are those of the paper's cross entropy
    to p0. Defaults are TLlib's; the paper has weight 1 and temperature 2, and neither multiplies
    the term by temperature^2.
    """

    weight: float = 4.0
    temperature: float = 3.0
    source_head: ClassVar[bool] = True

    def __post_init__(self):
        takes_types(self)
        takes(self.weight >= 0, "lwf: weight", "a number from 0 on", self.weight)
        takes(self.temperature > 0, "lwf: temperature", "a number above 0", self.temperature)

    def __call__(self, net: Net, batch: Any) -> dict[str, Term]:
        """`lwf`."""
        own = net(batch["inputs"], SOURCE_HEAD)
        first = net.at("anchor")(batch["inputs"], SOURCE_HEAD, train=False)
        scaled = (z.astype(jnp.float32) / self.temperature for z in (own, first))
        own, first = map(jax.nn.log_softmax, scaled)
        gaps, weights = optax.losses.kl_divergence(own, jnp.exp(first)), batch["weights"]
        return {"lwf": Term((gaps * weights).sum(), weights.sum(), self.weight)}
