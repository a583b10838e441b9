"""Distillation: a small network learns the answers of a large one beside the labels.

Hinton, Vinyals & Dean 2015, Distilling the Knowledge in a Neural Network (arXiv:1503.02531), 2.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tl_jax.chain.network import Net
from tl_jax.errors import UserError, takes, takes_type
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.cross_entropy import CrossEntropy

TRUTH = "teacher"  # the truth of a task that has the teacher's logits: (N, C)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distillation(CrossEntropy):
    """(1 - weight) times the cross entropy + weight * temperature^2 * KL(t || s).

    t and s, (B, C), are softmax(logits / temperature) of teacher and student. The factor
    temperature^2 keeps the gradient's size where the temperature changes. `teacher` is a finished
    run or a base file: it answers once for each example, as the image is without views, and these
    logits are a part of the truth. So it may be any network of the same classes, and costs a step
    nothing; random augmentation is refused, because it would change what the teacher saw. Without
    `teacher` the task must have its logits itself, `task.with_truth(teacher=...)`.
    """

    teacher: str = ""
    temperature: float = 4.0
    weight: float = 0.9

    def __post_init__(self):
        super().__post_init__()
        takes(isinstance(self.teacher, str), "distil: teacher", "a path", self.teacher)
        takes_type("distil: temperature", float, self.temperature)
        takes_type("distil: weight", float, self.weight)
        takes(self.temperature > 0, "distil: temperature", "a number above 0", self.temperature)
        takes(0 <= self.weight <= 1, "distil: weight", "a share from 0 to 1", self.weight)

    def augmented(self, augment: Any) -> Any:
        """Nothing: UserError for random augmentation."""
        if augment is not None:
            raise UserError(
                "distil: the teacher's answers are those to the images as they are: leave augment= "
                "empty"
            )

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss`, `distil`, and the terms of `also`."""
        if TRUTH not in batch:
            raise UserError("distil: whose answers? teacher='runs/large', a finished run or a base")
        own = net(batch["inputs"], self.output)
        taught, learnt = (
            jax.nn.log_softmax(z.astype(jnp.float32) / self.temperature)
            for z in (batch[TRUTH], own)
        )
        gaps, weights = optax.losses.kl_divergence(learnt, jnp.exp(taught)), batch["weights"]
        scale = self.weight * self.temperature**2
        whole = super().loss(net, batch, memory, now)
        terms = dict(whole.terms)
        terms["loss"] = terms["loss"]._replace(scale=1 - self.weight)
        terms["distil"] = Term((gaps * weights).sum(), weights.sum(), scale)
        return Loss(terms, memory)
