import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import steps
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.chain.network import Network
from tl_jax.chain.places import Known, Layer
from tl_jax.errors import UserError
from tl_jax.plans import schedules
from tl_jax.plans.plan import Settings
from tl_jax.train import optim

SHAPES = {"kernel": (4, 3), "bias": (3,), "scale": (5,)}
RATES = {"low": 0.1, "high": 0.25, "head": 1.0}
STEPS = 5
NETWORK = Network(
    tuple(Layer(name, steps.Bare(tuple(SHAPES.items())), ()) for name in ("stem", *RATES))
)


def random(seed, layers=RATES, size=1.0):
    """{layer: {kernel, bias, scale}} float32."""
    rng = np.random.default_rng(seed)
    return {
        n: {k: (size * rng.normal(size=SHAPES[k])).astype(np.float32) for k in sorted(SHAPES)}
        for n in sorted(layers)  # as jax.jit gives them back
    }


def trained(params, *, rates=RATES, size=1.0, rate=0.1, total=STEPS, decay=0.1, **recipe):
    """The state after STEPS steps of `update` with random gradients, at a cosine's rates."""
    of = steps.recipe(NETWORK, steps.Given(), dict(rates), **{"clip": 1.0} | recipe)
    variables = {"params": random(9, ["stem"]) | params, "batch_stats": {}}
    batches = [
        {"inputs": Known(), "gradient": random(100 + i, rates, size)} for i in range(STEPS)
    ]
    schedule = optim.schedule(Settings(schedule="cosine", learning_rate=rate), total)
    cosine = jnp.stack([jnp.float32(schedule(i)) for i in range(total)])
    return steps.after(of, variables, batches, rates=cosine, decay=decay)


def by_hand(p, *, optimizer, size, clip=1.0, peak=0.1, decay_rate=0.1):
    """The same in float64: Loshchilov & Hutter 2019 (arXiv:1711.05101), algorithm 2, with the
    decay scaled by the learning rate; Nesterov momentum as in Sutskever et al. 2013, eq. 3 to 4,
    in the form of optax.trace.
    """
    p = jax.tree.map(np.float64, p)
    m = v = jax.tree.map(np.zeros_like, p)
    for i in range(STEPS):
        g = jax.tree.map(np.float64, random(100 + i, p, size))
        norm = np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(g)))
        g = jax.tree.map(lambda x, n=norm: x * min(1, clip / n), g)
        if optimizer == "adamw":
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
            v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, g)
            unbias = 1 - 0.9 ** (i + 1), 1 - 0.999 ** (i + 1)
            d = jax.tree.map(lambda m, v, u=unbias: (m / u[0]) / (np.sqrt(v / u[1]) + 1e-8), m, v)
        else:
            m = jax.tree.map(lambda m, g: g + 0.9 * m, m, g)
            d = jax.tree.map(lambda m, g: g + 0.9 * m, m, g)
        rate = peak * (1 + np.cos(np.pi * i / STEPS)) / 2
        for name, leaves in p.items():
            for k in leaves:
                decay = decay_rate * leaves[k] if k == "kernel" else 0
                leaves[k] = leaves[k] - rate * RATES[name] * (d[name][k] + decay)
    return p


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("size", [0.01, 3.0])  # the norm over all layers is below and above `clip`
def test_updates_are_those_of_the_papers(optimizer, size):
    params = random(0)
    wanted = by_hand(params, optimizer=optimizer, size=size)
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5),
        trained(params, size=size, optimizer=optimizer).params,
        wanted,
    )


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_multiplier_scales_updates_exactly(optimizer):
    params, gradients = random(0), random(1)
    gradients["low"] = gradients["high"] = gradients["head"]
    params["low"] = params["high"] = params["head"]
    for rate in (0.25, 2**-5):  # powers of two: no rounding
        scaled = optim.transformation(optimizer, RATES | {"high": rate}, 0.1)
        updates, _ = jax.jit(scaled.update)(gradients, scaled.init(params), params)
        for leaf in SHAPES:
            np.testing.assert_array_equal(updates["high"][leaf], rate * updates["head"][leaf])
            np.testing.assert_allclose(updates["low"][leaf], 0.1 * updates["head"][leaf], rtol=1e-6)


def test_decay_is_of_kernels_only():
    params = random(0)
    optimizer = optim.transformation("adamw", RATES, 0.1)
    still = jax.tree.map(np.zeros_like, params)
    updates, _ = optimizer.update(still, optimizer.init(params), params)
    for name, rate in RATES.items():
        wanted = rate * 0.1 * params[name]["kernel"]
        np.testing.assert_allclose(updates[name]["kernel"], wanted, rtol=1e-6)
        assert not updates[name]["bias"].any() and not updates[name]["scale"].any()


def test_without_clipping_gradients_go_through():
    params, gradient = random(0), random(1, size=1e3)
    of = steps.recipe(NETWORK, steps.Given(), RATES)
    variables = {"params": random(9, ["stem"]) | params, "batch_stats": {}}
    now = steps.after(of, variables, [{"inputs": Known(), "gradient": gradient}], rates=1.0)
    # The first Nesterov step is 1.9 times the gradient.
    wanted = params["head"]["kernel"] - 1.9 * gradient["head"]["kernel"]
    np.testing.assert_allclose(now.params["head"]["kernel"], wanted, rtol=1e-5)


def test_the_state_is_of_trained_layers_only():
    found = optim.begin("adamw", RATES, random(0))
    assert found.keys() == RATES.keys()
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(found)]
    assert not any("stem" in path for path in paths)
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(found))
    moments = 2 * sum(np.size(leaf) for leaf in jax.tree.leaves(random(0)))
    assert size == moments + len(RATES)  # a count for each layer


@pytest.mark.parametrize("turn", [("low",), ("high", "head"), tuple(RATES)])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_an_update_of_some_layers_leaves_the_others_states(turn, optimizer):
    params, gradients = random(0), random(1)
    every = optim.transformation(optimizer, RATES, 0.1)
    _, states = optim.update(every, gradients, optim.begin(optimizer, RATES, params), params)
    some = optim.transformation(optimizer, {n: RATES[n] for n in turn}, 0.1)
    mine = {name: gradients[name] for name in turn}
    moved, new = optim.update(some, mine, states, params)
    wanted, all_new = optim.update(every, gradients, states, params)
    assert moved.keys() == set(turn)
    for name in RATES:
        assert jax.tree.structure(new[name]) == jax.tree.structure(states[name])
        jax.tree.map(
            np.testing.assert_array_equal, new[name], (all_new if name in turn else states)[name]
        )
    for name in turn:
        jax.tree.map(np.testing.assert_array_equal, moved[name], wanted[name])


# Schedules.


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


def test_steps_and_polynomials_fall_as_their_options_say():
    """As torch's MultiStepLR and PolynomialLR."""

    def rates(spec, *at):
        rate = optim.schedule(Settings(schedule=spec, learning_rate=0.8), 100)
        return [float(rate(i)) for i in at]

    assert rates("step", 0, 49, 51, 74, 76) == pytest.approx([0.8, 0.8, 0.08, 0.08, 0.008])
    assert rates("step(at=(0.9,), factor=0.5)", 89, 91) == pytest.approx([0.8, 0.4])
    assert rates("polynomial", 0, 25, 100) == pytest.approx([0.8, 0.6, 0.0])
    assert rates("polynomial(2, end=0.1)", 50, 100) == pytest.approx([0.1 + 0.7 / 4, 0.1])


@given(
    total=st.integers(1, 300),
    name=st.sampled_from(sorted(set(schedules.SCHEDULES) - {"warmup_cosine"})),  # it begins at 0
)
def test_every_step_has_a_rate_between_zero_and_the_peak(total, name):
    rate = optim.schedule(Settings(schedule=name, learning_rate=0.5), total)
    rates = [float(rate(i)) for i in {0, total // 3, total - 1}]
    assert all(0 < r <= 0.5 + 1e-6 for r in rates)


@given(
    total=st.integers(1, 200),
    cut=st.sampled_from([0.05, 0.1, 0.2, 0.5, 0.9]),
    ratio=st.sampled_from([1.0, 2.0, 32.0]),
)
def test_slanted_triangles_are_those_of_howard_and_ruder(total, cut, ratio):
    """arXiv:1801.06146, eq. 3, with T = total and lr_max = 0.5."""
    spec = f"slanted_triangular(cut={cut}, ratio={ratio})"
    rate = optim.schedule(Settings(schedule=spec, learning_rate=0.5), total)
    top = max(1, int(total * cut))  # the paper's floor, but no division by 0
    for t in {0, top // 2, top, (top + total) // 2, total - 1} & set(range(total)):
        p = t / top if t < top else max(1 - (t - top) / (top * (1 / cut - 1)), 0)
        assert float(rate(t)) == pytest.approx(0.5 * (1 + p * (ratio - 1)) / ratio, rel=1e-5)


def test_a_warm_up_rises_for_its_share_and_falls_as_a_cosine():
    rate = optim.schedule(Settings(schedule="warmup_cosine(0.2)", learning_rate=0.5), 100)
    np.testing.assert_allclose([rate(0), rate(10), rate(20), rate(60), rate(100)],
                               [0, 0.25, 0.5, 0.25, 0], atol=1e-6)  # fmt: skip


def test_a_schedule_of_ones_own_is_taken():
    def halves(peak, steps):
        return lambda step: jnp.where(step < steps // 2, peak, peak / 2)

    rate = optim.schedule(Settings(schedule=halves, learning_rate=0.5), 8)
    assert [float(rate(i)) for i in (0, 3, 4)] == [0.5, 0.5, 0.25]


# From phase to phase.


def test_a_new_phase_keeps_the_moments_of_what_was_already_training():
    params = random(0)
    old = trained({n: params[n] for n in RATES}, rates={"head": 1.0}, optimizer="adamw").optimizer
    fresh = optim.begin("adamw", RATES, params)
    new = optim.carry_over(old, fresh)
    for got, kept in zip(*map(jax.tree.leaves, (new["head"], old["head"])), strict=True):
        np.testing.assert_array_equal(got, kept)
        assert np.any(kept)
    for name in ("low", "high"):
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(new[name]))
    assert jax.tree.structure(new) == jax.tree.structure(fresh)


def test_another_optimizer_begins_afresh():
    params = random(0)
    old = trained(params, optimizer="adamw").optimizer
    fresh = optim.begin("sgd", RATES, params)
    new = optim.carry_over(old, fresh)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(new))
    assert jax.tree.structure(new) == jax.tree.structure(fresh)


@functools.cache
def of_optax(name: str) -> optax.GradientTransformation:
    return {
        "lion": lambda: optax.lion(1.0, weight_decay=0.0),
        "scale_by_lion": optax.scale_by_lion,
        "sgd": lambda: optax.sgd(1.0),
        "warm": lambda: optax.sgd(optax.linear_schedule(0.0, 1.0, 10)),
        "every third": lambda: optax.MultiSteps(optax.sgd(1.0), 3).gradient_transformation(),
        "still": lambda: optax.set_to_zero(),
        "noisy": lambda: optax.scale_by_rms(initial_scale=0.5),  # begins with other than zeros
    }[name]()


OPTIMIZERS = ["adamw", "sgd", "adamw(b1=0.8)", of_optax("scale_by_lion"), of_optax("noisy")]


@pytest.mark.parametrize(
    "optimizer", OPTIMIZERS, ids=["adamw", "sgd", "adamw with options", "lion", "noisy"]
)
def test_the_first_state_is_the_one_that_optax_begins_with(optimizer):
    params = random(0)
    mine = optim.begin(optimizer, RATES, params)
    theirs = dict(optim.transformation(optimizer, RATES).init(params).inner_states)
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    said = optim.shapes(optimizer, RATES, params)
    for a, b, c in zip(*map(jax.tree.leaves, (mine, theirs, said)), strict=True):
        assert a.dtype == b.dtype == c.dtype and a.shape == c.shape
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "descends"),
    [
        ("lion", True),
        ("sgd", True),
        ("warm", True),
        ("every third", True),
        ("scale_by_lion", False),
        ("noisy", False),
    ],
)
def test_any_transformation_of_optax_goes_downhill(name, descends):
    assert schedules.descends(of_optax(name)) == descends
    params = random(0)
    of = steps.recipe(NETWORK, steps.Given(), {"head": 1.0}, optimizer=of_optax(name))
    variables = {"params": random(9, ["stem"]) | params, "batch_stats": {}}
    gradient = random(1, ["head"])
    batches = [{"inputs": Known(), "gradient": gradient}] * (1 if "lion" in name else 3)
    now = steps.after(of, variables, batches, rates=0.5)
    for leaf in SHAPES:
        moved = np.asarray(now.params["head"][leaf] - params["head"][leaf])
        assert (np.sign(moved) == -np.sign(gradient["head"][leaf])).all()
        if "lion" in name:  # the sign of the gradient, at the phase's rate
            np.testing.assert_allclose(np.abs(moved), 0.5, rtol=1e-5)


def test_an_optimizer_that_moves_nothing_is_refused():
    with pytest.raises(UserError, match="the optimizer moves nothing in its first 100 steps"):
        schedules.descends(of_optax("still"))


def test_options_of_an_optimizer_are_taken():
    gradients = random(1)
    by_name = optim.transformation("sgd(momentum=0.5, nesterov=False)", RATES)
    states = by_name.init(random(0))
    _, states = by_name.update(gradients, states, random(0))
    updates, _ = by_name.update(gradients, states, random(0))
    wanted = 1.5 * gradients["head"]["kernel"]
    np.testing.assert_allclose(updates["head"]["kernel"], wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "slanted_triangular(cutt=0.2)"}, "unknown option of schedule .*'cutt'; did "),
        ({"schedule": "slanted_triangular(cut=1.5)"}, "cut is a share .* got 1.5"),
        ({"schedule": "slanted_triangular(ratio=0.5)"}, "ratio is at least 1; got 0.5"),
        ({"schedule": "constant(1)"}, "schedule 'constant' takes 0 options; got 1"),
        ({"optimizer": "adamw(b3=0.9)"}, "unknown option of optimizer 'adamw' 'b3'; known: b1, b2"),
        ({"optimizer": "sgd(momentum=__import__('os'))"}, "is neither a name nor name"),
    ],
)
def test_options_that_are_not_there_are_refused_with_the_near_miss(settings, message):
    with pytest.raises(UserError, match=message):
        Settings(**settings)
