"""Two processes, whose clocks and signals differ, make the same calls and stop at the same step."""

import functools
import os
import pathlib
import signal

import jax
import numpy as np
import pytest
import several
import small

from tl_jax import interrupt
from tl_jax.engine import prefix, processes
from tl_jax.engine.processes import agreed
from tl_jax.train import fold
from tl_jax.train import loop as train
from tl_jax.train.saving import Saver
from tl_jax.train.state import Progress, begin
from tl_jax.train.work import PhaseRun

QUICK, SLOW = 1e6, 0.0  # what a call may take, if nothing is too slow for it, or everything
NEVER, ALWAYS = 1e6, 0.0  # seconds between two checkpoints


def begun(way: str, batch_size: int = 6):
    """A phase of 40 steps on stored vectors, what it leaves as it is, and its first state."""
    mine = small.problem("head_only", task=small.task(400), batch_size=batch_size)
    rows = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    inputs = prefix.Inputs(
        lambda examples, views: rows[examples],
        "pool",
        "key",
        small.PREPROCESSING,
        stored=rows if way == "resident" else None,
        row=lambda examples, views: examples,
    )
    phase, variables = mine.plan.phases[0], small.variables()
    work = PhaseRun(mine, phase, 0, prefix.on_device(inputs, mine.parallel), variables)
    memory = fold.first_memory(work, variables, variables)
    fixed = mine.parallel.place(work.frozen(variables, variables, 0))
    return work, fixed, begin(work.recipe, work.survey, variables, memory)


def epoch(way: str, folder: pathlib.Path, call=QUICK, save=NEVER, signal_after: int = 0):
    """After which steps the state was offered, what was saved, what ended it, and the weights."""
    work, fixed, state = begun(way)
    saver = Saver(work.problem, small.variables(), folder, save)
    progress, offered, ended = Progress(), {}, ""
    train.CALL_SECONDS = call

    def offer(state):
        offered[progress.batch] = state
        saver.offer(progress, small.variables(), state, None)
        if progress.batch == signal_after:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        with interrupt.caught():
            train.train_epoch(work, fixed, state, progress, offer)
    except interrupt.Interrupted as error:
        ended = str(error)
    saved = sorted(path.name for path in saver.folder.glob("*"))
    return list(offered), saved, ended, jax.device_get([*offered.values()][-1].params)


def main(folder: pathlib.Path):
    """In each of two processes: epochs in which the second has other options than the first."""
    second = not processes.first()
    return {
        "devices": (jax.device_count(), jax.local_device_count()),
        "greatest": agreed(2 + processes.first()),
        "resident": epoch("resident", folder / "resident"),
        "slow": epoch("resident", folder / "slow", call=SLOW if second else QUICK),
        "stopped": epoch("resident", folder / "stopped", signal_after=3 * second),
        "streamed": epoch("streamed", folder / "streamed", save=ALWAYS if second else NEVER),
        "between": epoch("streamed", folder / "between", signal_after=16 * second),
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each of the two processes found."""
    return several.found("test_agreed", 2, tmp_path_factory.mktemp("both"))


@pytest.mark.slow
def test_processes_agree_on_the_greatest_wish_and_one_on_its_own(both):
    assert [(found["devices"], found["greatest"]) for found in both] == [((2, 1), 3)] * 2
    assert [agreed(wish) for wish in (0, False, signal.SIGTERM)] == [0, False, signal.SIGTERM]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "offered", "saved", "ended"),
    [
        ("resident", [1, 3, 7, 15, 31, 40], [], ""),
        ("slow", [*range(1, 41)], [], ""),  # though all is quick to the first
        ("stopped", [1, 3, 7], ["000001_step7"], "SIGTERM"),  # which only the second got
        ("streamed", [16, 32, 40], ["000002_step32", "000003_step40"], ""),
        ("between", [16, 32], ["000001_step32"], "SIGTERM"),
    ],
)
def test_they_make_the_same_calls_save_and_stop_after_the_same_steps(
    both, name, offered, saved, ended
):
    assert [found[name][:3] for found in both] == [(offered, saved, ended)] * 2
    jax.tree.map(np.testing.assert_array_equal, *(found[name][3] for found in both))


@pytest.mark.slow
@pytest.mark.parametrize(("way", "offered"), [("resident", 6), ("streamed", 40)])
def test_two_processes_train_to_what_one_does(both, tmp_path, monkeypatch, way, offered):
    monkeypatch.setattr(train, "CALL_SECONDS", QUICK)
    alone = epoch(way, tmp_path)
    assert len(alone[0]) == offered  # one process may save after each call
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, both[0][way][3], alone[3])
