"""What objectives without labels share: features, tails, views, and how they are watched."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import ops
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Layer
from tl_jax.chain.tails import Projector
from tl_jax.data.augment import TwoViews
from tl_jax.data.task import Task
from tl_jax.errors import UserError
from tl_jax.stats import representation
from tl_jax.train.objective import Loss, Objective, Term
from tl_jax.train.objectives.common import unit
from tl_jax.train.objectives.cross_entropy import entropy

WATCHED = 2000  # images of val at most, and of train, of which features are watched


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfSupervised(Objective):
    """Learns features, the values at the place `output`, from images alone.

    No loss reads labels; `watch` does, for a log, where the task has classes.
    """

    output: str = "feature"
    chosen_by = "last"

    def fitted(self, task: Task) -> "SelfSupervised":
        """Return the objective for this task; UserError where it cannot learn from it."""
        return self

    def seen(self, side: int) -> int:
        """The side of the smallest parts of images of `side` pixels that the network is shown."""
        return side

    def predict(self, net: Net, batch: Any, carry: Any) -> tuple[jax.Array, Any]:
        """Features (B, D), the mean over space."""
        value = net(batch["inputs"], self.output, train=False)
        return ops.mean_of_positions(value).astype(jnp.float32), carry

    def score(self, predictions: jax.Array, batch: Any) -> dict[str, Term]:
        """None: what features are worth is seen of all together, by `watch`."""
        return {}

    def watch(self, predicted: Callable[[np.ndarray], Any], task: Task) -> dict[str, float]:
        """`spread` and `rank` of the features of val, which fall when they collapse; and `knn`, the
        accuracy of the nearest training images, where each image has a class. Of large splits,
        images at equal distances stand for all.
        """
        val, bank = (few(task.splits[split]) for split in ("val", "train"))
        features = predicted(val)
        row = {
            "spread": representation.spread(features),
            "rank": representation.effective_rank(features),
        }
        if task.classes and task.asks == "classes":
            labels = task.truth["labels"]
            row["knn"] = representation.neighbour_accuracy(
                features, labels[val], predicted(bank), labels[bank]
            )
        return row


@dataclasses.dataclass(frozen=True, kw_only=True)
class JointEmbedding(SelfSupervised):
    """Compares the embeddings of two random views of each image, "a" and "b" of a batch.

    Embeddings (B, `width`) are at the place `projected`: a `Projector` with a layer of `hidden`, on
    the features.
    """

    hidden: int = 2048
    width: int = 256
    coupled = True

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """`projected`."""
        return (Layer("projected", Projector(self.hidden, self.width), (self.output,)),)

    def augmented(self, augment: Callable | None) -> Callable:
        """Two views by the augmentation; UserError where there is none."""
        return TwoViews(required(self, augment))


def few(rows: np.ndarray) -> np.ndarray:
    """Return `WATCHED` of the rows at most."""
    return rows[:: -(-len(rows) // WATCHED)]


def required(objective: Objective, augment: Callable | None) -> Callable:
    """Return the augmentation; UserError where there is none, or one that blends images."""
    name = type(objective).__name__
    if augment is None:
        raise UserError(
            f"{name} learns what random augmentation leaves as it is, and there is none: take "
            "augment=crop+flip+jitter, say"
        )
    if getattr(augment, "coupled", False):
        raise UserError(
            f"{name} takes each view for its image, and this augmentation blends it with others: "
            "leave out mixup and cutmix"
        )
    return augment


def spread(embeddings: jax.Array) -> Term:
    """To be logged: 1 where embeddings (B, D) point everywhere, 0 where they collapsed."""
    x = unit(embeddings.astype(jnp.float32))
    return Term(x.std(0).mean() * x.shape[-1] ** 0.5)


def told_apart(logits: jax.Array, numbers: jax.Array, memory: Any, scale: float = 1.0) -> Loss:
    """The cross entropy of a pretext task's classes, `numbers` (B,), and its accuracy as a log."""
    targets = jax.nn.one_hot(numbers, logits.shape[-1])
    right = (logits.argmax(-1) == numbers).sum()
    term = entropy(logits, targets, jnp.ones(len(numbers)), scale)
    return Loss({"loss": term}, memory, {"told": Term(right, len(numbers))})
