import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.plans.plan import Phase, Settings
from tl_jax.train import optim

SHAPES = {"kernel": (4, 3), "bias": (3,), "scale": (5,)}
RATES = {"stem": 0.0, "low": 0.1, "high": 0.25, "head": 1.0}
TRAINED = ("low", "high", "head")
STEPS = 5


def phase(rates=RATES, **settings) -> Phase:
    return Phase("tune", rates, Settings(**{"schedule": "cosine", "weight_decay": 0.1} | settings))


def random(seed, layers=TRAINED, size=1.0):
    """{layer: {kernel, bias, scale}} float32."""
    rng = np.random.default_rng(seed)
    return {
        n: {k: (size * rng.normal(size=SHAPES[k])).astype(np.float32) for k in sorted(SHAPES)}
        for n in sorted(layers)  # as jax.jit gives them back
    }


def trained(of: Phase, params, *, total=STEPS, size=1.0):
    """Parameters and state after STEPS steps with random gradients."""
    optimizer = optim.transformation(of, total)
    state = optimizer.init(params)
    step = jax.jit(optimizer.update)
    for i in range(STEPS):
        updates, state = step(random(100 + i, params, size), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def by_hand(of: Phase, p, *, total=STEPS, size=1.0):
    """The same in float64: Loshchilov & Hutter 2019 (arXiv:1711.05101), algorithm 2, with the
    decay scaled by the learning rate; Nesterov momentum as in Sutskever et al. 2013, eq. 3 to 4,
    in the form of optax.trace.
    """
    settings, p = of.settings, jax.tree.map(np.float64, p)
    m = v = jax.tree.map(np.zeros_like, p)
    for i in range(STEPS):
        g = jax.tree.map(np.float64, random(100 + i, p, size))
        norm = np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(g)))
        g = jax.tree.map(lambda x, n=norm: x * min(1, settings.clip / n), g)
        if settings.optimizer == "adamw":
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
            v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, g)
            unbias = 1 - 0.9 ** (i + 1), 1 - 0.999 ** (i + 1)
            d = jax.tree.map(lambda m, v, u=unbias: (m / u[0]) / (np.sqrt(v / u[1]) + 1e-8), m, v)
        else:
            m = jax.tree.map(lambda m, g: g + 0.9 * m, m, g)
            d = jax.tree.map(lambda m, g: g + 0.9 * m, m, g)
        rate = settings.learning_rate * (1 + np.cos(np.pi * i / total)) / 2
        for name, leaves in p.items():
            for k in leaves:
                decay = settings.weight_decay * leaves[k] if k == "kernel" else 0
                leaves[k] = leaves[k] - rate * of.multipliers[name] * (d[name][k] + decay)
    return p


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("size", [0.01, 3.0])  # the norm over all layers is below and above `clip`
def test_updates_are_those_of_the_papers(optimizer, size):
    of, params = phase(optimizer=optimizer, learning_rate=0.1, clip=1.0), random(0)
    wanted = by_hand(of, params, size=size)
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5),
        trained(of, params, size=size)[0],
        wanted,
    )


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_multiplier_scales_updates_exactly(optimizer):
    params, gradients = random(0), random(1)
    gradients["low"] = gradients["high"] = gradients["head"]
    params["low"] = params["high"] = params["head"]
    for rate in (0.25, 2**-5):  # powers of two: no rounding
        scaled = optim.transformation(phase(RATES | {"high": rate}, optimizer=optimizer), 1)
        updates, _ = jax.jit(scaled.update)(gradients, scaled.init(params), params)
        for leaf in SHAPES:
            np.testing.assert_array_equal(updates["high"][leaf], rate * updates["head"][leaf])
            np.testing.assert_allclose(updates["low"][leaf], 0.1 * updates["head"][leaf], rtol=1e-6)


def test_decay_is_of_kernels_only():
    params = random(0)
    optimizer = optim.transformation(phase(learning_rate=0.5, weight_decay=0.1), 1)
    still = jax.tree.map(np.zeros_like, params)
    updates, _ = optimizer.update(still, optimizer.init(params), params)
    for name in TRAINED:
        wanted = -0.5 * RATES[name] * 0.1 * params[name]["kernel"]
        np.testing.assert_allclose(updates[name]["kernel"], wanted, rtol=1e-6)
        assert not updates[name]["bias"].any() and not updates[name]["scale"].any()


def test_without_clipping_gradients_go_through():
    of, params = phase(optimizer="sgd", clip=0.0, weight_decay=0.0, learning_rate=1.0), random(0)
    optimizer = optim.transformation(of, 1)
    gradients = random(1, size=1e3)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    # The first Nesterov step is 1.9 times the gradient.
    wanted = -1.9 * gradients["head"]["kernel"]
    np.testing.assert_allclose(updates["head"]["kernel"], wanted, rtol=1e-5)


def test_the_state_is_of_trained_layers_only():
    state = optim.transformation(phase(), STEPS).init(random(0))
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert not any("stem" in path for path in paths)
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(state))
    moments = 2 * sum(np.size(leaf) for leaf in jax.tree.leaves(random(0)))
    assert size == moments + len(TRAINED) + 1  # a count for each layer and the schedule's


@pytest.mark.parametrize("total", [4, 10, 1000])
def test_schedules_begin_and_end_where_they_should(total):
    def rates(name):
        rate = optim.schedule(Settings(schedule=name, learning_rate=0.5), total)
        return np.array([rate(i) for i in (0, total // 2, total)])

    np.testing.assert_allclose(rates("constant"), 0.5)
    np.testing.assert_allclose(rates("cosine"), [0.5, 0.25, 0], atol=1e-7)  # SGDR, eq. 5
    # torch.optim.lr_scheduler.OneCycleLR's defaults: from 1/25 up, and down to 1e-4 of that.
    first, _, last = rates("one_cycle")
    np.testing.assert_allclose([first, last], [0.5 / 25, 0.5 / 25e4], rtol=1e-3, atol=1e-7)
    cycle = optim.schedule(Settings(schedule="one_cycle", learning_rate=0.5), total)
    assert cycle(int(0.3 * total)) == pytest.approx(0.5)


@given(total=st.integers(1, 300), name=st.sampled_from(["constant", "cosine", "one_cycle"]))
def test_every_step_has_a_rate_between_zero_and_the_peak(total, name):
    rate = optim.schedule(Settings(schedule=name, learning_rate=0.5), total)
    rates = [float(rate(i)) for i in {0, total // 3, total - 1}]
    assert all(0 < r <= 0.5 + 1e-6 for r in rates)


def layers(state):
    """{layer: leaves} of an optimizer's state."""
    return {name: jax.tree.leaves(own) for name, own in state[1].inner_states.items()}


def test_a_new_phase_keeps_the_moments_of_what_was_already_training():
    params = random(0)
    head = phase(dict.fromkeys(RATES, 0.0) | {"head": 1.0})
    _, old = trained(head, {"head": params["head"]})
    fresh = optim.transformation(phase(), STEPS).init(params)
    new = optim.carry_over(old, fresh)
    for got, kept in zip(layers(new)["head"], layers(old)["head"], strict=True):
        np.testing.assert_array_equal(got, kept)
        assert np.any(kept)
    for name in ("low", "high"):
        assert not any(np.any(leaf) for leaf in layers(new)[name])
    assert int(old[2].count) == STEPS and int(new[2].count) == 0  # each phase has its schedule
    assert jax.tree.structure(new) == jax.tree.structure(fresh)


def test_another_optimizer_begins_afresh():
    params = random(0)
    _, old = trained(phase(optimizer="adamw"), params)
    fresh = optim.transformation(phase(optimizer="sgd"), STEPS).init(params)
    new = optim.carry_over(old, fresh)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(new))
    assert jax.tree.structure(new) == jax.tree.structure(fresh)


@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd"}, {"clip": 0.0}])
def test_the_first_state_is_the_one_that_optax_begins_with(settings):
    of, params = phase(**settings), random(0)
    mine, theirs = optim.begin(of, params), optim.transformation(of, STEPS).init(params)
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
