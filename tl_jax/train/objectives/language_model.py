"""Language models, as Merity et al. 2017 train them (AWD-LSTM, arXiv:1708.02182)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.chain.network import Net
from tl_jax.chain.recurrent import first_states
from tl_jax.train.objective import Loss, Now, Objective, Term


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModel(Objective):
    """Cross entropy of the next token, with activation and temporal regularisation.

    Layers L that read a place "L.state" are recurrent: with a state there, a tree of (B, ...), they
    give {"sequence": (B, T, D), "state": the next}, and their module's `initial(B)` is the first
    state, zeros. States are this objective's memory; each epoch begins anew. `ar` times the mean
    square of the values at `dropped`, which the decoder reads, and `tar` times that of the last
    recurrent layer's steps from token to token are added. At `output` are logits (B, T, V).

    Asks for an ordered task: windows "tokens", next tokens "targets" and "weights", (B, T) each.
    """

    output: str = "decode"
    dropped: str = "dropped"
    ar: float = 0.0
    tar: float = 0.0
    coupled = True  # a row of a batch goes on with the state that this row's last window left
    lower = ("loss", "perplexity")

    def begin(self, net: Net, batch: Any) -> dict[str, Any]:
        """The states by place, before the first token."""
        return first_states(net.network, len(jax.tree.leaves(batch["inputs"])[0]))

    def refresh(self, fold: Any, memory: Any, epoch: int) -> Any:
        """The stream begins again."""
        return jax.tree.map(jnp.zeros_like, memory)

    def run(self, net: Net, batch: Any, states: Any, *more: str, **how: Any) -> tuple[Any, ...]:
        """The states after a batch, the last sequence, log-probabilities, values at `more`."""
        names = [name for name in net.network.names if f"{name}.state" in states]
        known = {**batch["inputs"], **states}
        wanted = *names, self.output, *more
        values = dict(zip(wanted, net(known, wanted, **how), strict=True))
        log_p = jax.nn.log_softmax(values[self.output].astype(jnp.float32))
        after = {f"{name}.state": values[name]["state"] for name in names}
        states = jax.tree.map(lambda new, old: new.astype(old.dtype), after, dict(states))
        return states, values[names[-1]]["sequence"], log_p, *(values[place] for place in more)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss`, and where they are asked for `ar` and `tar`."""
        memory, sequence, log_p, dropped = self.run(net, batch, memory, self.dropped)
        terms, steps = {"loss": nll(log_p, batch)}, jnp.diff(sequence, axis=1)
        terms |= {"ar": Term((dropped**2).sum(), dropped.size, self.ar)} if self.ar else {}
        terms |= {"tar": Term((steps**2).sum(), steps.size, self.tar)} if self.tar else {}
        return Loss(terms, memory)

    def predict(self, net: Net, batch: Any, carry: Any) -> tuple[jax.Array, Any]:
        """Log-probabilities (B, T, V) of the next token; the states go on."""
        carry, _, log_p = self.run(net, batch, carry or self.begin(net, batch), train=False)
        return log_p, carry

    def score(self, predictions: jax.Array, batch: Any) -> dict[str, Term]:
        """`loss`, in nats a token."""
        return {"loss": nll(predictions, batch, batch["real"][:, None])}

    def finish(self, predictions: Any, task: Any, examples: Any) -> dict[str, Any]:
        """`loss` and `perplexity`."""
        loss = super().finish(predictions, task, examples)["loss"]
        return {"loss": loss, "perplexity": float(np.exp(loss))}


def nll(log_p: jax.Array, batch: Any, real: Any = 1.0) -> Term:
    """The weighted mean of -log p of the targets (B, T)."""
    found, weights = jnp.take_along_axis(log_p, batch["targets"][..., None], -1), batch["weights"]
    return Term(-(found[..., 0] * weights * real).sum(), (weights * real).sum())
