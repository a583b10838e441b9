"""What objectives of two domains share: a labelled source, and a target without labels."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from tl_jax import ops
from tl_jax.chain.network import Net, Network
from tl_jax.errors import UserError, takes, takes_types, unknown
from tl_jax.train.objective import Term
from tl_jax.train.objectives.common import jointly, read_by
from tl_jax.train.objectives.cross_entropy import Classification, entropy

if TYPE_CHECKING:
    from tl_jax.data.task import Task
    from tl_jax.train.problem import Problem

DOMAINS = ("source", "target")
STATISTICS = ("joint", "separate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adaptation(Classification):
    """Asks for two tasks of the same classes: "source" with inputs, "targets" (B, C) and "weights"
    (B,), and "target", of which it reads the inputs alone.

    Its features are what the layer `output` reads, (B, D), averaged over space or tokens. The last
    epoch is handed on, because any other choice would look at the target's labels.
    """

    judges = "target"
    chosen_by = "last"
    aligns = True  # whether what it adds acts through the features alone

    def __post_init__(self):
        takes_types(self)

    def feature(self, network: Network) -> str:
        """The place of the features that it aligns."""
        return read_by(network, self.output)

    def check(self, problem: "Problem") -> None:
        """UserError for other tasks, for other classes, and where nothing can be aligned."""
        name = type(self).__name__
        require_domains(name, problem.sources)
        for domain, task in problem.sources.items():
            if (count := len(task.splits["train"])) < 2 or problem.batch_size < 2:
                raise UserError(
                    f"{name} compares batches of two or more examples: the {domain} has {count} to "
                    f"train on, and batch_size is {problem.batch_size}"
                )
        place, trained = self.feature(problem.chain), set[str]()
        trained.update(*(phase.trained for phase in problem.plan.phases))
        if self.aligns and not problem.chain.below.get(place, {place}) & trained:
            raise UserError(
                f"{name} aligns the output of {place!r}, but no phase of the plan "
                f"{problem.plan.name!r} trains a layer that this depends on: train more than the "
                "head, as plan=full does"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BothDomains(Adaptation):
    """Cross entropy on the source, and what a subclass adds.

    `statistics`: in training, batch norms normalise the two batches side by side ("joint", one
    call) or each by itself ("separate", two calls, of which the target's comes last).
    """

    statistics: str = "joint"

    def __post_init__(self):
        super().__post_init__()
        if self.statistics not in STATISTICS:
            raise unknown("statistics", self.statistics, STATISTICS)

    def run(self, net: Net, batch: Any, wanted: Any, domains: Sequence[str] = DOMAINS) -> list[Any]:
        """What the network gives at `wanted` for these domains.

        With joint statistics both run whatever is asked for.
        """
        known = {name: batch[name]["inputs"] for name in DOMAINS}
        if self.statistics == "separate":
            return [net(known[name], wanted) for name in domains]
        found = dict(zip(DOMAINS, jointly(net, list(known.values()), wanted), strict=True))
        return [found[name] for name in domains]

    def seen(self, net: Net, batch: Any) -> list[tuple[jax.Array, jax.Array]]:
        """Features (B, D) and logits (B, C), in float32, of the source and of the target."""
        wanted = read_by(net.network, self.output), self.output
        return [(pooled(value), wide(logits)) for value, logits in self.run(net, batch, wanted)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weighted(BothDomains):
    """Cross entropy on the source, and `weight` times the term that a subclass adds."""

    weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        takes(self.weight >= 0, "weight=", "a number from 0 on", self.weight)


def supervised(logits: jax.Array, batch: Any) -> Term:
    """The source's cross entropy."""
    return entropy(logits, batch["source"]["targets"], batch["source"]["weights"])


def pooled(value: jax.Array) -> jax.Array:
    """The mean over space or tokens, in float32: (B, D)."""
    return wide(ops.mean_of_positions(value))


def wide(value: jax.Array) -> jax.Array:
    """In float32."""
    return value.astype(jnp.float32)


def entropies(logits: jax.Array) -> jax.Array:
    """The entropy (B,), in nats, of the predictions of logits (B, C)."""
    log_p = jax.nn.log_softmax(logits)
    return -(jnp.exp(log_p) * log_p).sum(-1)


def log_rest(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """log(1 - p) (B,) of the classes (B,), by logits (B, C), also where p rounds to 1."""
    rest = logits.at[jnp.arange(len(logits)), classes].set(-jnp.inf)
    return jax.nn.logsumexp(rest, -1) - jax.nn.logsumexp(logits, -1)


def require_domains(name: str, sources: Mapping[str, "Task"]) -> None:
    """UserError unless there are a source and a target, with the same classes."""
    if set(sources) != set(DOMAINS):
        raise UserError(
            f"{name} trains on two tasks, sources={{'source': ..., 'target': ...}}; got "
            f"{', '.join(sources) or 'none'}"
        )
    ours, theirs = (sources[domain].classes for domain in DOMAINS)
    if ours == theirs:
        return
    kinds = {(True, False): "partial", (False, True): "open-set", (True, True): "open-partial"}
    lacking, new = sorted({*ours} - {*theirs}), sorted({*theirs} - {*ours})
    kind = kinds.get((bool(lacking), bool(new)))
    what = f"is {kind} adaptation" if kind else "have the same classes in another order"
    said = [f"the target lacks {_some(lacking)}"] * bool(lacking)
    said += [f"the source lacks {_some(new)}"] * bool(new)
    raise UserError(
        f"{name} takes a source and a target with the same classes in the same order; "
        f"{' and '.join(said) or 'these'}{', which ' if kind else ' '}{what}"
    )


def _some(classes: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(classes) - 3} more" if len(classes) > 3 else ""
    return ", ".join(classes[:3]) + more
