"""The four ways in which freezing leaks: weights, statistics, memory, cost."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
import small

from tl_jax.chain.places import Known
from tl_jax.chain.programs import forward, forward_program
from tl_jax.chain.variables import select
from tl_jax.data import loader
from tl_jax.engine import prefix
from tl_jax.train import loop as train
from tl_jax.train import state
from tl_jax.train.inputs import asked, for_plan
from tl_jax.train.step import State
from tl_jax.train.work import PhaseRun

LOW, HIGH = ("stem", "stage1_block1", "stage1_block2"), ("stage2_block1", "pool", "head")


def run(workdir, plan, **options):
    """A problem, its trained variables and what happened, with nothing cached."""
    mine = small.problem(plan, **options)
    inputs_for = for_plan(mine, test_views="none", cache=None, dtype="float32")
    return mine, *train.run(mine, small.variables(), inputs_for, workdir=workdir)[:2]


def differing(variables) -> dict[str, set[str]]:
    """By collection, the layers of which any array is not bit for bit what it was."""
    same = jax.tree.map(
        lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(),
        small.variables(),
        variables,
    )
    return {
        collection: {name for name, tree in layers.items() if not all(jax.tree.leaves(tree))}
        for collection, layers in same.items()
    }


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_nothing_of_frozen_layers_moves(tmp_path, optimizer):
    tune = small.settings(optimizer=optimizer, weight_decay=0.1, batch_norm="batch", views="flip")
    _, variables, progress = run(tmp_path, "fine_tune_top", tune=tune)
    assert progress.history[-1]["step"] == 8
    assert differing(variables) == {
        "params": {"stage2_block1", "head"},
        "batch_stats": {"stage2_block1"},
    }


def test_a_head_alone_moves_alone(tmp_path):
    head = small.settings(weight_decay=0.1, batch_norm="batch")
    assert differing(run(tmp_path, "head_only", head=head)[1]) == {
        "params": {"head"},
        "batch_stats": set(),
    }


class Step(NamedTuple):
    """What a plan's last phase does with a batch."""

    begun: State
    frozen: Any
    batch: dict  # as it is read
    taken: dict  # as the program takes it, behind the frozen layers
    compiled: Any
    flops: float  # of that program and of the frozen layers before it


@functools.cache
def step(plan: str, *, start: str | None = None, **dropout) -> Step:
    mine = small.problem(plan, chain=small.chain(**dropout))
    inputs = prefix.decoded(mine.task, mine.preprocessing)._replace(start=start)
    work = PhaseRun(mine, mine.plan.phases[-1], 0, inputs, small.variables())
    pixels = prefix.decoded(mine.task, mine.preprocessing)
    read = PhaseRun(mine, mine.plan.phases[-1], 0, pixels, small.variables())
    batch = next(read.batches(0))
    if start is not None:
        x = small.PREPROCESSING.normalise(batch["inputs"]["image"])
        batch["inputs"] = Known({start: forward(mine.chain, small.variables(), x, stop=start)})
    begun = state.begin(work.recipe, work.survey, small.variables())
    frozen = work.frozen(small.variables(), small.variables(), 0)
    taken = work.prefix(frozen)(batch)
    compiled = work.step.lower(begun, frozen, taken).compile()
    total = flops(compiled)
    if work.start != start:
        total += flops(alone(mine.chain, value(batch), start, work.start))
    return Step(begun, frozen, batch, taken, compiled, total)


def value(batch):
    """What the batch's lowest layer reads: stored features, or normalised pixels."""
    ((place, inputs),) = batch["inputs"].items()
    return small.PREPROCESSING.normalise(inputs) if place == "image" else inputs


def test_no_memory_is_taken_for_frozen_layers():
    begun = step("fine_tune_top").begun
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(begun)]
    assert any("head" in path for path in paths)
    assert not [path for path in paths if any(name in path for name in LOW)]
    own = select(small.variables(), HIGH)
    params, stats = (sum(leaf.size for leaf in jax.tree.leaves(own[c])) for c in own)
    counts = len(own["params"])  # Adam's by layer that has parameters
    scalars = len(("step", "sum", "weight", "scaled", "bad"))
    assert sum(map(np.size, jax.tree.leaves(begun))) == 3 * params + stats + counts + scalars
    # What comes out of a step is again only this.
    assert jax.tree.structure(step("fine_tune_top").compiled.out_info) == jax.tree.structure(begun)


def flops(compiled) -> float:
    return compiled.cost_analysis()["flops"]


@functools.cache
def forward_flops(start: str | None = None) -> float:
    features = value(step("head_only", start=start).batch) if start else np.zeros((16, 8, 8, 3))
    return flops(alone(small.chain(), np.float32(features), start))


def alone(chain, x, start: str | None, stop: str | None = None):
    """The compiled forward pass of some layers."""
    return forward_program(chain, start, stop).whole.lower(small.variables(), x).compile()


def own_flops(plan: str, start: str | None, below: str | None, **dropout) -> float:
    """Forward up to `below`, and forward and backward of what a plan trains above it, as programs
    of their own: what a step may cost."""
    chain = small.chain(**dropout)
    batch = step(plan, start=start, **dropout).batch
    x = value(batch)
    trained = small.problem(plan, chain=chain).plan.phases[-1].trained

    def loss(params, x):
        merged = {**small.variables()["params"], **params}
        now = {"params": merged, "batch_stats": small.variables()["batch_stats"]}
        logits = chain.apply(now, x, start=below).output
        return optax.softmax_cross_entropy(logits, batch["targets"]).mean()

    total, features = 0.0, x
    if below != start:
        prefix_alone = alone(chain, x, start, below)
        total, features = flops(prefix_alone), prefix_alone(small.variables(), x)
    params = {n: small.variables()["params"][n] for n in trained if n != "pool"}
    return total + flops(jax.jit(jax.grad(loss)).lower(params, features).compile())


@pytest.mark.parametrize(
    ("plan", "start", "below"),
    [
        ("head_only", None, "pool"),
        ("fine_tune_top", None, "stage1_block2"),
        ("fine_tune_top", "stage1_block2", "stage1_block2"),
        ("full", None, None),
    ],
)
def test_a_step_costs_the_frozen_layers_forward_and_the_trained_ones_own_gradient(
    plan, start, below
):
    wanted = own_flops(plan, start, below, frozen_dropout=0.0)
    parameters = sum(map(np.size, jax.tree.leaves(step(plan, frozen_dropout=0.0).begun.params)))
    update = step(plan, start=start, frozen_dropout=0.0).flops - wanted
    # Beyond that only the optimizer, some operations a parameter.
    assert -0.03 * wanted < update < 0.03 * wanted + 25 * parameters


def test_what_xla_counts_is_what_convolutions_cost():
    # Multiply and add for 16 images, (rows, columns, 3, 3, inputs, outputs); XLA leaves out the
    # taps that lie in the padding, which at 8 x 8 are about a sixth.
    shapes = [(8, 8, 3, 3, 3, 8), (8, 8, 3, 3, 8, 8), (8, 8, 3, 3, 8, 8), (4, 4, 3, 3, 8, 16)]
    by_hand = 2 * 16 * sum(map(np.prod, shapes))
    assert 0.8 < forward_flops() / by_hand < 1


def test_a_head_costs_a_forward_pass():
    assert forward_flops() < step("head_only").flops < 1.05 * forward_flops()


def test_the_backward_pass_stops_at_the_lowest_trained_layer():
    # Of the lowest trained layer there is a gradient of the kernel but none of its input.
    suffix = forward_flops("stage1_block2")
    assert 0.9 * suffix < step("fine_tune_top").flops - forward_flops() < 1.3 * suffix


def test_a_cached_prefix_is_not_run():
    suffix = forward_flops("stage1_block2")
    assert suffix < 0.25 * forward_flops()
    assert step("fine_tune_top", start="stage1_block2").flops < 2.3 * suffix


def test_training_all_costs_thrice_a_forward_pass():
    assert 2.5 < step("full", frozen_dropout=0.0).flops / forward_flops() < 3.5


def inference_loss(batch) -> float:
    logits = forward(small.chain(), small.variables(), value(batch))
    return float(optax.softmax_cross_entropy(logits, batch["targets"]).sum())


@pytest.mark.parametrize(("dropout", "same"), [({}, True), ({"dropout": 0.5}, False)])
def test_dropout_is_off_in_frozen_layers(dropout, same):
    begun, frozen, batch, taken, compiled, _ = step("head_only", **dropout)
    after = compiled(jax.tree.map(np.asarray, begun), frozen, taken)
    assert (float(after.sums["loss"][0]) == pytest.approx(inference_loss(batch), rel=1e-5)) == same


# What batch norm does in trained layers is a setting of its own.

BLOCKS = {"stage1_block1": 1, "stage1_block2": 1, "stage2_block1": 2}  # name: stride


def convolved(x, kernel, stride):
    """3 x 3 convolution of `x` (N, H, W, C), padded as TensorFlow's SAME does."""
    edge = (1, 1) if stride == 1 else (0, 1)
    x = np.pad(x, ((0, 0), edge, edge, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    return np.einsum("nhwcij,ijcd->nhwd", windows[:, ::stride, ::stride], kernel)


def batch_statistics(pixels):
    """{layer: (mean, var)} of the batch by channel, each layer normalised by the batch itself."""
    variables, found = small.variables(), {}
    x = forward(small.chain(), variables, small.PREPROCESSING.normalise(pixels), stop="stem")
    x = np.asarray(x, np.float64)
    for name, stride in BLOCKS.items():
        own = variables["params"][name]["conv"]
        x = convolved(x, own["kernel"], stride)
        found[name] = x.mean((0, 1, 2)), x.var((0, 1, 2))
        x = (x - found[name][0]) / np.sqrt(found[name][1] + 1e-5)
        x = np.maximum(x * own["norm"]["scale"] + own["norm"]["bias"], 0)
    return found


def first_epoch(mine):
    """The pixels of the batches of a run's first epoch, as they are, not augmented."""
    read = prefix.decoded(mine.task, mine.preprocessing).read
    options = {"views": (0,), "batch_size": mine.batch_size, "seed": (mine.seed, 0, 0)}
    order = loader.epoch_order(mine.task.splits["train"], **options)
    return [read(examples, numbers) for examples, numbers in zip(*order, strict=True)]


def with_norm(workdir, batch_norm, **options):
    tune = small.settings(batch_norm=batch_norm, epochs=1)
    chain = small.chain(frozen_dropout=0.0)
    return run(
        workdir, "fine_tune_top", tune=tune, from_layer="stage1_block1", chain=chain, **options
    )


def assert_statistics(variables, name, *, mean, var):
    found = variables["batch_stats"][name]["conv"]["norm"]
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["var"], var, rtol=1e-3, atol=1e-4)


def test_frozen_statistics_of_trained_layers(tmp_path):
    moved = differing(with_norm(tmp_path, "frozen")[1])
    assert moved == {"params": {*BLOCKS, "head"}, "batch_stats": set()}


def test_batch_statistics_move_the_running_ones(tmp_path):
    mine, variables, _ = with_norm(tmp_path, "batch", batch_size=64)  # an epoch is one step
    (pixels,) = first_epoch(mine)
    for name, (mean, var) in batch_statistics(pixels).items():
        old = small.variables()["batch_stats"][name]["conv"]["norm"]
        wanted = {"mean": 0.9 * old["mean"] + 0.1 * mean, "var": 0.9 * old["var"] + 0.1 * var}
        assert_statistics(variables, name, **wanted)


def test_recalibrated_statistics_are_the_mean_over_the_training_batches(tmp_path):
    mine, variables, _ = with_norm(tmp_path, "recalibrate")
    batches = [batch_statistics(pixels) for pixels in first_epoch(mine)]
    assert len(batches) == 4
    for name in BLOCKS:
        mean, var = np.mean([b[name] for b in batches], 0)
        assert_statistics(variables, name, mean=mean, var=var)
    assert differing(variables)["params"] == {*BLOCKS, "head"}
    assert differing(variables)["batch_stats"] == set(BLOCKS)


def test_the_shapes_of_a_state_are_those_of_the_first_one():
    mine = small.problem("head_then_fine_tune")
    phase, variables = mine.plan.phases[1], small.variables()
    recipe, survey, _ = asked(mine, phase, variables)
    begun, said = state.begin(recipe, survey, variables), state.shapes(recipe, survey, variables)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), begun) == jax.tree.map(
        lambda a: (a.shape, a.dtype), said
    )
    abstract = jax.eval_shape(lambda: variables)
    assert asked(mine, phase, abstract) == (recipe, survey, asked(mine, phase, variables).places)
    assert state.shapes(recipe, survey, abstract) == said
