"""Training: a plan's phases one after the other, each from its first batch to its best epoch.

`run` is the loop; read it downwards. The functions below it are its steps.
"""

import functools
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import tqdm

from tl_jax import progress as bars
from tl_jax.chain.programs import make_room
from tl_jax.chain.variables import between, merged
from tl_jax.data.expects import require_same
from tl_jax.engine import prefix
from tl_jax.engine.processes import agreed, stride
from tl_jax.plans.plan import Phase
from tl_jax.train import evaluate, fold
from tl_jax.train.inputs import asked
from tl_jax.train.objective import Objective
from tl_jax.train.problem import Problem
from tl_jax.train.saving import Saver, resume
from tl_jax.train.state import (
    Progress,
    begin,
    best_row,
    criterion,
    require_finite,
    shapes,
    snapshot,
    without_sums,
)
from tl_jax.train.step import State, evaluated
from tl_jax.train.work import PhaseRun, resident_program

# The time that one call of several steps may take, and a signal may have to wait. The clock decides
# how many steps one call runs and when to save. Neither changes a result, because each step is a
# function of its number. Several processes must make the same calls, so they agree (`agreed`) on
# what the clock and the signals of each say, and ask each other after the same steps.
CALL_SECONDS = 1.0


def run(
    problem: Problem,
    variables: Any,
    inputs_for: Callable[[Phase, Any], prefix.Inputs],
    *,
    workdir: pathlib.Path | None,
    checkpoint_seconds: float = 30.0,
    write: Callable[[dict], None] = lambda row: None,
) -> tuple[Any, Progress, prefix.Inputs]:
    """Train the plan's phases; return the best variables, what happened, and the last inputs.

    The run resumes from the newest whole checkpoint in `workdir`, if there is one; a kill costs at
    most the last `checkpoint_seconds` of work; without a `workdir` (None) nothing is kept. `write`
    gets each epoch's row, also those before a resume. UserError if a loss is not finite, and if the
    checkpoints belong to other data, another plan or seed, or other first weights; Interrupted,
    after saving everything, if a signal asked to stop.
    """
    make_room()  # a study has a process train a thousand times
    saver, anchor = Saver(problem, variables, workdir, checkpoint_seconds), variables
    progress, variables, state, best = resume(
        saver, variables, functools.partial(_shapes, problem, variables)
    )
    for row in progress.history:
        write(row)
    state_before, inputs = None, None
    for phase in problem.plan.phases[progress.phase :]:
        inputs = inputs_for(phase, variables)
        if inputs.preprocessing is not None:  # there are images
            require_same(task=inputs.preprocessing, base=problem.preprocessing)
        inputs = prefix.on_device(inputs, problem.parallel)
        work = PhaseRun(problem, phase, progress.phase, inputs, variables)
        progress.inputs[progress.phase :] = [inputs.described()]
        if state is None:
            variables = fold.recalibrated(work, variables)
            memory = fold.first_memory(work, variables, anchor)
            state = begin(work.recipe, work.survey, variables, memory, state_before)
            best = snapshot(work.recipe, state)
        done = progress.epoch * work.steps + progress.batch
        fixed = work.frozen(variables, anchor, int(state.step) - done)
        fixed = problem.parallel.place(fixed)
        while progress.epoch < phase.settings.epochs and not stops(
            phase, progress.rows(phase), problem.objective
        ):
            save = functools.partial(saver.offer, progress, variables, best=best)
            if progress.batch == 0:
                state = fold.refreshed(work, variables, anchor, state, progress.epoch)
            state, cost = train_epoch(work, fixed, state, progress, save)
            row = assess(work, variables, state, progress) | cost
            progress.history.append(row)
            if best_row(phase, progress.rows(phase), problem.objective) is row:
                best = snapshot(work.recipe, state)
            progress.epoch, progress.batch = progress.epoch + 1, 0
            state = without_sums(state)
            write(row)
        saver.offer(progress, variables, state, best, now=True)
        variables = merged(variables, between(variables, best, phase.settings.blend))
        progress.phase, progress.epoch, progress.batch = progress.phase + 1, 0, 0
        state_before, state = state, None
    assert inputs is not None  # a plan has phases, and no checkpoint is past the last one
    return variables, progress, inputs


def stops(phase: Phase, rows: list[dict], objective: Objective) -> bool:
    """Return whether the last `patience` epochs were no better than the best one before them.

    An epoch that equals the best is no better: a phase whose metric stays at one value stops.
    """
    patience, by = phase.settings.patience, criterion(phase, objective)
    if not patience or not rows or by == "last":
        return False
    best = best_row(phase, rows, objective)
    first = next(row for row in rows if row is best or row[by] == best[by])
    return rows[-1]["epoch"] - first["epoch"] >= patience


def _shapes(problem: Problem, variables: Any, number: int) -> tuple[Any, State]:
    recipe, survey, _ = asked(problem, problem.plan.phases[number], variables)
    return recipe.setup, shapes(recipe, survey, variables)


def train_epoch(
    work: PhaseRun, fixed: Any, state: State, progress: Progress, save: Callable[[State], None]
) -> tuple[State, dict]:
    """Run the epoch's remaining batches; return the state and what they cost.

    `save` gets the state after each call. `train_seconds` is the time for steps, waiting for
    batches and writing checkpoints, without compilation.
    """
    # Batches of named sources are joined on the host.
    from_device = work.inputs.resident is not None and not work.inputs.others
    advanced = resident if from_device else streamed
    states = advanced(work, fixed, work.problem.parallel.place(state), progress)
    first, compiled, started = progress.batch, work.compile_seconds, time.perf_counter()
    with _bar(work, progress) as bar:
        for state in states:
            bar.update(progress.batch * work.batch_size - bar.n)
            save(state)
    require_finite(state)
    compiled, steps = work.compile_seconds - compiled, progress.batch - first
    return state, {
        "compile_seconds": compiled,
        "train_seconds": time.perf_counter() - started - compiled,
        "steps": steps,
        "images": steps * work.batch_size,
    }


def streamed(work: PhaseRun, fixed: Any, state: State, progress: Progress) -> Iterator[State]:
    """Yield the state after each remaining batch of the epoch, whose arrays may not be ready yet.

    While a step runs, the next batch is read and put on the device. No more than one runs at a
    time, so that memory stays bounded and a signal is heeded soon. Several processes, which wait
    for each other at what is yielded, get the state after every few batches.
    """
    prefix_fn, every = work.prefix(fixed), stride()
    for batch in work.batches(progress.epoch, first=progress.batch):
        batch = work.problem.parallel.share(batch)
        work.finish(state)
        state = work.call(work.step, state, fixed, prefix_fn(batch))
        progress.batch += 1
        if progress.batch % every == 0 or progress.batch == work.steps:
            yield state


def resident(work: PhaseRun, fixed: Any, state: State, progress: Progress) -> Iterator[State]:
    """Yield the state after every few steps of the epoch, on the same batches as `streamed`.

    These steps are one call, without transfers between host and device. Each call runs twice as
    many steps as the one before as long as that was quick.
    """
    program, (source,) = resident_program(work.recipe), work.sources.values()
    seed = work.problem.seed, work.number, progress.epoch
    examples, numbers = source.order(*seed)
    rows = work.inputs.rows_of(examples, numbers)
    order = {"rows": np.int32(rows), "examples": np.int32(examples)}
    order = work.problem.parallel.share_columns(order)
    while progress.batch < work.steps:
        started = time.perf_counter()
        first, last = progress.batch, min(progress.batch + work.pace, work.steps)
        span = np.int32(first), np.int32(last)
        state = work.call(program, state, fixed, work.data, order, *span)
        jax.block_until_ready(state.step)
        slow = agreed(time.perf_counter() - started >= CALL_SECONDS / 2)
        work.pace = max(1, work.pace // 2) if slow else min(2 * work.pace, work.steps)
        progress.batch = last
        yield state


def assess(work: PhaseRun, variables: Any, state: State, progress: Progress) -> dict:
    """Return the epoch's row: mean training terms, learning rate, validation scores in view 0."""
    problem, setup = work.problem, work.recipe.setup
    now = merged(variables, evaluated(setup, state))
    val = {}
    if work.survey.scores:
        val = evaluate.scores(problem, now, work.inputs, problem.task.splits["val"])
    predicted = functools.partial(evaluate.predictions, problem, now, work.inputs)
    val |= problem.objective.watch(predicted, problem.task)
    # No loss has seen the epoch's last update. Check the weights too: oneDNN's ReLU and maximum can
    # turn a NaN from a layer below into a number.
    values = list(val.values()), state.params, state.batch_stats
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values)):
        require_finite(state._replace(bad=state.step))
    return {
        "phase": work.phase.name,
        "epoch": progress.epoch + 1,
        "step": int(state.step),
        **trained_terms(work, state),
        "learning_rate": float(work.learning_rate((progress.epoch + 1) * work.steps - 1)),
    } | {f"val_{name}": value for name, value in val.items()}


def trained_terms(work: PhaseRun, state: State) -> dict[str, float]:
    """Return the epoch's mean of every term, and `train_loss`, the sum of the minimised ones."""
    sums = {name: np.asarray(term, np.float64) for name, term in jax.device_get(state.sums).items()}
    means = {name: total / max(weight, 1e-9) for name, (total, weight, _) in sums.items()}
    loss = sum(sums[n][2] / max(sums[n][1], 1e-9) for n in work.survey.minimised)
    named = {f"train_{n}": float(m) for n, m in means.items() if n != "loss" or len(means) == 1}
    return named | {"train_loss": float(loss)}


def _bar(work: PhaseRun, progress: Progress) -> tqdm.tqdm:
    return bars.bar(
        f"{work.phase.name} {progress.epoch + 1}/{work.phase.settings.epochs}",
        total=work.steps * work.batch_size,
        initial=progress.batch * work.batch_size,
        unit="images" if work.problem.task.open is not None else "examples",
    )
