"""DINO: a student agrees with its own average about which prototypes an image is like.

Caron et al. 2021, Emerging Properties in Self-Supervised Vision Transformers (arXiv:2104.14294).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Layer
from tl_jax.chain.tails import Prototypes
from tl_jax.errors import takes
from tl_jax.train.objective import Loss, Now
from tl_jax.train.objectives.common import falling, jointly
from tl_jax.train.objectives.cross_entropy import entropy
from tl_jax.train.objectives.self_supervised import JointEmbedding, spread


@dataclasses.dataclass(frozen=True, kw_only=True)
class DINO(JointEmbedding):
    """Algorithm 1: cross entropy of the student's softmax(cosines / 0.1) to the averaged network's
    softmax((cosines - centre) / `temperature`) of the other view, both ways.

    The centre (K,), the memory, is the running mean of the teacher's cosines with the `prototypes`;
    without it one prototype takes all. The average, which the run hands on, moves by `rate`, which
    falls to 0 with a cosine. There are two views of whole size and no small crops; `temperature` is
    constant, and the prototypes learn from the first epoch on. The projection has two layers and a
    batch norm; that of the authors has three layers, and by default no norm.
    """

    prototypes: int = 4096
    temperature: float = 0.04
    rate: float = 0.004
    evaluates = "average"

    def __post_init__(self):
        takes(0 < self.rate <= 1, "dino: rate", "a number above 0 and up to 1", self.rate)

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """`projected` and `cosines`."""
        cosines = Layer("cosines", Prototypes(self.prototypes), ("projected",))
        return *super().tails(network), cosines

    def average(self, now: Now) -> Any:
        """1 - the momentum, at this step of the phase."""
        return falling(self.rate, now)

    def begin(self, net: Net, batch: Any) -> jax.Array:
        """The centre (K,)."""
        return jnp.zeros(self.prototypes)

    def loss(self, net: Net, batch: Any, memory: jax.Array, now: Now) -> Loss:
        """`loss`; logs the `spread` of the embeddings."""
        views = batch["a"], batch["b"]
        (za, a), (_, b) = jointly(net, views, ("projected", "cosines"))
        teacher = jointly(net.at("average"), views[::-1], "cosines")
        teacher = jnp.concatenate(jax.lax.stop_gradient(teacher)).astype(jnp.float32)
        student = jnp.concatenate([a, b]).astype(jnp.float32)
        term = entropy(
            student / 0.1, targets(teacher, memory, self.temperature), jnp.ones(len(student))
        )
        centre = 0.9 * memory + 0.1 * teacher.mean(0)
        return Loss({"loss": term}, centre, {"spread": spread(za)})


def targets(cosines: jax.Array, centre: jax.Array, temperature: float) -> jax.Array:
    """The teacher's probabilities (B, K): centred, against one for all, and sharpened, against all
    for each.
    """
    return jax.nn.softmax((cosines - centre) / temperature)
