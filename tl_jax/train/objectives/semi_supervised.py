"""What the semi-supervised objectives have in common: sources, views, a ramp and two terms."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tl_jax.chain.places import Known
from tl_jax.errors import takes, takes_types
from tl_jax.train.objective import Now, Term
from tl_jax.train.objectives.cross_entropy import Classification

Augment = Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemiSupervised(Classification):
    """Cross entropy of the source "labelled" and `weight` times a term of the source "unlabelled".

    The weight rises linearly from 0 over the first `ramp` of the phase; at 0 it is whole from the
    start. Asks for "labelled" with inputs, "targets" (B, C) and "weights" (B,), and "unlabelled",
    of which it reads the inputs alone, or the views of them that its augmentation makes. All go
    through the network in one pass, so batch statistics are common to them.
    """

    weight: float = 1.0
    ramp: float = 0.4
    unlabelled = True
    judges = "labelled"

    def __post_init__(self):
        takes_types(self)
        takes(self.weight >= 0, "weight=", "a number from 0 on", self.weight)
        takes(0 <= self.ramp <= 1, "ramp=", "a share of the phase from 0 to 1", self.ramp)

    def scale(self, now: Now) -> Any:
        """The weight at this step."""
        return self.weight * (jnp.minimum(1.0, now.progress / self.ramp) if self.ramp else 1.0)


@dataclasses.dataclass(frozen=True)
class Views:
    """An augmentation of both sources: of "labelled" by `labelled`, and of "unlabelled" into views
    by name, beside its inputs. None leaves inputs as they are.
    """

    labelled: Augment | None
    views: tuple[tuple[str, Augment | None], ...]

    def __call__(self, key: jax.Array, batches: Any) -> Any:
        own, *keys = jax.random.split(key, 1 + len(self.views))
        labelled, free = batches["labelled"], batches["unlabelled"]
        made = {
            name: of(drawn, free)["inputs"] if of else free["inputs"]
            for drawn, (name, of) in zip(keys, self.views, strict=True)
        }
        labelled = self.labelled(own, labelled) if self.labelled else labelled
        return {**batches, "labelled": labelled, "unlabelled": {**free, **made}}


def twice(augment: Augment | None) -> Views | None:
    """Return the augmentation of labelled inputs, and of unlabelled ones into views "a" and "b"."""
    return Views(augment, (("a", augment), ("b", augment))) if augment else None


def view(batch: Any, name: str) -> Known:
    """Return a view of the unlabelled inputs: the inputs themselves where nothing is augmented."""
    return batch["unlabelled"].get(name, batch["unlabelled"]["inputs"])


def consistency(logits: jax.Array, others: jax.Array, scale: Any) -> Term:
    """The mean over examples and classes of the squared gap of probabilities; logits (B, C) both.

    The sum over classes, as some have it, is C times as much.
    """
    p, q = (jax.nn.softmax(z.astype(jnp.float32)) for z in (logits, others))
    return Term(((p - q) ** 2).sum(), p.size, scale)


def pseudo_labelled(
    logits: jax.Array, judged: jax.Array, threshold: Any, scale: Any
) -> tuple[Term, Term]:
    """Return the cross entropy of `logits` to the likeliest class of `judged`, both (B, C), where
    that is sure, and the share of the examples where it is.

    Sure is a probability of `threshold`, a number or one by class (C,), and more. The mean is over
    all B examples: those that are not sure count as 0.
    """
    p = jax.nn.softmax(jax.lax.stop_gradient(judged).astype(jnp.float32))
    label = p.argmax(1)
    sure = p.max(1) >= jnp.broadcast_to(threshold, p.shape[1:])[label]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), label)
    return Term((losses * sure).sum(), len(p), scale), Term(sure.sum(), len(p))
