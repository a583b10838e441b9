"""Objectives other than cross entropy in one compiled program: against what they must come to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from tl_jax.chain.network import Network
from tl_jax.chain.variables import merged
from tl_jax.errors import UserError
from tl_jax.train import objectives
from tl_jax.train.fit import Data, Run, fit
from tl_jax.train.together import stacked, together

COUNTS = {"source": 48, "target": 20}
OPTIONS = {"start": "pool", "epochs": 2, "batch_size": 16, "clip": 0.0}
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


@functools.cache
def domains() -> dict[str, Data]:
    """Features (N, 16) of two domains; the target's labels are missing."""
    rng = np.random.default_rng(0)
    found = {}
    for name, count in COUNTS.items():
        features = rng.standard_normal((count, 16), np.float32) + (name == "target")
        found[name] = Data(features, np.eye(3, dtype=np.float32)[rng.integers(0, 3, count)])
    return found | {"target": found["target"]._replace(targets=np.full((20, 3), np.nan, "f"))}


def posed(spec: str) -> tuple[Network, dict, dict]:
    """The small chain with the objective's tails, its variables, and what `fit` must know of it."""
    objective = objectives.make(spec)
    plain = small.chain(frozen_dropout=0.0)
    chain = plain.with_layers(*objective.tails(plain))
    fresh = chain.init(1, (1, small.SIZE, small.SIZE, 3))
    return chain, merged(fresh, small.variables()), {"chain": chain, "objective": objective}


def run(variables: dict, seed: int = 0, counts: dict[str, int] = COUNTS, rate: float = 0.05) -> Run:
    numbers = np.int32(seed), np.float32(rate), np.float32(0.01)
    examples = {name: np.arange(count, dtype=np.int32) for name, count in counts.items()}
    weights = {name: np.ones(count, np.float32) for name, count in counts.items()}
    return Run(variables, *numbers, examples, weights)


def of_source(of_both: Run) -> Run:
    """The same run on the source alone."""
    examples, weights = of_both.examples["source"], of_both.weights["source"]
    return of_both._replace(examples=examples, weights=weights)


def test_what_does_not_reach_the_features_leaves_the_classifier_to_the_source():
    _, variables, given = posed("domain_adversarial(width=5)")
    found = fit(run(variables), domains(), **given, **OPTIONS)
    plain = run(variables)
    wanted = fit(of_source(plain), domains()["source"], chain=small.chain(), **OPTIONS)
    head, domain = (found.variables["params"][name] for name in ("head", "domain"))
    jax.tree.map(close, head, wanted.variables["params"]["head"])
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), domain, variables["params"]["domain"])
    assert min(jax.tree.leaves(moved)) > 0
    assert (found.loss > wanted.loss).all()  # by the loss of the classifier of domains


@pytest.mark.slow
def test_runs_of_two_domains_go_together():
    _, variables, given = posed("domain_adversarial(width=5)")
    runs = [run(variables, seed) for seed in range(3)]
    found = together(fit, stacked(runs), domains(), **given, **OPTIONS)
    alone = stacked([fit(one, domains(), **given, **OPTIONS) for one in runs])
    jax.tree.map(np.testing.assert_array_equal, found, alone)
    assert not np.array_equal(found.loss[0], found.loss[1])


def test_an_average_that_follows_at_once_is_the_weights_themselves():
    chain, variables, _ = posed("cross_entropy")
    source = of_source(run(variables))
    found = [
        fit(source, domains()["source"], chain=chain, objective=objectives.make(spec), **OPTIONS)
        for spec in ("averaged(rate=1.0)", "cross_entropy", "averaged(rate=0.0)")
    ]
    jax.tree.map(close, found[0].variables, found[1].variables)
    mean, last = (one.variables["params"]["head"] for one in (found[2], found[1]))
    apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), mean, last)
    assert min(jax.tree.leaves(apart)) > 1e-3  # of all steps


@pytest.mark.slow
def test_views_of_raw_images_are_told_apart_as_equation_1_of_simclr_says():
    """Without an update, and with views that are the images: by hand, from the embeddings."""
    _, variables, given = posed("simclr(output='pool', hidden=8, width=4, temperature=0.5)")
    pixels = np.random.default_rng(0).integers(0, 256, (6, small.SIZE, small.SIZE, 3), np.uint8)
    data = Data(pixels, np.zeros((6, 3), np.float32))
    begun = Run(
        variables, np.int32(0), np.float32(0), np.float32(0), np.arange(6), np.ones(6, np.float32)
    )
    images = {"preprocessing": small.PREPROCESSING, "augment": same_images}
    found = fit(begun, data, **given, **images, start=None, epochs=1, batch_size=6)
    x = small.PREPROCESSING.normalise(pixels)
    z = np.asarray(jax.jit(functools.partial(embedded, given["chain"]))(variables, x), float)
    z = np.concatenate([z, z]) / np.linalg.norm(np.concatenate([z, z]), axis=1, keepdims=True)
    cosines = np.exp(z @ z.T / 0.5)
    others = cosines.sum(1) - np.diag(cosines)
    close(found.loss, -np.log(cosines[np.arange(12), np.roll(np.arange(12), 6)] / others).mean())


def same_images(key, batch):
    return batch


def embedded(chain, variables, x):
    return chain.cut("projected").apply(variables, jnp.asarray(x)).output


def test_what_one_program_cannot_do_is_refused():
    _, variables, given = posed("self_training")
    with pytest.raises(UserError, match="SelfTraining looks at all examples before each epoch"):
        fit(run(variables), domains(), **given, **OPTIONS)
    _, variables, given = posed("domain_adversarial(width=5)")
    other = run(variables, counts={"source": 48, "goal": 20})
    with pytest.raises(UserError, match="different sources: source, target; goal, source; goal"):
        fit(other, domains(), **given, **OPTIONS)
