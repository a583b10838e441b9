"""Runs together against the same runs one by one, and those against a loop of optax's own steps."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
from devices import on_eight

from tl_jax.chain.variables import select
from tl_jax.errors import UserError
from tl_jax.train import together as module
from tl_jax.train.fit import Data, Fitted, Run, batches, fit
from tl_jax.train.together import stacked, together

EXAMPLES, EPOCHS, BATCH = 50, 3, 16  # two of the 50 fill no batch
CHAIN = small.chain()
HEAD = {"chain": CHAIN, "start": "pool", "epochs": EPOCHS, "batch_size": BATCH}
TOP = HEAD | {"start": "stage1_block2", "epochs": 2}
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


@functools.cache
def data(*shape: int) -> Data:
    """Random inputs (N, ...) and soft targets (N, 3)."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((EXAMPLES, *shape), np.float32)
    return Data(inputs, rng.dirichlet((1, 1, 1), EXAMPLES).astype(np.float32))


FEATURES, MAPS = (16,), (small.SIZE, small.SIZE, 8)


def above(start: str, seed: int):
    """Variables of the layers above `start`."""
    names = [layer.name for layer in CHAIN.between(start, None)]
    return select(small.variables(seed), names)


def run(seed: int, *, start: str = "pool", examples=None, rate: float = 0.05) -> Run:
    """One that differs from those of other seeds in everything."""
    rng = np.random.default_rng(seed)
    examples = rng.permutation(EXAMPLES)[:40] if examples is None else examples
    weights = rng.uniform(0.2, 2.0, len(examples)).astype(np.float32)
    rate, decay = np.float32(rate / (1 + seed)), np.float32(0.1 * seed)
    return Run(above(start, seed), np.int32(seed), rate, decay, np.int32(examples), weights)


def same(got, wanted):
    jax.tree.map(np.testing.assert_array_equal, got, wanted)


# One training


def looped(run: Run, data: Data, *, start: str, epochs: int, optimizer: str, batch_norm: str):
    """`fit`, as one would write it: a step after the other, with optax's own optimizers."""
    names = [layer.name for layer in CHAIN.between(start, None)]
    steps = len(run.examples) // BATCH
    rate = optax.cosine_decay_schedule(float(run.learning_rate), epochs * steps)
    kernels = functools.partial(jax.tree.map, lambda p: p.ndim > 1)
    decay, params, stats = float(run.weight_decay), *run.variables.values()
    tx = {
        "adamw": optax.adamw(rate, weight_decay=decay, mask=kernels),
        "sgd": optax.chain(
            optax.add_decayed_weights(0.0),
            optax.trace(0.9, nesterov=True),
            optax.add_decayed_weights(decay, kernels),
            optax.scale_by_learning_rate(rate),
        ),
    }[optimizer]
    tx = optax.chain(optax.clip_by_global_norm(1.0), tx)
    state, history = tx.init(params), []

    @jax.jit
    def loss(params, stats, x, targets, weights):
        variables = {"params": params, "batch_stats": stats}
        normed = names if batch_norm == "batch" else ()
        applied = CHAIN.apply(variables, x, start=start, batch_norm=normed)
        losses = -(targets * jax.nn.log_softmax(applied.output)).sum(-1)
        return (losses * weights).sum() / weights.sum(), applied.batch_stats

    slope = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for epoch in range(epochs):
        sums = np.zeros(2)
        for rows in np.asarray(batches(run.seed, epoch, len(run.examples), BATCH)):
            chosen, weights = run.examples[rows], run.weights[rows]
            batch = data.inputs[chosen], data.targets[chosen], weights
            (value, stats), gradients = slope(params, stats, *batch)
            updates, state = tx.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
            sums += float(value) * weights.sum(), weights.sum()
        history.append(sums[0] / sums[1])
    return Fitted({"params": params, "batch_stats": stats}, np.array(history))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_head_is_trained_by_the_steps_of_optax(optimizer):
    given = {"start": "pool", "epochs": EPOCHS, "optimizer": optimizer}
    wanted = looped(run(1), data(*FEATURES), batch_norm="frozen", **given)
    got = fit(run(1), data(*FEATURES), **HEAD, optimizer=optimizer)
    jax.tree.map(close, got, wanted)
    assert got.loss.shape == (EPOCHS,) and got.loss[-1] < got.loss[0]


@pytest.mark.parametrize("batch_norm", [pytest.param("frozen", marks=pytest.mark.slow), "batch"])
def test_a_suffix_is_too_with_its_batch_statistics(batch_norm):
    begun, given = run(1, start="stage1_block2"), {"start": "stage1_block2", "epochs": 2}
    wanted = looped(begun, data(*MAPS), optimizer="adamw", batch_norm=batch_norm, **given)
    got = fit(begun, data(*MAPS), **TOP, batch_norm=batch_norm)
    loose = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(loose, got, wanted)  # adamw divides by small numbers
    moved = jax.tree.leaves(
        jax.tree.map(np.array_equal, got.variables["batch_stats"], begun.variables["batch_stats"])
    )
    assert moved and all(kept == (batch_norm == "frozen") for kept in moved)


@pytest.mark.slow
def test_recalibrated_statistics_are_the_mean_of_the_batches_own():
    begun, x = run(0, start="stage1_block2"), data(*MAPS).inputs
    got = fit(begun, data(*MAPS), **TOP | {"epochs": 1}, batch_norm="recalibrate")
    before = begun.variables["batch_stats"]["stage2_block1"]
    found = []
    for rows in np.asarray(batches(begun.seed, 0, len(begun.examples), BATCH)):
        applied = CHAIN.apply(
            begun.variables, x[begun.examples[rows]], start="stage1_block2", batch_norm=True
        )
        after = applied.batch_stats["stage2_block1"]
        found.append(jax.tree.map(lambda a, b: (a - 0.9 * b) / 0.1, after, before))
    mean = jax.tree.map(lambda *several: np.mean(several, 0), *found)
    jax.tree.map(close, got.variables["batch_stats"]["stage2_block1"], mean)


def test_batches_are_the_examples_shuffled_otherwise_each_epoch_and_seed():
    several = [np.asarray(batches(s, e, EXAMPLES, BATCH)) for s, e in ((0, 0), (0, 1), (1, 0))]
    for rows in several:
        assert rows.shape == (3, 16)
        assert len(set(rows.ravel().tolist())) == 48 and set(rows.ravel()) <= set(range(50))
    assert len({rows.tobytes() for rows in several}) == 3


def test_dropout_is_drawn_from_the_seed():
    dropping = HEAD | {"chain": small.chain(dropout=0.5)}
    whole, x = run(0)._replace(seed=np.int32(3)), data(*FEATURES)
    same(fit(whole, x, **dropping), fit(whole, x, **dropping))
    assert not np.allclose(fit(whole, x, **dropping).loss, fit(whole, x, **HEAD).loss, rtol=1e-3)


def test_other_examples_cannot_matter():
    begun, (inputs, targets) = run(1, start="stage1_block2"), data(*MAPS)
    others = np.setdiff1d(np.arange(EXAMPLES), begun.examples)
    changed = Data(inputs.copy(), targets.copy())
    changed.inputs[others], changed.targets[others] = np.nan, np.nan
    options = TOP | {"batch_norm": "batch"}
    same(fit(begun, changed, **options), fit(begun, data(*MAPS), **options))


def test_examples_of_weight_0_cannot_matter():
    begun, (inputs, targets) = run(1), data(*FEATURES)
    begun.weights[::2] = 0
    changed = Data(inputs.copy(), targets.copy())
    changed.inputs[begun.examples[::2]] += 1.0
    jax.tree.map(close, fit(begun, changed, **HEAD), fit(begun, data(*FEATURES), **HEAD))
    begun.weights[:] = 0
    still = fit(begun._replace(weight_decay=np.float32(0)), changed, **HEAD)
    same(still.variables["params"], begun.variables["params"])


def test_rows_that_are_not_there_show_in_the_loss():
    missing = run(0, examples=np.arange(40) + 20)
    assert np.isnan(fit(missing, data(*FEATURES), **HEAD).loss).any()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"optimizer": "adam"}, "unknown optimizer 'adam'; did you mean 'adamw'"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"batch_norm": "freeze"}, "unknown batch_norm 'freeze'; did you mean 'frozen'"),
        ({"start": "pol"}, "unknown layer 'pol'; did you mean 'pool'"),
        ({"epochs": 0}, "epochs >= 1"),
        ({"batch_size": 0}, "batch_size 0 of 40 examples leaves nothing to train on"),
    ],
)
def test_what_fit_does_not_know_is_refused(changed, said):
    with pytest.raises(UserError, match=said):
        fit(run(0), data(*FEATURES), **HEAD | changed)


def test_shapes_that_do_not_fit_are_refused():
    inputs, targets = data(*FEATURES)
    for wrong in (Data(inputs[1:], targets), Data(inputs, targets[:, 0])):
        with pytest.raises(UserError, match=r"inputs \(N, ...\) and targets \(N, C\) do not fit"):
            fit(run(0), wrong, **HEAD)
    with pytest.raises(UserError, match=r"do not fit: \(40,\) and \(39,\)"):
        fit(run(0)._replace(weights=np.ones(39)), Data(inputs, targets), **HEAD)


# Many trainings


def five(**options) -> Run:
    """Runs that differ in all that may differ."""
    return stacked([run(seed, **options) for seed in range(5)])


def separately() -> Fitted:
    return stacked([fit(run(seed), data(*FEATURES), **HEAD) for seed in range(5)])


def test_one_after_the_other_gives_the_same_bits():
    same(together(fit, five(), data(*FEATURES), way="map", **HEAD), separately())


def test_in_lock_step_gives_the_same_numbers():
    jax.tree.map(close, together(fit, five(), data(*FEATURES), way="vmap", **HEAD), separately())


def test_the_way_on_a_cpu_is_one_after_the_other():
    assert jax.default_backend() == "cpu"
    named = together(fit, five(), data(*FEATURES), way="map", **HEAD)
    before = module._program._cache_size()
    same(together(fit, five(), data(*FEATURES), **HEAD), named)
    assert module._program._cache_size() == before


@pytest.mark.slow
def test_a_suffix_by_batch_statistics_too():
    options = TOP | {"batch_norm": "batch"}
    runs = five(start="stage1_block2")
    alone = [fit(run(s, start="stage1_block2"), data(*MAPS), **options) for s in range(5)]
    same(together(fit, runs, data(*MAPS), **options), stacked(alone))


def affine(run, shared, *, times):
    return {"sum": times * run["a"] + shared.sum(), "key": jax.random.uniform(run["key"])}


def test_any_function_will_do_and_is_compiled_once_for_equal_shapes():
    keys = jax.random.split(jax.random.key(0), 3)
    shared, runs = np.arange(4.0), {"a": np.arange(3.0), "key": keys}
    before = module._program._cache_size()
    done = together(affine, runs, shared, times=2)
    np.testing.assert_array_equal(done["sum"], [6, 8, 10])
    np.testing.assert_array_equal(done["key"], jax.vmap(jax.random.uniform)(keys))
    together(affine, runs | {"a": np.ones(3)}, -shared, times=2)
    assert module._program._cache_size() == before + 1
    together(affine, runs, shared, times=3)
    assert module._program._cache_size() == before + 2


def test_ways_and_runs_that_are_none_are_refused():
    with pytest.raises(UserError, match="unknown way 'vmpa'; did you mean 'vmap'"):
        together(fit, five(), data(*FEATURES), way="vmpa", **HEAD)
    for none in ({}, {"a": np.zeros((0, 2))}):
        with pytest.raises(UserError, match="there are no runs"):
            together(affine, none)
    with pytest.raises(UserError, match=r"\(3,\) of \['a'\] is not \(2,\) of \['b'\]"):
        together(affine, {"a": np.zeros(3), "b": np.zeros((2, 3))})
    with pytest.raises(UserError, match="is one number: stack the runs"):
        together(affine, {"a": 1.0})
    with pytest.raises(UserError, match="there are no runs"):
        stacked([])
    with pytest.raises(UserError, match="of run 1 is not"):
        stacked([run(0), run(1, examples=np.arange(30))])


# Eight devices, which XLA makes of one CPU in another process


def main(folder: pathlib.Path):
    """In the other process: five runs on eight devices, so three of them go through the motions."""
    found = {way: together(fit, five(), data(*FEATURES), way=way, **HEAD) for way in module.WAYS}
    again = together(fit, stacked([run(s) for s in range(8)]), data(*FEATURES), **HEAD)
    found |= {"devices": jax.device_count(), "spread": len(again.loss.sharding.device_set)}
    return jax.device_get(found)


@pytest.mark.slow
def test_eight_devices_give_what_one_gives(tmp_path):
    found = on_eight("test_together", tmp_path)
    assert (found["devices"], found["spread"], jax.device_count()) == (8, 8, 1)
    for way in module.WAYS:
        jax.tree.map(close, found[way], separately())


def test_the_program_lowers_for_accelerators():
    data_ = jax.tree.map(jnp.asarray, data(*FEATURES))
    named = tuple(sorted(HEAD.items()))
    traced = module._program.trace(five(), data_, train=fit, way="vmap", static=named)
    for platform in ("cuda", "tpu"):
        assert "stablehlo.dot_general" in traced.lower(lowering_platforms=(platform,)).as_text()
