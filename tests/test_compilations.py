"""What a run costs beside its arithmetic: programs compiled, memory taken, arrays moved."""

import contextlib
import dataclasses
import itertools
import pathlib

import flax.linen as nn
import jax
import numpy as np
import pytest
import small

from tl_jax.chain import programs
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.tasks.arrays import from_arrays
from tl_jax.engine import prefix
from tl_jax.train import loop as train
from tl_jax.train import state
from tl_jax.train.inputs import for_plan
from tl_jax.train.work import PhaseRun, resident_program

COMPILED: list[str] = []


def _note(event: str, seconds: float, **_) -> None:
    if "backend_compile" in event:  # also where the program is then found on the disk
        COMPILED.append(event)


jax.monitoring.register_event_duration_secs_listener(_note)


@contextlib.contextmanager
def nothing_compiled():
    before = len(COMPILED)
    yield
    assert len(COMPILED) == before


SETTINGS = {"head": small.settings(epochs=3), "tune": small.settings(epochs=3, batch_norm="batch")}
# By the way that they step: vectors on the device, and pixels or features that are read.
PLANS = {"resident": "head_only", "streamed": "fine_tune_top", "both": "head_then_fine_tune"}


def problem(plan: str, **changes):
    return small.problem(PLANS[plan], **SETTINGS | {"chain": small.chain(dropout=0.25)} | changes)


def run(mine, folder, **options):
    """What is left of a run with a cache of its own."""
    inputs_for = for_plan(mine, test_views="none", cache=folder, dtype="float32")
    return train.run(mine, small.variables(), inputs_for, workdir=folder, **options)


def other_task():
    """Other images, and labels that are spread over the splits as they are."""
    task, rng = small.task(), np.random.default_rng(5)
    images = rng.integers(0, 255, (len(task.ids), small.SIZE, small.SIZE)).astype(np.uint8)
    return from_arrays("noise", images, task.labels, seed=0, val=0.2, test=0.2)


def test_what_compiles_is_seen():
    before = len(COMPILED)
    jax.jit(lambda x: x + 1)(np.zeros(3))
    assert len(COMPILED) == before + 1


class Own(nn.Module):
    """Multiplies by a parameter that no rule draws."""

    @nn.compact
    def __call__(self, x):
        return x * self.param("factor", nn.initializers.normal(), x.shape[-1:])


def test_layers_that_are_alike_are_initialised_by_one_program():
    first, second = (Network(tuple(Layer(n, Own()) for n in names)) for names in ("a", "bcdef"))
    first.init(0, (1, 5))
    with nothing_compiled():
        drawn = second.init(0, (1, 5))["params"]
    assert len({drawn[name]["factor"].tobytes() for name in "bcdef"}) == 5


@pytest.mark.parametrize("plan", ["resident", "streamed"])
def test_a_phase_compiles_nothing_after_its_first_epoch(plan, tmp_path):
    counts = []
    run(problem(plan), tmp_path, write=lambda row: counts.append(len(COMPILED)))
    assert len(counts) == 3 and len(set(counts)) == 1


@pytest.mark.parametrize("plan", PLANS)
def test_runs_of_equal_shapes_share_what_is_compiled(plan, tmp_path):
    first = run(problem(plan), tmp_path / "first")
    slower = {k: dataclasses.replace(s, learning_rate=3e-3) for k, s in SETTINGS.items()}
    other = problem(plan, seed=7, task=other_task(), **slower)
    with nothing_compiled():
        second = run(other, tmp_path / "second")
    pairs = zip(first[1].history, second[1].history, strict=True)
    assert all(a["train_loss"] != b["train_loss"] for a, b in pairs)


@pytest.mark.parametrize(
    "changes",
    [
        {"clip": 0.01},
        {"optimizer": "sgd"},
        {"optimizer": "adamw(b1=0.8)"},
        {"batch_norm": "batch"},
        {"leaves": "bias$"},
        {"accumulate": 2},
    ],
)
def test_a_program_is_shared_only_by_what_it_is_right_for(changes):
    inputs = prefix.decoded(small.task(), small.PREPROCESSING)
    steps = [
        PhaseRun(mine, mine.plan.phases[0], 0, inputs, small.variables()).step
        for mine in (
            small.problem("full", tune=small.settings()),
            small.problem("full", tune=small.settings(learning_rate=0.1, schedule="cosine")),
            small.problem("full", tune=small.settings(weight_decay=0.3, patience=1), seed=3),
            small.problem("full", tune=small.settings(**changes)),
            small.problem("full", tune=small.settings(), precision="bfloat16"),
            small.problem("discriminative", tune=small.settings()),
        )
    ]
    assert steps[0] is steps[1] is steps[2]  # what is data
    assert all(a is not b for a, b in itertools.combinations(steps[2:], 2))


def placed(plan: str, folder):
    """A phase, its program and what that takes beside the state, on the device."""
    mine = problem(plan)
    inputs_for = for_plan(mine, test_views="none", cache=folder, dtype="float32")
    phase, parallel = mine.plan.phases[0], mine.parallel
    inputs = prefix.on_device(inputs_for(phase, small.variables()), parallel)
    work = PhaseRun(mine, phase, 0, inputs, small.variables())
    fixed = parallel.place(work.frozen(small.variables(), small.variables(), 0))
    if plan == "streamed":
        return work, work.step, fixed, (parallel.share(next(work.batches(0))),)
    order = np.arange(32, dtype=np.int32).reshape(2, 16)
    rest = parallel.place((dict(rows=order, examples=order), np.int32(0), np.int32(2)))
    return work, resident_program(work.recipe), fixed, (work.data, *rest)


@pytest.mark.parametrize("plan", ["resident", "streamed"])
def test_a_step_takes_the_memory_of_the_state_before_it_and_moves_nothing(plan, tmp_path):
    work, program, fixed, rest = placed(plan, tmp_path)
    begun = state.begin(work.recipe, work.survey, small.variables())
    begun = work.problem.parallel.place(begun)
    compiled = program.lower(begun, fixed, *rest).compile()
    with jax.transfer_guard("disallow"):
        after = compiled(begun, fixed, *rest)
        after = compiled(after, fixed, *rest)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(begun))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((after, fixed, rest)))
    assert compiled.memory_analysis().alias_size_in_bytes >= sum(
        leaf.nbytes for leaf in jax.tree.leaves(after)
    )
    assert int(after.step) == (2 if plan == "streamed" else 4)


def test_programs_are_forgotten_before_a_process_has_no_memory_maps_left(monkeypatch, tmp_path):
    """As Linux lists them; the programs of other tests stay, because a recorder stands in."""
    forgotten = []
    monkeypatch.setattr(jax, "clear_caches", lambda: forgotten.append("all"))
    programs.make_room()
    maps = pathlib.Path("/proc/self/maps").read_text().count("\n")
    assert forgotten == ["all"] * (maps > programs.MOST_MAPS)
    monkeypatch.setattr(programs, "MOST_MAPS", 10)
    run(problem("resident"), tmp_path)
    assert forgotten[-1:] == ["all"]
