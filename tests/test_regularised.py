"""Terms that keep a network near the pretrained one: L2-SP, DELTA, BSS."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import steps
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known, Layer
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.errors import UserError
from tl_jax.train import objectives
from tl_jax.train.objective import mean
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.objectives.delta import Delta
from tl_jax.train.objectives.l2_sp import L2SP
from tl_jax.train.objectives.spectral import SpectralShrinkage


class Relu(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(x)


NETWORK = Network(
    (
        Layer("body", nn.Dense(4), ("x",)),
        Layer("feature", nn.Dense(3)),
        Layer("relu", Relu()),  # a layer without parameters
        Layer("head", nn.Dense(2)),
    )
)


def variables(seed: int):
    return NETWORK.init(seed, {"x": jax.ShapeDtypeStruct((1, 5), jnp.float32)})


def batch(rows: int = 6, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 5)).astype(np.float32)
    return steps.batch_of(x, **unweighted(rng.integers(0, 2, rows), 2))


def net(now, start, trained=NETWORK.names):
    views = {"anchor": (start["params"], {})}
    return Net(NETWORK, now["params"], {}, train=trained, views=views)


@pytest.mark.parametrize("trained", [("head",), ("feature", "relu", "head"), NETWORK.names])
def test_l2_sp_is_the_distance_from_the_start_and_the_size_of_the_head(trained):
    now, start = variables(1), variables(2)
    (term,) = L2SP(alpha=0.3, beta=0.2)(net(now, start, trained), batch()).values()
    wanted = 0.1 * sum((leaf**2).sum() for leaf in jax.tree.leaves(now["params"]["head"]))
    for name in set(trained) - {"head", "relu"}:
        for leaf, first in zip(
            *map(jax.tree.leaves, (now["params"][name], start["params"][name])), strict=True
        ):
            wanted += 0.15 * ((leaf - first) ** 2).sum()
    np.testing.assert_allclose(mean(term), wanted, rtol=1e-6)


def test_a_strong_l2_sp_holds_the_base_at_its_start():
    start, moved = variables(0), {}
    for alpha in (0.0, 5.0):
        objective = CrossEntropy(also=(L2SP(alpha=alpha, beta=0.0),))
        of = steps.recipe(NETWORK, objective)
        after = steps.after(of, start, [batch(seed=i) for i in range(10)], rates=0.05)
        gaps = jax.tree.map(lambda p, q: np.abs(p - q).max(), dict(after.params), start["params"])
        moved[alpha] = max(jax.tree.leaves(gaps["body"]))
    assert moved[5.0] < 0.6 * moved[0.0]


@given(st.integers(2, 6), st.integers(1, 2), st.integers(0, 10))
def test_bss_is_the_least_singular_values_squared(rows, k, seed):
    given, own = batch(rows, seed), variables(seed)
    term = SpectralShrinkage(eta=0.5, k=k)(net(own, own), given)["bss"]
    features = np.asarray(net(own, own)(given["inputs"], "relu"))
    values = np.linalg.svd(features, compute_uv=False)
    np.testing.assert_allclose(
        term.scale * mean(term), 0.5 * (values[-k:] ** 2).sum(), rtol=1e-3, atol=1e-5
    )


def test_bss_couples_a_batch_and_says_so():
    assert objectives.make("cross_entropy+bss").coupled
    assert not objectives.make("cross_entropy+l2_sp").coupled


def test_delta_is_the_gap_of_feature_maps_by_the_worth_of_their_channels():
    now, start, given = variables(1), variables(2), batch()
    objective = Delta(alpha=0.3, beta=0.2)
    memory = objective.begin(net(now, start), given)
    features = np.asarray(net(now, start)(given["inputs"], "relu"))
    lost = []
    for channel in range(3):
        known = Known({"relu": features * (np.arange(3) != channel)})
        logits = np.asarray(net(now, start)(known, "head"), np.float64)
        chosen = (given["targets"] * logits).sum(1)
        lost.append((np.log(np.exp(logits).sum(1)) - chosen).mean())
    worth = 3 * np.exp(lost) / np.exp(lost).sum()
    np.testing.assert_allclose(memory["relu"], worth, rtol=1e-5)
    terms = objective.loss(net(now, start), given, memory, None).terms
    gaps = (features - np.asarray(net(start, start)(given["inputs"], "relu"))) ** 2
    np.testing.assert_allclose(
        terms["delta"].scale * mean(terms["delta"]), 0.15 * (worth * gaps).sum(1).mean(), rtol=1e-5
    )
    head = sum((leaf**2).sum() for leaf in jax.tree.leaves(now["params"]["head"]))
    np.testing.assert_allclose(terms["decay"].scale * mean(terms["decay"]), 0.1 * head, rtol=1e-6)


def test_a_line_says_an_objective_and_its_terms():
    made = objectives.make("averaged(rate=0.5)+l2_sp(0.1)+bss(k=2)")
    assert made.also == (L2SP(alpha=0.1), SpectralShrinkage(k=2)) and made.rate == 0.5
    assert objectives.make(" cross_entropy ") == CrossEntropy()


@pytest.mark.parametrize(
    "spec, said",
    [
        ("cross_entropy+l2sp", "term 'l2sp'.*l2_sp"),
        ("lwf(2.0)", r"'lwf\(2.0\)' is a term, .*: cross_entropy\+lwf\(2.0\)"),
        ("byol+l2_sp", "'byol' takes no further terms"),
        ("cross_entropy+", "names with options"),
        ("cross_entropy+bss(eta=x)", "neither a name nor"),
    ],
)
def test_a_line_that_says_none_is_refused(spec, said):
    with pytest.raises(UserError, match=said):
        objectives.make(spec)
