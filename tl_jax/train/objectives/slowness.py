"""Slowness: features change little while a camera moves, and tell how it moved.

Slow features (Wiskott & Sejnowski 2002) as a deep objective; without a repulsion the slowest
features are constant (Hadsell et al. 2006, DrLIM), so VICReg's is added. Motion as in Agrawal et
al. 2015, Learning to See by Moving (arXiv:1505.01596).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known, Layer
from tl_jax.chain.tails import ReluDense, Slots
from tl_jax.data.augment import TwoFrames
from tl_jax.data.augment.frames import MOTIONS
from tl_jax.errors import takes, takes_whole
from tl_jax.train.objective import Loss, Now
from tl_jax.train.objectives.common import jointly
from tl_jax.train.objectives.jigsaw import side_by_side
from tl_jax.train.objectives.self_supervised import spread, told_apart
from tl_jax.train.objectives.vicreg import VICReg


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slowness(VICReg):
    """VICReg's terms of two frames in place of two views, plus `motion` times the cross entropy of
    the motion between them.

    Frames are an image and the same `step` pixels further, in one of nine directions (`TwoFrames`).
    A phase's augmentation, if any, changes both alike. The tails `moved` and `direction` read the
    features of both frames.
    """

    step: int = 2
    motion: float = 1.0

    def __post_init__(self):
        takes_whole(self.step, "slowness: step", 1, 1000)
        takes(self.motion >= 0, "slowness: motion", "a number from 0 on", self.motion)

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """`projected`, `moved` and `direction`."""
        moved = Layer("moved", Slots(2, 128), (self.output,))
        return *super().tails(network), moved, Layer("direction", ReluDense(MOTIONS), ("moved",))

    def augmented(self, augment: Callable | None) -> Callable:
        """Two frames, of images that were augmented before if there is an augmentation."""
        return TwoFrames(self.step, augment)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """VICReg's terms and `motion`; logs `spread`, and `told`, the share of motions told."""
        parts = jointly(net, (batch["a"], batch["b"]), ("projected", "moved"))
        (a, moved_a), (b, moved_b) = parts
        both = jnp.stack([moved_a, moved_b], 1).reshape(-1, *moved_a.shape[1:])
        logits = net(Known({"moved": side_by_side(both, 2)}), "direction")
        told = told_apart(logits, batch["motion"], memory, self.motion)
        terms = {**self.compared(a, b), "motion": told.terms["loss"]}
        return Loss(terms, memory, {"spread": spread(a), **told.logs})
