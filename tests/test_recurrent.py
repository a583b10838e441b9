"""The recurrence of an LSTM: its gradient by hand is that of the scan which it stands for; dropout
that is made weaker.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import ops
from tl_jax.chain.dropout import with_dropout
from tl_jax.errors import UserError
from tl_jax.models.awd_lstm import USUAL, Shape, language_model

STEPS, ROWS, FEATURES = 7, 3, 5


def plain(gates, kernel, first, real, cuts):
    """The definition, in steps that JAX differentiates."""

    def step(before, now):
        added, here, cut = now
        c, h = (jnp.where(cut, jax.lax.stop_gradient(s), s) for s in before)
        i, f, g, o = jnp.split(added + h @ kernel, 4, -1)
        new = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        out = jax.nn.sigmoid(o) * jnp.tanh(new)
        return (jnp.where(here, new, c), jnp.where(here, out, h)), jnp.where(here, out, 0)

    last, outputs = jax.lax.scan(step, first, (gates, real, cuts))
    return outputs, last


@pytest.mark.parametrize("bptt", [STEPS, 3, 1])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_values_and_gradients_are_those_of_the_scan(bptt, share):
    keys = jax.random.split(jax.random.key(bptt), 6)
    gates = jax.random.normal(keys[0], (STEPS, ROWS, 4 * FEATURES))
    kernel = jax.random.normal(keys[1], (FEATURES, 4 * FEATURES))
    first = tuple(jax.random.normal(key, (ROWS, FEATURES)) for key in keys[2:4])
    real = jax.random.bernoulli(keys[4], share, (STEPS, ROWS, 1))
    weights = jax.random.normal(keys[5], (STEPS, ROWS, FEATURES))
    cuts = jnp.arange(STEPS) % bptt == 0

    def loss(recurrence, *learnt):
        outputs, (c, h) = recurrence(*learnt, real, cuts)
        return (outputs * weights).sum() + (c**2).sum() + jnp.sin(h).sum(), outputs

    def of(recurrence):
        grad = jax.value_and_grad(loss, argnums=(1, 2, 3), has_aux=True)
        return jax.jit(grad, static_argnums=0)(recurrence, gates, kernel, first)

    def same(ours, theirs):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-6)

    jax.tree.map(same, of(ops.lstm), of(plain))


def test_all_rates_of_dropout_are_multiplied():
    whole = language_model(Shape(words=20, features=4, hidden=5, depth=2))
    half = with_dropout(whole, 0.5)
    rates = {layer.name: vars(layer.module) for layer in half.layers}
    assert rates["embed"]["dropout"] == USUAL.words / 2
    assert rates["lstm1"]["dropout"] == USUAL.input / 2
    assert rates["lstm2"]["weight_dropout"] == USUAL.weights / 2
    assert rates["dropped"]["dropout"] == USUAL.output / 2
    assert with_dropout(whole, 1.0) == whole
    with pytest.raises(UserError, match="drop_mult=5.0 makes a rate of dropout 1 or more"):
        with_dropout(whole, 5.0)
