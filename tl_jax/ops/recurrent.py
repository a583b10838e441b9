"""The recurrence of an LSTM, with a gradient by hand.

Automatic differentiation of a scan adds to the gradient of the recurrent kernel in each step, which
reads and writes all of it. Here a step's backward pass gives the gradients of its gates alone, and
that of the kernel is one product over all steps at the end.
"""

from typing import Any

import jax
import jax.numpy as jnp

State = tuple[jax.Array, jax.Array]  # cells and outputs (B, D)


@jax.custom_vjp
def lstm(
    gates: jax.Array, kernel: jax.Array, first: State, real: jax.Array, cuts: jax.Array
) -> tuple[jax.Array, State]:
    """Return the outputs (T, B, D) of an LSTM, and its last state (Hochreiter & Schmidhuber 1997).

    gates: what the inputs contribute to i, f, g, o, (T, B, 4 D); kernel: from output to gates,
    (D, 4 D); real: bool (T, B, 1), where False the state stays and the output is 0; cuts: bool
    (T,), the steps into which no gradient flows back.
    """
    return _forward(gates, kernel, first, real, cuts)[0]


def _forward(gates, kernel, first, real, cuts):
    def step(before, now):
        added, here = now
        active = _activated(added + before[1] @ kernel)
        i, f, g, o = jnp.split(active, 4, -1)
        c = f * before[0] + i * g
        h = o * jnp.tanh(c)
        after = jnp.where(here, c, before[0]), jnp.where(here, h, before[1])
        return after, (active, *after)

    last, (active, *states) = jax.lax.scan(step, first, (gates, real))
    outputs = jnp.where(real, states[1], 0)
    return (outputs, last), (kernel, active, first, states, real, cuts)


def _activated(gates: jax.Array) -> jax.Array:
    """Return sigmoid(i), sigmoid(f), tanh(g), sigmoid(o), side by side."""
    is_g = jnp.arange(gates.shape[-1]) // (gates.shape[-1] // 4) == 2
    half = jnp.where(is_g, 1.0, 0.5).astype(gates.dtype)  # sigmoid(x) = (1 + tanh(x / 2)) / 2
    return half * jnp.tanh(half * gates) + (1 - half)


def _backward(saved: Any, gradients: Any):
    kernel, active, first, states, real, cuts = saved
    before = [jnp.concatenate([a[None], b[:-1]]) for a, b in zip(first, states, strict=True)]
    i, f, g, o = jnp.split(active, 4, -1)
    tanh = jnp.tanh(states[0])
    # Factors that no later step changes: of d_c and d_h in the gradients of gates and cells
    by_gate = g * i * (1 - i), before[0] * f * (1 - f), i * (1 - g**2), tanh * o * (1 - o)
    to_gates, to_cells = jnp.concatenate(by_gate, -1), o * (1 - tanh**2)
    # Otherwise XLA's CPU backend transposes it in each step, which triples the time.
    transposed = jax.lax.optimization_barrier(kernel.T)

    def step(later, now):
        added, to_gates, to_cells, f, here, cut = now
        d_h = jnp.where(here, later[1] + added, 0)
        d_c = jnp.where(here, later[0], 0) + d_h * to_cells
        d_gates = jnp.concatenate((d_c, d_c, d_c, d_h), -1) * to_gates
        earlier = d_c * f, d_gates @ transposed
        kept = (new + jnp.where(here, 0, d) for new, d in zip(earlier, later, strict=True))
        return tuple(jnp.where(cut, 0, d) for d in kept), d_gates

    d_outputs, d_last = gradients
    steps = d_outputs, to_gates, to_cells, f, real, cuts
    d_first, d_gates = jax.lax.scan(step, d_last, steps, reverse=True)
    d_kernel = jnp.einsum("tbd,tbg->dg", before[1], d_gates)
    return d_gates, d_kernel, d_first, None, None


lstm.defvjp(_forward, _backward)
