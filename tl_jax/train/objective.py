"""What a step minimises: an objective turns a batch into terms, and predictions into scores."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax.chain.heads import is_head
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Layer
from tl_jax.data.augment import OfSources

if TYPE_CHECKING:
    from tl_jax.train.problem import Problem


class Term(NamedTuple):
    """A weighted mean over a batch: `scale * sum / weight` is minimised, `sum / weight` logged."""

    sum: Any
    weight: Any = 1.0
    scale: Any = 1.0


class Loss(NamedTuple):
    """What `Objective.loss` gives."""

    terms: Mapping[str, Term]
    memory: Any = ()  # for the next step; no gradient flows through it
    logs: Mapping[str, Term] = {}  # only logged


class Now(NamedTuple):
    """The moment of a step."""

    key: jax.Array  # this turn's own
    progress: Any  # share of the phase that is done, in [0, 1)
    turn: str
    steps: Any = 1  # of the phase


class Turn(NamedTuple):
    """One of the updates of a step: of the trained layers `only` these, or all but `never`.

    The name of a head stands for all its layers.
    """

    name: str = "all"
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()

    def trains(self, layer: str) -> bool:
        """Whether this update moves the layer."""
        only, never = (any(is_head(layer, n) for n in names) for names in (self.only, self.never))
        return (not self.only or only) and not never


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """What a step minimises. Frozen and hashable: part of what a program is compiled for.

    The hooks below are class attributes and no fields: a method of a subclass would be hidden by
    the inherited default.
    """

    turns = (Turn(),)  # updates in one step; each moves its own layers
    # now -> rate: average += rate * (weights - average)
    average: ClassVar[Callable[[Now], Any] | None] = None
    # (gradients by term, values by term, memory, now) -> gradient, memory
    resolve: ClassVar[Callable[..., tuple[Any, Any]] | None] = None
    # (fold, memory, epoch) -> memory, before each epoch of the phase, numbered from 0;
    # fold(each, total) makes one pass over the training examples in view 0 and inference mode:
    # each(net, batch, total) -> total
    refresh: ClassVar[Callable[[Callable, Any, int], Any] | None] = None
    evaluates = "trained"  # or "average": what is evaluated, chosen and handed on
    chosen_by = "val_loss"  # the column of an epoch's row by which the best epoch is chosen
    lower = ("loss",)  # metrics of which less is better; of all others more is
    coupled = False  # whether an example's loss depends on the others of its batch
    judges = ""  # of several sources, the one whose val and test splits are scored
    # whether it learns from examples without labels too: from the sources "labelled", which judges
    # it, and "unlabelled"
    unlabelled = False
    source_head = False  # whether it asks for the place `SOURCE_HEAD`: the base's old classifier
    keeps_head = False  # whether it goes on with the base's own classifier: the setting head=kept
    tails_alone = False  # whether its tails learn where the head learns alone: they are heads too
    teacher = ""  # path of a base whose logits it asks for, as the truth `teacher`
    encoder = ""  # base of texts whose vectors of captions it asks for, at the place `texts`
    head = ""  # the kind of head that it trains (`tl_jax.chain.detectors`); empty: the setting's
    proposals = ""  # how its input "proposals" is found (`tl_jax.data.proposals`); empty: none
    asks = "classes"  # what its task asks of an example (`Task.asks`)
    answers = "classes"  # what its head's outputs say (`tl_jax.chain.answers`); may be a property

    def fitted(self, task: Any) -> "Objective":
        """The objective for this task, whose training examples it may look at."""
        return self

    def framed(self, side: int) -> "Objective":
        """The objective for images that are prepared as squares of so many pixels a side."""
        return self

    def settled(self, predictions: Any, task: Any, examples: Any) -> "Objective":
        """The objective with what is chosen by the predictions for val, such as thresholds."""
        return self

    def check(self, problem: "Problem") -> None:
        """UserError for a problem that it cannot be the objective of; all are well by default."""

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """The layers that it adds after those of `network`, which ends with the head, or with the
        features of an objective without labels; none.

        They say what they read, and learn at the head's rate where more than the head learns, or,
        with `tails_alone`, wherever the head does.
        """
        return ()

    def augmented(self, augment: Callable[[Any, Any], Any] | None) -> Callable | None:
        """What a phase's augmentation (key, batch) -> batch becomes in its steps.

        The default augments each of several sources.
        """
        return OfSources(augment) if augment is not None and self.judges else augment

    def begin(self, net: Net, batch: Any) -> Any:
        """The first memory: arrays that go from step to step."""
        return ()

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The terms of a batch."""
        raise NotImplementedError

    def predict(self, net: Net, batch: Any, carry: Any) -> tuple[Any, Any]:
        """Predictions (B, ...) of a batch of one source, and what the next batch of a stream needs.

        `carry` is () at the first batch. Predictions depend on the variables alone, never on the
        memory of training: a base file is enough.
        """
        raise NotImplementedError

    def probabilities(self, predictions: Any) -> Any:
        """Of predictions the class probabilities (n, C) of the task, for a run's page: all."""
        return predictions

    def brief(self) -> "Objective":
        """The objective by which epochs are scored, whose predictions may lack what `score` does
        not read; itself.
        """
        return self

    def score(self, predictions: Any, batch: Any) -> dict[str, Term]:
        """Weighted sums by metric; `batch["real"]` (B,) is 0 for rows that only pad."""
        raise NotImplementedError

    def watch(self, predicted: Callable[[Any], Any], task: Any) -> dict[str, float]:
        """More columns of an epoch's row, which choose nothing; on the host.

        `predicted(examples)` gives the predictions (n, ...) for examples (n,) of the task that
        judges. The default watches nothing.
        """
        return {}

    def finish(self, predictions: Any, task: Any, examples: Any) -> dict[str, Any]:
        """What a result says of all predictions for the task's `examples`; on the host.

        For metrics that are no means, such as AUC. The default says what `score` does.
        """
        truth = {name: array[examples] for name, array in task.truth.items()}
        batch = {**truth, "real": jnp.ones(len(examples))}
        return {name: float(mean(term)) for name, term in self.score(predictions, batch).items()}


def mean(term: Term) -> jax.Array:
    """sum / weight; 0, with gradients of 0, where the weight is 0."""
    none = term.weight == 0
    return jnp.where(none, 0.0, term.sum) / jnp.where(none, 1.0, term.weight)


def better(objective: Objective, metric: str) -> str:
    """ "min" or "max": which way a column of an epoch's row is better."""
    name = metric.removeprefix("val_").removeprefix("train_")
    return "min" if name in objective.lower or metric.startswith("train_") else "max"
