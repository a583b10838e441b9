"""Exemplar: each image is a class of its own, and augmentation makes its examples.

Dosovitskiy et al. 2014, Discriminative Unsupervised Feature Learning with Exemplar Convolutional
Neural Networks (arXiv:1406.6909).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Layer
from tl_jax.data.task import Task
from tl_jax.errors import takes
from tl_jax.train.objective import Loss, Now
from tl_jax.train.objectives.self_supervised import SelfSupervised, required, told_apart


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exemplar(SelfSupervised):
    """Equation 5: cross entropy of the image that an augmented one came from.

    The classifier `exemplar` has a class for each of `images`, which are all to train on, and whose
    number is the batch's "example" (B,). The paper draws 150 transformations of each patch before
    training; here every epoch draws another.
    """

    images: int = 0

    def fitted(self, task: Task) -> "Exemplar":
        """With a class for each training image; UserError for another number."""
        count = len(task.splits["train"])
        takes(self.images in (0, count), "exemplar: images=", f"0, or all {count:,}", self.images)
        return dataclasses.replace(self, images=count)

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """`exemplar`."""
        return (Layer("exemplar", Classifier(self.images), (self.output,)),)

    def augmented(self, augment: Callable | None) -> Callable:
        """UserError where there is none."""
        return required(self, augment)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss`; logs `told`, the share of images that are told."""
        return told_apart(net(batch["inputs"], "exemplar"), batch["example"], memory)
