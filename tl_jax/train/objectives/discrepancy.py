"""MCD: two classifiers that disagree as much as they can, on features that let them agree.

Saito et al. 2018, Maximum Classifier Discrepancy for Unsupervised Domain Adaptation
(arXiv:1712.02560).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.train.objective import Loss, Now, Term, Turn
from tl_jax.train.objectives.cross_entropy import Classification, entropy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Discrepancy(Classification):
    """Three updates a step (section 3.3): of all layers, of the two heads, of all but the heads.

    Step A minimises both heads' cross entropy on the source. Step B also maximises their
    discrepancy on the target, the mean over examples and classes of |p1 - p2|. Step C minimises
    that, `repeat` times (n in the paper).

    `output` and `second` are tails on the same place, which start from different weights. Asks for
    two sources: "source" with inputs, "targets" (B, C) and "weights" (B,), and "target", of which
    it reads the inputs alone. Each has its own batch statistics in a call of its own. Predictions
    are those of `output`.
    """

    second: str = "second"
    repeat: int = 1
    judges = "target"

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Both heads are fitted, then drawn apart, then features bring them together."""
        heads = self.output, self.second
        again = (Turn(f"features{i + 1}", never=heads) for i in range(self.repeat))
        return Turn("fit"), Turn("heads", only=heads), *again

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """Both heads' cross entropy, by their names, and `discrepancy`."""
        heads = self.output, self.second
        terms = {}
        if now.turn in ("fit", "heads"):
            source = batch["source"]
            for head, logits in zip(heads, net(source["inputs"], heads), strict=True):
                terms[head] = entropy(logits, source["targets"], source["weights"])
        if now.turn != "fit":
            logits = net(batch["target"]["inputs"], heads)
            p, q = (jax.nn.softmax(z.astype(jnp.float32)) for z in logits)
            sign = -1.0 if now.turn == "heads" else 1.0
            terms["discrepancy"] = Term(jnp.abs(p - q).sum(), p.size, sign)
        return Loss(terms, memory)
