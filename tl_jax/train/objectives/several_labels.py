"""Sigmoid cross entropy: any of several labels, each by itself."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tl_jax.chain import answers
from tl_jax.chain.network import Net
from tl_jax.stats import metrics
from tl_jax.train.objective import Loss, Now, Objective, Term
from tl_jax.train.objectives.common import over_known


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeveralLabels(Objective):
    """Of the labels at the place `output`: the mean over those that are known.

    Asks of the batch "targets" (B, C), which are 1, 0, or NaN where nobody knows, and "weights"
    (B,). `thresholds` (C,), from which on a label is given, are those of the best F1 on val.
    """

    asks = "labels"
    chosen_by = "val_loss"
    output: str = "head"
    thresholds: tuple[float, ...] = ()

    @property
    def answers(self) -> str:
        """Labels with these thresholds."""
        return f"labels(thresholds={self.thresholds!r})"

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """One term, `loss`."""
        logits = net(batch["inputs"], self.output).astype(jnp.float32)
        losses = optax.sigmoid_binary_cross_entropy(logits, jnp.nan_to_num(batch["targets"]))
        return Loss({"loss": over_known(losses, batch["targets"], batch["weights"])}, memory)

    def predict(self, net: Net, batch: Any, carry: Any) -> tuple[jax.Array, Any]:
        """The probability (B, C) of each label."""
        logits = net(batch["inputs"], self.output, train=False).astype(jnp.float32)
        return answers.Labels()(logits), carry

    def score(self, predictions: jax.Array, batch: Any) -> dict[str, Term]:
        """Loss, and the share of known labels that are right at 1/2."""
        targets, real = batch["targets"], batch["real"]
        known = ~jnp.isnan(targets) * real[:, None]
        right = (predictions > 0.5) == (targets > 0.5)
        of_truth = jnp.where(targets > 0.5, predictions, 1 - predictions)
        losses = -jnp.log(jnp.maximum(of_truth, 1e-7))
        return {
            "loss": over_known(losses, targets, batch["weights"] * real),
            "label_accuracy": Term((right * known).sum(), known.sum()),
        }

    def settled(self, predictions: Any, task: Any, examples: Any) -> "SeveralLabels":
        """With the thresholds of the best F1."""
        found = metrics.best_thresholds(predictions, task.targets[examples])
        return dataclasses.replace(self, thresholds=tuple(found.tolist()))

    def finish(self, predictions: Any, task: Any, examples: Any) -> dict[str, Any]:
        """Every metric of `metrics.of_labels`, and what `score` says."""
        thresholds = np.array(self.thresholds or [0.5] * len(task.classes))
        said = super().finish(predictions, task, examples)
        given = {"targets": task.targets[examples], "thresholds": thresholds}
        return said | metrics.of_labels(predictions, names=task.classes, **given)
