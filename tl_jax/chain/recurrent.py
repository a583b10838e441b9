"""Layers of recurrent networks for texts: embedding, LSTM, QRNN, tied decoder.

Values are arrays (B, T, D), T steps of B examples. Padding is steps of zeros, wherever they are: a
recurrent layer's state does not move there, and its output is 0.

A recurrent layer L begins with the state at the place "L.state", where `Start` puts none: then
every example begins with zeros. An objective that carries states from batch to batch hands them in
at that place, and gets {"sequence": (B, T, D), "state": the next state} from L instead of an array.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax import ops
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer

_ALMOST_ZERO = 1e-30


def sequence(value: Any) -> jax.Array:
    """Return the array (B, T, D) that a recurrent or another layer gave."""
    return value["sequence"] if isinstance(value, Mapping) else value


def _dropped(module: nn.Module, x: jax.Array, rate: float, *same: int) -> jax.Array:
    """Apply dropout to `x` with one mask along the axes `same`."""
    return nn.Dropout(rate, broadcast_dims=same)(x, deterministic=not module.has_rng("dropout"))


def _within(limit: float) -> Callable[..., jax.Array]:
    """Return an initialiser that is uniform from -limit to limit."""
    return lambda key, shape: jax.random.uniform(key, shape, minval=-limit, maxval=limit)


class Embed(nn.Module):
    """Look up the vectors of tokens: whole numbers (B, T) to (B, T, features); zeros for `pad`.

    `dropout` leaves out whole words of the vocabulary, wherever they stand in the batch (Gal &
    Ghahramani 2016, arXiv:1512.05287).
    """

    words: int
    features: int
    pad: int | None = None
    dropout: float = 0.0

    @nn.compact
    def __call__(self, tokens):
        table = self.param("table", _within(0.1), (self.words, self.features))
        kept = _dropped(self, jnp.ones((self.words, 1), table.dtype), self.dropout)[tokens]
        # A word that is left out is no padding, which is 0.
        vectors = jnp.where(kept > 0, jnp.take(table, tokens, axis=0) * kept, _ALMOST_ZERO)
        return vectors if self.pad is None else jnp.where(tokens[..., None] == self.pad, 0, vectors)


class Start(nn.Module):
    """Give no state to the recurrent layer that reads it."""

    def __call__(self):
        return ()


class LSTM(nn.Module):
    """LSTM (Hochreiter & Schmidhuber 1997): (B, T, D) to (B, T, features).

    Dropout as in AWD-LSTM (Merity et al. 2017, arXiv:1708.02182): of the input's features, and of
    the weights from state to state, each with one mask for all steps. With `bptt`, no gradient
    flows back across the steps bptt, 2 bptt, ...
    """

    features: int
    dropout: float = 0.0
    weight_dropout: float = 0.0
    bptt: int = 0

    @nn.compact
    def __call__(self, x, state=()):
        x, n = sequence(x), self.features
        mask, cuts = ops.is_real(x), jnp.arange(x.shape[1]) % (self.bptt or x.shape[1]) == 0
        kernel = self.param("recurrent_kernel", _within(n**-0.5), (n, 4 * n))
        kernel = _dropped(self, kernel, self.weight_dropout)
        gates = nn.Dense(4 * n, name="input")(_dropped(self, x, self.dropout, 1))

        outputs, after = ops.lstm(
            gates.swapaxes(0, 1), kernel, _first(self, x, state), mask.T[..., None], cuts
        )
        return _value(outputs.swapaxes(0, 1), state, after)

    def initial(self, rows: int) -> tuple[jax.Array, jax.Array]:
        """Return the state before the first token: zeros."""
        return (jnp.zeros((rows, self.features)),) * 2


class QRNN(nn.Module):
    """Quasi-recurrent layer with fo-pooling (Bradbury et al. 2016, arXiv:1611.01576): (B, T, D) to
    (B, T, features).

    z, f, o = tanh, sigmoid, sigmoid of a causal convolution over `window` steps, 1 or 2;
    c_t = f c_{t-1} + (1 - f) z, and the output is o c_t. The recurrence is linear, so it runs as an
    associative scan. `weight_dropout` is of the convolution's weights, as in fastai.
    """

    features: int
    dropout: float = 0.0
    weight_dropout: float = 0.0
    window: int = 1

    @nn.compact
    def __call__(self, x, state=()):
        x = sequence(x)
        mask = ops.is_real(x)
        steps = jnp.where(mask, jnp.arange(1, x.shape[1] + 1), 0)
        latest = jax.lax.cummax(steps, axis=1)[..., None]  # 1 + the last real step so far, or 0
        x = _dropped(self, x, self.dropout, 1)
        c, before = _first(self, x, state)
        gates = self._conv("input", x, bias=True)
        if self.window == 2:
            earlier = jnp.concatenate([before[:, None], self._conv("earlier", x)], 1)
            begin = jnp.zeros_like(latest[:, :1])
            gates += jnp.take_along_axis(
                earlier, jnp.concatenate([begin, latest[:, :-1]], 1), axis=1
            )
            before = jnp.take_along_axis(earlier, latest[:, -1:], axis=1)[:, 0]
        z, f, o = jnp.split(gates, 3, -1)
        f = jnp.where(mask[..., None], jax.nn.sigmoid(f), 1)
        kept, added = jax.lax.associative_scan(
            lambda left, right: (left[0] * right[0], left[1] * right[0] + right[1]),
            (f, (1 - f) * jnp.tanh(z)),
            axis=1,
        )
        cells = kept * c[:, None] + added
        outputs = jnp.where(mask[..., None], jax.nn.sigmoid(o) * cells, 0)
        return _value(outputs, state, (cells[:, -1], before))

    def _conv(self, name: str, x: jax.Array, *, bias: bool = False) -> jax.Array:
        """Return the part of the convolution that one step of its window contributes."""
        limit, shape = x.shape[-1] ** -0.5, (x.shape[-1], 3 * self.features)
        kernel = self.param(f"{name}_kernel", _within(limit), shape)
        y = x @ _dropped(self, kernel, self.weight_dropout)
        return y + self.param("bias", nn.initializers.zeros, shape[1:]) if bias else y

    def initial(self, rows: int) -> tuple[jax.Array, jax.Array]:
        """Return the state before the first token, zeros: cells, and the last step's share in the
        next one's gates.
        """
        return jnp.zeros((rows, self.features)), jnp.zeros((rows, 3 * self.features))


def _first(module: Any, x: jax.Array, state: Any) -> Any:
    """Return the state that the layer begins with, in the precision of `x`."""
    return jax.tree.map(lambda s: s.astype(x.dtype), state or module.initial(len(x)))


def _value(outputs: jax.Array, state: Any, after: Any) -> Any:
    """Return what a recurrent layer gives: its state only if it was handed one."""
    return {"sequence": outputs, "state": after} if state else outputs


class Dropped(nn.Module):
    """Dropout of features, with one mask for all steps: what the decoder reads."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, value):
        return _dropped(self, sequence(value), self.dropout, 1)


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


def first_states(network: Network, rows: int) -> dict[str, Any]:
    """Return the states of so many examples before the first step, by place."""
    return {
        place: module.initial(rows)
        for name, module, reads in network.layers
        if (place := f"{name}.state") in (reads or ())
    }


def recurrent(name: str, module: nn.Module, below: str) -> tuple[Layer, Layer]:
    """Return the recurrent layer `name`, which reads `below`, after the layer of its state."""
    return Layer(f"{name}.state", Start(), ()), Layer(name, module, (below, f"{name}.state"))
