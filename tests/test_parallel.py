"""Eight devices, which XLA makes of one CPU in another process, against the one in this process."""

import dataclasses
import functools
import pathlib
from unittest import mock

import jax
import numpy as np
import pytest
import small
from devices import on_eight

from tl_jax.engine import prefix, processes
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError
from tl_jax.train import loop as train
from tl_jax.train import state
from tl_jax.train.inputs import for_plan
from tl_jax.train.objective import Term
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.step import update
from tl_jax.train.work import PhaseRun

# jit and fsdp draw masks for the whole batch, pmap for each part
DROPOUT = {"jit": 0.5, "pmap": 0.0, "fsdp": 0.5}


def trained(workdir: pathlib.Path, way: str, *, dropout: float):
    """Variables and losses of a run, on however many devices; some channels train by the statistics
    of the batch, and others by running ones.
    """
    chain = small.chain(frozen_dropout=0.0, dropout=dropout)
    usual = {"weight_decay": 0.1, "best_by": "last", "optimizer": "sgd"}
    tune = small.settings(batch_norm="stochastic(p=0.3)", **usual)
    mine = small.problem("fine_tune_top", tune=tune, chain=chain, parallel=Parallel(way))
    inputs_for = for_plan(mine, test_views="none", cache=workdir, dtype="float32")
    variables, progress, _ = train.run(mine, small.variables(), inputs_for, workdir=workdir)
    losses = [(row["train_loss"], row["val_loss"]) for row in progress.history]
    return jax.device_get(variables), np.array(losses)


def spread(net, batch):
    """Of features that the loss has asked for as well: a term with a denominator of its own."""
    features = net(batch["inputs"], "pool")
    few = (batch["labels"] == 1).astype(np.float32)  # none in many a device's part
    return {"spread": Term(((features**2).mean(-1) * few).sum(), few.sum(), 0.5)}


def of_two_terms(workdir: pathlib.Path, way: str):
    """Variables and both terms of a run in two parts a batch, each example weighted otherwise."""
    rng = np.random.default_rng(1)
    weights = rng.uniform(0.1, 3, len(small.task().ids)).astype(np.float32)
    tune = small.settings(optimizer="sgd", best_by="last", accumulate=2)
    mine = small.problem(
        "fine_tune_top",
        tune=tune,
        chain=small.chain(frozen_dropout=0.0),
        task=small.task().with_truth(weights=weights),
        objective=CrossEntropy(also=(spread,)),
        parallel=Parallel(way),
    )
    inputs_for = for_plan(mine, test_views="none", cache=workdir, dtype="float32")
    variables, progress, _ = train.run(mine, small.variables(), inputs_for, workdir=workdir)
    terms = [[row[n] for n in ("train_loss", "train_spread")] for row in progress.history]
    return jax.device_get(variables), np.array(terms)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coupled(CrossEntropy):
    coupled = True


def coupled(way: str) -> str:
    """What is said of an objective that compares the examples of a batch."""
    try:
        small.problem("full", objective=Coupled(), parallel=Parallel(way))
    except UserError as error:
        return str(error)
    return ""


def held() -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """The shapes of a head's arrays after a step by fsdp, and of the parts that a device holds."""
    mine = small.problem("full", parallel=Parallel("fsdp"))
    work = PhaseRun(mine, mine.plan.phases[0], 0, inputs_of(mine), small.variables())
    place = mine.parallel.place
    begun = place(state.begin(work.recipe, work.survey, small.variables()))
    fixed = place(work.frozen(small.variables(), small.variables(), 0))
    after = work.step(begun, fixed, mine.parallel.share(next(work.batches(0))))
    shapes = {}
    for tree in (after.params, after.optimizer):
        for path, leaf in jax.tree.leaves_with_path(tree):
            (part,) = {shard.data.shape for shard in leaf.addressable_shards}
            shapes[jax.tree_util.keystr(path)] = leaf.shape, part
    return shapes


def inputs_of(problem):
    return prefix.decoded(problem.task, problem.preprocessing)


def trained_on_device(folder: pathlib.Path):
    """Variables and losses of a head, from vectors that are on the device, in two views."""
    head = small.settings(views="flip", best_by="last")
    mine = small.problem("head_only", head=head)
    inputs_for = for_plan(mine, test_views="none", cache=folder, dtype="float32")
    variables, progress, inputs = train.run(mine, small.variables(), inputs_for, workdir=folder)
    assert inputs.resident is not None and len(inputs.resident.devices()) == jax.device_count()
    losses = [(row["train_loss"], row["val_loss"]) for row in progress.history]
    return jax.device_get(variables), np.array(losses)


def drawn(way: str) -> np.ndarray:
    """What a batch of 16 draws inside a step, on several devices."""
    parallel = Parallel(way)

    def draw(key, batch):
        return jax.random.uniform(parallel.key(jax.random.wrap_key_data(key)), batch.shape)

    mapped = parallel.map(draw)(jax.random.key_data(jax.random.key(0)))
    return parallel.gathered(mapped(parallel.share(np.zeros(16, np.float32))))


def refused(way: str) -> list[str]:
    """What is said of batches that eight devices cannot share."""
    found = []
    for wanted, examples in ((12, 100), (16, 7)):
        try:
            found.append(str(Parallel(way).batch_size(wanted, examples)))
        except UserError as error:
            found.append(str(error))
    return found


def cache_key(folder: pathlib.Path) -> str:
    """Of one layer's features, computed there."""
    pixels = prefix.decoded(small.task(), small.PREPROCESSING)
    options = {"examples": 120, "stored_views": (0,), "cache": folder, "dtype": "float32"}
    chain, variables = small.chain(), small.variables()
    return prefix.features(chain, variables, pixels, "stem", parallel=Parallel(), **options).key


def main(folder: pathlib.Path):
    """In the other process: everything that is compared."""
    found = {way: trained(folder / way, way, dropout=rate) for way, rate in DROPOUT.items()}
    found["two terms"] = {way: of_two_terms(folder / f"two {way}", way) for way in DROPOUT}
    found["held"] = held()
    found["coupled"] = {way: coupled(way) for way in DROPOUT}
    found["on device"] = trained_on_device(folder / "on device")
    found["devices"] = jax.device_count()
    found["drawn"] = {way: drawn(way) for way in ("jit", "pmap")}
    found["refused"] = refused("jit")
    found["rounded"] = Parallel().batch_size(32, 30)
    found["init"] = small.chain().init(0, (1, small.SIZE, small.SIZE, 3))
    found["key"] = cache_key(folder)
    return found


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    # Quicker to compile; the numbers stay the same.
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return on_eight("test_parallel", tmp_path_factory.mktemp("eight"), **quick)


@pytest.mark.parametrize("way", DROPOUT)
def test_eight_devices_give_what_one_gives(eight, tmp_path, way):
    assert (eight["devices"], jax.device_count()) == (8, 1)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, eight[way], trained(tmp_path, "jit", dropout=DROPOUT[way]))


def test_by_fsdp_a_device_holds_an_eighth_of_each_array_that_eight_divide(eight):
    """Kernels and biases of 8 or 16 channels, and the optimizer's memory of them."""
    held = eight["held"]
    split = {path for path, (shape, part) in held.items() if 8 * np.prod(part) == np.prod(shape)}
    whole = {path for path, (shape, part) in held.items() if part == shape}
    assert split | whole == held.keys() and not split & whole
    assert sum("stage2_block1" in path for path in split) >= 3 * 3  # with two moments of each
    assert all(not any(side % 8 == 0 for side in held[path][0] if side) for path in whole)


@pytest.fixture(scope="module")
def two_terms(tmp_path_factory):
    return of_two_terms(tmp_path_factory.mktemp("two"), "jit")


@pytest.mark.parametrize("way", DROPOUT)
def test_terms_with_denominators_of_their_own_are_the_same_on_eight_devices(eight, two_terms, way):
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, eight["two terms"][way], two_terms)
    assert (two_terms[1] > 0).all()


def test_what_couples_the_examples_of_a_batch_is_refused_where_each_device_sees_a_part(eight):
    assert "Coupled couples the examples of a batch, but pmap " in eight["coupled"]["pmap"]
    assert eight["coupled"]["jit"] == "" == coupled("pmap")  # on one device pmap sees all


def test_eight_devices_share_steps_from_vectors_that_each_has(eight, tmp_path):
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, eight["on device"], trained_on_device(tmp_path))


def test_every_example_draws_its_own(eight):
    for numbers in eight["drawn"].values():
        assert len(set(numbers.tolist())) == 16
    whole = jax.random.uniform(jax.random.key(0), 16)
    np.testing.assert_array_equal(eight["drawn"]["jit"], whole)


def test_work_that_a_process_does_alone_counts_as_no_call_that_it_shares(monkeypatch):
    """Else the one that does more of it seems to wait for the others."""
    link = mock.Mock(calls=0)
    monkeypatch.setattr(processes, "_links", [link])
    Parallel(own=True).share(np.zeros(2, np.float32))
    assert link.calls == 0
    Parallel().share(np.zeros(2, np.float32))
    assert link.calls == 1


def test_batches_that_cannot_be_shared_are_refused(eight):
    for said in eight["refused"]:
        assert "cannot be shared by 8 devices: take a multiple of 8" in said
    assert eight["rounded"] == 24
    assert Parallel().batch_size(12, 7) == 7
    with pytest.raises(UserError, match="batch_size= takes a whole number, at least 1"):
        Parallel().batch_size(0, 7)
    with pytest.raises(UserError, match="unknown parallel 'pmab'; did you mean 'pmap'"):
        Parallel("pmab")


def test_other_processes_and_devices_find_the_same_start_and_the_same_cache(eight, tmp_path):
    own = small.chain().init(0, (1, small.SIZE, small.SIZE, 3))
    jax.tree.map(np.testing.assert_array_equal, eight["init"], own)
    assert eight["key"] == cache_key(tmp_path)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_step_lowers_for_other_platforms(platform):
    mine = small.problem("full", tune=small.settings(batch_norm="batch"))
    phase = mine.plan.phases[0]
    inputs = prefix.decoded(mine.task, mine.preprocessing)
    work = PhaseRun(mine, phase, 0, inputs, small.variables())
    begun = state.begin(work.recipe, work.survey, small.variables())
    traced = jax.jit(functools.partial(update, work.recipe)).trace(
        begun, work.frozen(small.variables(), small.variables(), 0), next(work.batches(0))
    )
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    # Every convolution forwards and, but for the first one's input, twice backwards.
    assert text.count("stablehlo.convolution") == 3 * 4 - 1
