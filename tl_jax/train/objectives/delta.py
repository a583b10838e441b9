"""DELTA: feature maps stay near the pretrained network's, most where its filters matter most.

Li et al. 2019, DELTA: Deep Learning Transfer using Feature Map with Attention for Convolutional
Networks (arXiv:1901.09229), equations 5 to 7.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.heads import is_head
from tl_jax.chain.network import Net
from tl_jax.chain.places import Known
from tl_jax.errors import takes
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.common import read_by
from tl_jax.train.objectives.cross_entropy import CrossEntropy, entropy
from tl_jax.train.objectives.l2_sp import squares


@dataclasses.dataclass(frozen=True, kw_only=True)
class Delta(CrossEntropy):
    """Cross entropy + alpha/2 sum_c C a_c |F_c - F0_c|^2 / positions + beta/2 |head|^2.

    F_c is channel c of the output of each of `layers` (default: of what the layer `output` reads),
    F0_c that of the pretrained network, averaged over the batch. The attention a (C,) is a softmax
    of how much the phase's first batch loses when a channel is 0: so a head is trained first. It is
    scaled by C, so that equal attention is a factor of 1, as in TLlib.
    """

    alpha: float = 0.01
    beta: float = 0.01
    layers: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        fits = isinstance(self.layers, tuple | list)
        takes(fits, "layers=", "several names, as ('stage4_block1',)", self.layers)

    def begin(self, net: Net, batch: Any) -> dict[str, jax.Array]:
        """C a_c by layer, (C,) each."""
        return {place: self._attention(net, batch, place) for place in self._places(net)}

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss`, `delta` and `decay`, of the head."""
        terms = dict(super().loss(net, batch, memory, now).terms)
        places = self._places(net)
        starts = net.at("anchor")(batch["inputs"], places, train=False)
        total = jnp.zeros(())
        for place, own, start in zip(places, net(batch["inputs"], places), starts, strict=True):
            gaps = jnp.square((own - start).astype(jnp.float32))
            total += (memory[place] * gaps.reshape(len(gaps), -1, gaps.shape[-1]).mean(1)).sum()
        heads = [tree for name, tree in net.params.items() if is_head(name, self.output)]
        terms["delta"] = Term(total, len(batch["weights"]), self.alpha / 2)
        terms["decay"] = Term(squares(heads), 1.0, self.beta / 2)
        return Loss(terms, memory)

    def _places(self, net: Net) -> tuple[str, ...]:
        return tuple(self.layers) or (read_by(net.network, self.output),)

    def _attention(self, net: Net, batch: Any, place: str) -> jax.Array:
        value = net(batch["inputs"], place, train=False)
        channels = jnp.arange(value.shape[-1])

        def lost(channel: jax.Array) -> jax.Array:
            known = Known({**batch["inputs"], place: value * (channels != channel)})
            logits = net(known, self.output, train=False)
            term = entropy(logits, batch["targets"], batch["weights"])
            return term.sum / jnp.maximum(term.weight, 1e-12)

        return len(channels) * jax.nn.softmax(jax.lax.map(lost, channels))
