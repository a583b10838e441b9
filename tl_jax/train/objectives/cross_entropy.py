"""Cross entropy with soft labels and example weights: classification, and the default."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tl_jax.chain.network import Net
from tl_jax.errors import takes, takes_type
from tl_jax.stats import metrics
from tl_jax.train.objective import Loss, Now, Objective, Term

TRUTH = ("labels", "targets", "weights", "graded_labels", "graded_weights")  # see `Task`


def entropy(logits: jax.Array, targets: jax.Array, weights: jax.Array, scale: Any = 1.0) -> Term:
    """The weighted mean over a batch of -sum(targets * log softmax(logits)), (B, C) both."""
    losses = optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)
    return Term((losses * weights).sum(), weights.sum(), scale)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Objective):
    """Predictions and scores of the classes at the place `output`; losses are its subclasses'.

    Epochs are chosen by accuracy: the loss rises with confidence long before accuracy falls, which
    cut training from scratch shorter than fine-tuning.
    """

    chosen_by = "val_accuracy"
    output: str = "head"

    def predict(self, net: Net, batch: Any, carry: Any) -> tuple[jax.Array, Any]:
        """Class probabilities (B, C)."""
        logits = net(batch["inputs"], self.output, train=False)
        return jax.nn.softmax(logits.astype(jnp.float32)), carry

    def score(self, predictions: jax.Array, batch: Any) -> dict[str, Term]:
        """Loss, accuracy and confidence-weighted accuracy."""
        real, predicted = batch["real"], predictions.argmax(-1)
        weights, graded = batch["weights"] * real, batch["graded_weights"] * real
        losses = -(batch["targets"] * jnp.log(jnp.maximum(predictions, 1e-12))).sum(-1)
        return {
            "loss": Term((losses * weights).sum(), weights.sum()),
            "accuracy": Term(((predicted == batch["labels"]) * real).sum(), real.sum()),
            "weighted_accuracy": Term(
                ((predicted == batch["graded_labels"]) * graded).sum(), graded.sum()
            ),
        }

    def finish(self, predictions: Any, task: Any, examples: Any) -> dict[str, Any]:
        """Every metric of `tl_jax.stats.metrics`; of tiles the accuracy of whole images, too."""
        truth = {name: getattr(task, name)[examples] for name in TRUTH}
        found = metrics.evaluate(predictions, **truth, classes=task.classes)
        if task.wholes:
            wholes = [task.wholes[int(example)] for example in examples]
            right, count = metrics.accuracy_of_groups(predictions, truth["labels"], wholes)
            found["image_accuracy"] = right / count
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropy(Classification):
    """Of the classes at the place `output`.

    `smoothing`: share of the targets that is spread evenly over the classes (Szegedy et al. 2016,
    arXiv:1512.00567, section 7). `also`: functions (net, batch) -> {name: Term} that add terms;
    one whose terms couple the examples of a batch has an attribute `coupled`, one that asks for the
    base's old classifier an attribute `source_head`.
    """

    smoothing: float = 0.0
    also: tuple = ()

    def __post_init__(self):
        takes_type("smoothing=", float, self.smoothing)
        takes(0 <= self.smoothing < 1, "smoothing=", "a share from 0 to below 1", self.smoothing)

    @property
    def coupled(self) -> bool:
        """Whether a term of `also` depends on more than one example."""
        return any(getattr(extra, "coupled", False) for extra in self.also)

    @property
    def source_head(self) -> bool:
        """Whether a term of `also` asks for the base's old classifier."""
        return any(getattr(extra, "source_head", False) for extra in self.also)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """One term, `loss`, and those of `also`."""
        targets = batch["targets"]
        if self.smoothing:
            targets = optax.smooth_labels(targets, self.smoothing)
        terms = {"loss": entropy(net(batch["inputs"], self.output), targets, batch["weights"])}
        for extra in self.also:
            terms |= extra(net, batch)
        return Loss(terms, memory)
