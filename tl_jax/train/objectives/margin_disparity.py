"""MDD: a second head leaves the first on the target, where features do not let it follow.

Zhang et al. 2019, Bridging Theory and Algorithm for Domain Adaptation (arXiv:1904.05801).
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax

from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known, Layer
from tl_jax.errors import takes
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.adversarial import Adversarial
from tl_jax.train.objectives.common import reversed_gradient, second_head
from tl_jax.train.objectives.domains import log_rest, supervised, wide

ADVERSARY = "adversary"  # the second head


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarginDisparity(Adversarial):
    """Cross entropy on the source, and what the tail `adversary` minimises:

        margin * mean -log q_s[y_s] + mean -log(1 - q_t[y_t])

    q are the adversary's probabilities and y the classes that the head predicts. Its gradient is
    reversed where the adversary, which has the layers of the head, reads features. The ceiling and
    the margin are TLlib's.
    """

    margin: float = 4.0
    ceiling: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        takes(self.margin > 0, "margin=", "a number above 0", self.margin)

    def feature(self, network: Network) -> str:
        """What both heads read."""
        return second_head(network, self.output, ADVERSARY)[0].places[0]

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """The adversary."""
        return second_head(network, self.output, ADVERSARY)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The terms `loss`, `agree` and `differ`; logs where the heads agree on the target."""
        place = self.feature(net.network)
        (ours, logits), (theirs, others) = self.run(net, batch, (place, self.output))
        turned = reversed_gradient(jnp.concatenate([ours, theirs]), self.coefficient(now))
        q = wide(net(Known({place: turned}), ADVERSARY))
        q_s, q_t = q[: len(ours)], q[len(ours) :]
        said, guessed = logits.argmax(-1), others.argmax(-1)
        agree = optax.softmax_cross_entropy_with_integer_labels(q_s, said)
        differ = -log_rest(q_t, guessed)
        terms = {
            "loss": supervised(logits, batch),
            "agree": Term(agree.sum(), len(q_s), self.margin),
            "differ": Term(differ.sum(), len(q_t)),
        }
        return Loss(terms, memory, {"agreement": Term((q_t.argmax(-1) == guessed).sum(), len(q_t))})
