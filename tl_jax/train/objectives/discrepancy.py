"""MCD: two classifiers that disagree as much as they can, on features that let them agree.

Saito et al. 2018, Maximum Classifier Discrepancy for Unsupervised Domain Adaptation
(arXiv:1712.02560).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Layer
from tl_jax.errors import takes_whole
from tl_jax.train.objective import Loss, Now, Term, Turn
from tl_jax.train.objectives.common import second_head
from tl_jax.train.objectives.cross_entropy import entropy
from tl_jax.train.objectives.domains import BothDomains, wide

SECOND = "second"  # the second head


@dataclasses.dataclass(frozen=True, kw_only=True)
class Discrepancy(BothDomains):
    """Three updates a step (section 3.3): of all layers, of the two heads, of all but the heads.

    Step A minimises both heads' cross entropy on the source. Step B also maximises their
    discrepancy on the target, the mean over examples and classes of |p1 - p2|. Step C minimises
    that, `repeat` times (n in the paper, which tries 2 to 4). The tail `second` has the layers of
    the head, with other fresh weights. Predictions are those of the head. TLlib adds a term for the
    marginal entropy of predictions.
    """

    repeat: int = 1
    statistics: str = "separate"

    def __post_init__(self):
        super().__post_init__()
        takes_whole(self.repeat, "repeat=", 1, 100)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Both heads are fitted, then drawn apart, then features bring them together."""
        heads = self.output, SECOND
        again = (Turn(f"features{i + 1}", never=heads) for i in range(self.repeat))
        return Turn("fit"), Turn("heads", only=heads), *again

    def feature(self, network: Network) -> str:
        """What both heads read."""
        return second_head(network, self.output, SECOND)[0].places[0]

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """The second head."""
        return second_head(network, self.output, SECOND)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """Both heads' cross entropy, by their names, and `discrepancy`."""
        heads, terms = (self.output, SECOND), {}
        if now.turn in ("fit", "heads"):
            (pair,) = self.run(net, batch, heads, ("source",))
            source = batch["source"]
            for head, logits in zip(heads, pair, strict=True):
                terms[head] = entropy(logits, source["targets"], source["weights"])
        if now.turn != "fit":
            (pair,) = self.run(net, batch, heads, ("target",))
            p, q = (jax.nn.softmax(wide(logits)) for logits in pair)
            sign = -1.0 if now.turn == "heads" else 1.0
            terms["discrepancy"] = Term(jnp.abs(p - q).sum(), p.size, sign)
        return Loss(terms, memory)
