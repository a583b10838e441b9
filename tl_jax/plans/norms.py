"""What the batch norms of trained layers do: the choices of a phase's setting `batch_norm`."""

from typing import NamedTuple

from tl_jax import registry
from tl_jax.errors import takes, takes_type


class Norms(NamedTuple):
    """How batch norms of trained layers normalise, and what becomes of their running statistics."""

    by_batch: bool = False  # by the batch, whose statistics move the running ones
    running: float = 0.0  # the probability that a channel is normalised by the running ones even so
    anew: bool = False  # the running statistics are first estimated anew, on the training examples


def frozen() -> Norms:
    """Normalise by the running statistics, which stay as they are."""
    return Norms()


def batch() -> Norms:
    """Normalise by the batch (Ioffe & Szegedy 2015, arXiv:1502.03167)."""
    return Norms(by_batch=True)


def recalibrate() -> Norms:
    """Normalise by running statistics of the task (AdaBN; Li et al. 2018)."""
    return Norms(anew=True)


def stochastic(*, p: float = 0.5) -> Norms:
    """StochNorm (Kou et al. 2020, Stochastic Normalization, NeurIPS): in each step a channel is
    normalised by the running statistics with probability `p`, and else by the batch.

    `p` 0 is "batch". The authors' code counts the other way: its p is the batch's probability.
    """
    takes_type("batch_norm: p=", float, p)
    takes(0 <= p <= 1, "batch_norm: p=", "a probability, from 0 to 1", p)
    return Norms(by_batch=True, running=float(p))


NORMS = {f.__name__: f for f in (frozen, batch, recalibrate, stochastic)}


def make(spec: str) -> Norms:
    """Return what `spec` says, "batch" or "stochastic(p=0.3)"; UserError for anything else."""
    function, options = registry.chosen("batch_norm", spec, NORMS)
    return function(**options)
