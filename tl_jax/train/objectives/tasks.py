"""Several classifications at once: a trunk that all share, and a head for each.

Caruana 1997, Multitask Learning (Machine Learning 28, 41-75).
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Layer
from tl_jax.errors import UserError, takes, takes_whole, unknown
from tl_jax.train.objective import Loss, Now, Objective, Term
from tl_jax.train.objectives.cross_entropy import TRUTH, Classification, entropy

if TYPE_CHECKING:
    from tl_jax.train.problem import Problem

TAKEN = ("mean", "weighted")  # NAME_accuracy has another meaning with these


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tasks(Classification):
    """The weighted sum of the cross entropies of the task's own classes and of `others`.

    `others`: name and number of classes of each further truth (`tl_jax.data.truths`), which is a
    place with logits (B, C), and rows (B, C) of the batch. `weights` (T,), the own task's first,
    count relative to the mean of those above 0; empty: all 1.
    """

    others: tuple[tuple[str, int], ...]
    weights: tuple[float, ...] = ()
    chosen_by = "val_mean_accuracy"
    tails_alone = True

    def __post_init__(self):
        pairs = isinstance(self.others, tuple) and all(
            isinstance(other, tuple) and [type(part) for part in other] == [str, int]
            for other in self.others
        )
        takes(pairs, "others=", "pairs of a truth's name and its number of classes", self.others)
        for name, classes in self.others:
            takes_whole(classes, f"others=: the classes of {name!r}", 2, 1_000_000)
        names = [*self.places, *TAKEN]
        takes(len(set(names)) == len(names), "others=", f"different names, none of them "
              f"{' or '.join(TAKEN)}", self.others)  # fmt: skip
        given = isinstance(self.weights, tuple) and all(
            isinstance(weight, int | float) and weight >= 0 for weight in self.weights
        )
        fits = given and len(self.weights) in (0, len(self.places))
        takes(
            fits and (not self.weights or sum(self.weights) > 0),
            "weights=",
            f"a number from 0 on for each of the tasks {', '.join(self.places)}, and one above 0",
            self.weights,
        )

    def check(self, problem: "Problem") -> None:
        """UserError for a truth with another number of classes."""
        for name, classes in self.others:
            rows = problem.task.truth.get(name)
            if rows is not None and rows.shape[1:] != (classes,):
                raise UserError(
                    f"others= says {classes} classes of {name!r}, and the task has "
                    f"{rows.shape[1:]}: say as many"
                )

    @property
    def places(self) -> tuple[str, ...]:
        """The places of the T tasks' logits, which are their names; the own task's comes first."""
        return (self.output, *(name for name, _ in self.others))

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """A head for each of the others, which reads what the network's own head reads."""
        own: Any = network.layers[network.index(self.output)]
        dropout = own.module.dropout
        return tuple(Layer(name, Classifier(c, dropout), own.places) for name, c in self.others)

    def begin(self, net: Net, batch: Any) -> dict[str, jax.Array]:
        """The weights (T,): in memory, so that one program serves all of them."""
        weights = jnp.asarray(self.weights or (1.0,) * len(self.places), jnp.float32)
        return {"weights": weights / weights.sum() * (weights > 0).sum()}

    def terms(self, net: Net, batch: Any) -> dict[str, Term]:
        """The cross entropy of each task, by its place."""
        found = {}
        for place, logits in zip(self.places, net(batch["inputs"], self.places), strict=True):
            rows = self.rows(batch, place)
            found[place] = entropy(logits, rows, jnp.ones(len(rows)))._replace(weight=rows.sum())
        return found

    def rows(self, batch: Mapping[str, Any], place: str) -> jax.Array:
        """A task's targets times their weights (B, C): zeros where an example has no label."""
        if place == self.output:
            return batch["targets"] * batch["weights"][:, None]
        if place not in batch:
            raise unknown("truth", place, set(batch) - {*TRUTH, "inputs", "real", "number"})
        return batch[place]

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """A term a task, by its place."""
        pairs = zip(self.terms(net, batch).items(), memory["weights"], strict=True)
        return Loss({place: term._replace(scale=w) for (place, term), w in pairs}, memory)

    def predict(self, net: Net, batch: Any, carry: Any) -> tuple[dict[str, jax.Array], Any]:
        """Class probabilities (B, C) by place."""
        logits = net(batch["inputs"], self.places, train=False)
        found = (jax.nn.softmax(z.astype(jnp.float32)) for z in logits)
        return dict(zip(self.places, found, strict=True)), carry

    def probabilities(self, predictions: Any) -> Any:
        """Those of the own task (n, C)."""
        return predictions[self.output]

    def score(self, predictions: Any, batch: Any) -> dict[str, Term]:
        """The own task's scores, and each other's `NAME_accuracy`, of examples that have a label;
        and `mean_accuracy`, over all labels of all tasks.
        """
        found, every = super().score(predictions[self.output], batch), []
        for name in self.places:
            rows = self.rows(batch, name)
            labelled = batch["real"] * (rows.sum(-1) > 0)
            right = (predictions[name].argmax(-1) == rows.argmax(-1)) * labelled
            every.append(Term(right.sum(), labelled.sum()))
            found["accuracy" if name == self.output else f"{name}_accuracy"] = every[-1]
        total, labels = sum(t.sum for t in every), sum(t.weight for t in every)
        return found | {"mean_accuracy": Term(total, labels)}

    def finish(self, predictions: Any, task: Any, examples: Any) -> dict[str, Any]:
        """Every metric of the own task, of examples that have a label, and what `score` says of the
        others.
        """
        labelled = task.weights[examples] > 0
        own = super().finish(predictions[self.output][labelled], task, examples[labelled])
        return Objective.finish(self, predictions, task, examples) | own
