"""Rotation: which way up is the image? Whoever can tell knows what is in it.

Gidaris et al. 2018, Unsupervised Representation Learning by Predicting Image Rotations
(arXiv:1803.07728).
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import IMAGE, Known, Layer
from tl_jax.train.objective import Loss, Now
from tl_jax.train.objectives.self_supervised import SelfSupervised, told_apart


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotation(SelfSupervised):
    """Equation 3: cross entropy of 0, 90, 180 and 270 degrees; all four copies of an image are in
    one batch, as in the paper. The classifier `rotation` is linear on the features.
    """

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """`rotation`."""
        return (Layer("rotation", Classifier(4), (self.output,)),)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss`; logs `told`, the share of turns that are told."""
        images = batch["inputs"][IMAGE]
        turned = jnp.concatenate([jnp.rot90(images, turns, (1, 2)) for turns in range(4)])
        logits = net(Known({IMAGE: turned}), "rotation")
        return told_apart(logits, jnp.repeat(jnp.arange(4), len(images)), memory)
