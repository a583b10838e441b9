"""Squared error of numbers, each in units of its spread over the training examples."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tl_jax.chain import answers
from tl_jax.chain.network import Net
from tl_jax.errors import takes
from tl_jax.stats import metrics
from tl_jax.train.objective import Loss, Now, Objective, Term
from tl_jax.train.objectives.common import over_known


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression(Objective):
    """Of the numbers at the place `output`, half the squared error; NaN targets are left out.

    `huber`: the error, in units of the spread, from which on the loss grows in proportion (Huber
    1964), for targets with outliers; 0: never. `mean` and `scale` (D,) are those of the training
    targets. Asks of the batch "targets" (B, D) and "weights" (B,).
    """

    asks = "numbers"
    chosen_by = "val_loss"
    output: str = "head"
    huber: float = 0.0
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def __post_init__(self):
        takes(self.huber >= 0, "huber=", "a number from 0 on", self.huber)

    @property
    def answers(self) -> str:
        """Numbers in their own units."""
        return f"numbers(mean={self.mean!r}, scale={self.scale!r})"

    def fitted(self, task: Any) -> "Regression":
        """With the mean and the standard deviation of the training targets."""
        targets = task.targets[task.splits["train"]].astype(np.float64)
        mean, scale = np.nanmean(targets, 0), np.nanstd(targets, 0)
        scale = np.where(scale > 0, scale, 1.0)
        return dataclasses.replace(self, mean=tuple(mean.tolist()), scale=tuple(scale.tolist()))

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """One term, `loss`."""
        outputs = net(batch["inputs"], self.output).astype(jnp.float32)
        return Loss({"loss": self._term(outputs, batch["targets"], batch["weights"])}, memory)

    def predict(self, net: Net, batch: Any, carry: Any) -> tuple[jax.Array, Any]:
        """The numbers (B, D), in their own units."""
        outputs = net(batch["inputs"], self.output, train=False).astype(jnp.float32)
        return answers.Numbers(mean=self.mean, scale=self.scale)(outputs), carry

    def score(self, predictions: jax.Array, batch: Any) -> dict[str, Term]:
        """Loss."""
        outputs = (predictions - jnp.asarray(self.mean)) / jnp.asarray(self.scale)
        return {"loss": self._term(outputs, batch["targets"], batch["weights"] * batch["real"])}

    def finish(self, predictions: Any, task: Any, examples: Any) -> dict[str, Any]:
        """Every metric of `metrics.of_numbers`, and what `score` says."""
        said = super().finish(predictions, task, examples)
        targets = task.targets[examples]
        return said | metrics.of_numbers(predictions, targets=targets, names=task.classes)

    def _term(self, outputs: jax.Array, targets: jax.Array, weights: jax.Array) -> Term:
        """The mean over examples of what their known numbers lose."""
        wanted = (targets - jnp.asarray(self.mean)) / jnp.asarray(self.scale)
        error = outputs - jnp.where(jnp.isnan(targets), outputs, wanted)
        losses = optax.huber_loss(error, delta=self.huber) if self.huber else error**2 / 2
        return over_known(losses, targets, weights)
