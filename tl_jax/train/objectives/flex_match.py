"""FlexMatch: FixMatch with a lower threshold for classes that few answers are sure of.

Zhang et al. 2021, FlexMatch: Boosting Semi-Supervised Learning with Curriculum Pseudo Labeling
(arXiv:2110.08263), equations 5 to 11.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.train.objectives.fix_match import FixMatch


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlexMatch(FixMatch):
    """As FixMatch, with threshold * M(beta_c) for answers of class c, where M(x) = x / (2 - x).

    Of N unlabelled examples s_c are surely of class c, by `threshold`:

        beta_c = s_c / max(max_c s_c, N - sum_c s_c)

    The paper counts in each step, of each example the last answer that was sure. Here a pass over
    the unlabelled examples counts before each epoch.
    """

    def begin(self, net: Net, batch: Any) -> jax.Array:
        """The shape of beta (C,)."""
        return jnp.zeros(batch["labelled"]["targets"].shape[-1])

    def refresh(self, fold: Any, memory: jax.Array, epoch: int) -> jax.Array:
        """beta (C,)."""
        counts, examples = fold(self.counted, (jnp.zeros_like(memory), jnp.zeros(())))
        return learned(counts, examples)

    def counted(self, net: Net, batch: Any, total: Any) -> Any:
        """The sums with a batch: sure answers by class (C,), and examples."""
        logits = net(batch["unlabelled"]["inputs"], self.output, train=False)
        p = jax.nn.softmax(logits.astype(jnp.float32))
        sure = p.max(1) >= self.threshold
        return total[0].at[p.argmax(1)].add(sure), total[1] + len(p)

    def thresholds(self, memory: jax.Array) -> jax.Array:
        """By class, (C,)."""
        return self.threshold * memory / (2 - memory)


def learned(counts: jax.Array, examples: Any) -> jax.Array:
    """Return beta (C,) of the paper's equation 11, from sure answers by class among N examples."""
    most = jnp.maximum(counts.max(), examples - counts.sum())
    return counts / jnp.maximum(most, 1.0)
