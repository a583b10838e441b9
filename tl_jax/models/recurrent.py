"""Recurrent networks for text: embedding, LSTM layers whose states are inputs, tied decoder."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax.chain.network import Network, chain
from tl_jax.chain.places import Layer, Tie


class Embed(nn.Module):
    """Look up the vectors of tokens: whole numbers (B, T) to (B, T, features)."""

    words: int
    features: int

    @nn.compact
    def __call__(self, tokens):
        small = nn.initializers.uniform(0.2)
        table = self.param("table", lambda *a: small(*a) - 0.1, (self.words, self.features))
        return table[tokens]


class LSTM(nn.Module):
    """Map (B, T, D) and a state to {"sequence": (B, T, features), "state": the next state}."""

    features: int

    @nn.compact
    def __call__(self, x, state):
        cells = nn.RNN(nn.OptimizedLSTMCell(self.features, name="cell"))
        state, sequence = cells(x, initial_carry=state, return_carry=True)
        return {"sequence": sequence, "state": state}

    def initial(self, rows: int) -> tuple[jax.Array, jax.Array]:
        """Return the state before the first token: zeros."""
        return (jnp.zeros((rows, self.features)),) * 2


class Sequence(nn.Module):
    """Select the sequence from an LSTM's output, and apply dropout."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, value):
        off = not self.has_rng("dropout")
        return nn.Dropout(self.dropout)(value["sequence"], deterministic=off)


class Decode(nn.Module):
    """Compute the logits of the next token: (B, T, D) to (B, T, words)."""

    words: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.words, name="dense")(x)


@dataclasses.dataclass(frozen=True)
class Transposed:
    """A tie's function: return the leaf `of`, transposed."""

    of: str

    def __call__(self, leaves: Mapping[str, Any]) -> Any:
        return leaves[self.of].T


def lstm(words: int, features: int, *, dropout: float = 0.0) -> Network:
    """Return two LSTM layers on tokens, with a decoder whose kernel is the embedding, transposed
    (Press & Wolf 2017, arXiv:1608.05859).
    """
    layers = (
        *chain("tokens", embed=Embed(words, features)),
        Layer("lstm1", LSTM(features), ("embed", "lstm1.state")),
        Layer("between", Sequence(dropout)),
        Layer("lstm2", LSTM(features), ("between", "lstm2.state")),
        Layer("dropped", Sequence(dropout)),
        Layer("decode", Decode(words)),
    )
    return Network(layers, (Tie("decode/dense/kernel", ("embed",), Transposed("embed/table")),))
