"""Training: a plan's phases one after the other, each from its first batch to its best epoch.

`run` is the loop, to be read downwards; the steps are beside it.
"""

import functools
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm

from tl_jax import evaluate, optim
from tl_jax.chain import merged, select
from tl_jax.data import loader, views
from tl_jax.ops import BatchNorm
from tl_jax.parallel import Parallel
from tl_jax.plan import Phase
from tl_jax.prefix import Inputs
from tl_jax.preprocessing import require_same
from tl_jax.state import (
    Problem,
    Progress,
    Saver,
    State,
    begin,
    best_row,
    require_finite,
    resume,
    snapshot,
)


def run(
    problem: Problem,
    variables: Any,
    inputs_for: Callable[[Phase, Any], Inputs],
    *,
    workdir: pathlib.Path,
    checkpoint_seconds: float = 30.0,
    write: Callable[[dict], None] = lambda row: None,
) -> tuple[Any, Progress, Inputs]:
    """Train the plan's phases; gives the best variables, what happened, and the last inputs.

    Goes on from the newest whole checkpoint in `workdir`, if there is one; a kill costs at most the
    last `checkpoint_seconds` of work. `write` gets each epoch's row, those before a resume too.
    UserError if a loss is not finite; Interrupted, with everything saved, if a signal came.
    """
    saver = Saver(workdir, checkpoint_seconds)
    progress, variables, state, best = resume(saver.folder, problem.plan, variables)
    for row in progress.history:
        write(row)
    former, inputs = None, None
    for phase in problem.plan.phases[progress.phase :]:
        inputs = inputs_for(phase, variables)
        require_same(task=inputs.preprocessing, base=problem.preprocessing)
        work = Work(problem, phase, progress.phase, inputs)
        progress.inputs[progress.phase :] = [inputs.described()]
        if state is None:
            variables = recalibrated(work, variables)
            state = begin(phase, variables, former)
            best = snapshot(state)
        while progress.epoch < phase.settings.epochs and not stops(phase, progress.rows(phase)):
            save = functools.partial(saver.offer, progress, variables, best=best)
            state, cost = train_epoch(work, variables, state, progress, save)
            row = assess(work, variables, state, progress) | cost
            progress.history.append(row)
            if best_row(phase, progress.rows(phase)) is row:
                best = snapshot(state)
            progress.epoch, progress.batch = progress.epoch + 1, 0
            state = state._replace(loss=jnp.zeros(()), weight=jnp.zeros(()))
            write(row)
        saver.offer(progress, variables, state, best, now=True)
        variables = merged(variables, best)
        progress.phase, progress.epoch, progress.batch = progress.phase + 1, 0, 0
        former, state = state, None
    return variables, progress, inputs


def stops(phase: Phase, rows: list[dict]) -> bool:
    """Whether the last `patience` epochs were no better than one before them."""
    since_best = rows[-1]["epoch"] - best_row(phase, rows)["epoch"] if rows else 0
    return 0 < phase.settings.patience <= since_best


class Work:
    """A phase ready to run: what it reads and how it steps."""

    def __init__(self, problem: Problem, phase: Phase, number: int, inputs: Inputs):
        self.problem, self.phase, self.number, self.inputs = problem, phase, number, inputs
        self.examples = problem.task.splits["train"]
        self.batch_size = problem.parallel.batch_size(problem.batch_size, len(self.examples))
        self.steps = len(self.examples) // self.batch_size  # an epoch
        total = self.steps * phase.settings.epochs
        self.optimizer = optim.transformation(phase, total)
        self.learning_rate = optim.schedule(phase.settings, total)
        self.above = tuple(layer.name for layer in problem.chain.between(inputs.start, None))
        self.step = problem.parallel.step(functools.partial(train_step, self))
        self.compiled: Callable | None = None

    def frozen(self, variables: Any) -> Any:
        """What a step needs of the layers that it does not train."""
        return select(variables, [n for n in self.above if n not in self.phase.trained])

    def batches(self, epoch: int, *, first: int = 0, augment: bool = True) -> Iterator[dict]:
        """The epoch's training batches from `first` on: a function of seed, phase and epoch."""
        task = self.problem.task
        for batch in loader.epoch(
            self.inputs.read,
            self.examples,
            views=views.count(self.phase.settings.views) if augment else 1,
            batch_size=self.batch_size,
            seed=(self.problem.seed, self.number, epoch),
            first=first,
        ):
            yield {
                "inputs": batch.inputs,
                "targets": task.targets[batch.indices],
                "weights": task.weights[batch.indices],
            }


def train_step(work: Work, state: State, frozen: Any, batch: dict) -> State:
    """One update from a batch {inputs (B, ...), targets (B, C), weights (B,)}.

    Gradients are taken of the trained layers alone, so nothing that is done to gradients can reach
    the frozen ones or bring their backward pass back.
    """
    problem, trained, start = work.problem, work.phase.trained, work.inputs.start
    normed = trained if work.phase.settings.batch_norm == "batch" else ()

    def weighted_loss(params):
        variables = merged(frozen, {"params": params, "batch_stats": state.batch_stats})
        applied = problem.chain.apply(
            problem.cast(variables),
            problem.network_input(batch["inputs"], start),
            start=start,
            train=trained,
            batch_norm=normed,
            rng=problem.parallel.key(jax.random.fold_in(jax.random.key(problem.seed), state.step)),
        )
        losses = optax.softmax_cross_entropy(applied.output.astype(jnp.float32), batch["targets"])
        return (losses * batch["weights"]).sum(), applied.batch_stats

    (loss, stats), gradients = jax.value_and_grad(weighted_loss, has_aux=True)(state.params)
    loss, weight, gradients = problem.parallel.sum((loss, batch["weights"].sum(), gradients))
    gradients = jax.tree.map(lambda g: g / weight, gradients)
    updates, optimizer = work.optimizer.update(gradients, state.optimizer, state.params)
    return State(
        params=optax.apply_updates(state.params, updates),
        batch_stats={name: stats[name] for name in state.batch_stats},
        optimizer=optimizer,
        step=state.step + 1,
        loss=state.loss + loss,
        weight=state.weight + weight,
        bad=jnp.where((state.bad < 0) & ~jnp.isfinite(loss), state.step, state.bad),
    )


def train_epoch(
    work: Work, variables: Any, state: State, progress: Progress, save: Callable[[State], None]
) -> tuple[State, dict]:
    """The epoch's remaining batches; `save` is offered the state after each. Gives what it cost."""
    parallel: Parallel = work.problem.parallel
    frozen = parallel.place(work.frozen(variables))
    state = parallel.place(state)
    cost = {"compile_seconds": 0.0, "train_seconds": 0.0, "steps": 0, "images": 0}
    with _bar(work, progress) as bar:
        for batch in work.batches(progress.epoch, first=progress.batch):
            batch = parallel.share(batch)
            started = time.perf_counter()
            if work.compiled is None:
                work.compiled = work.step.lower(state, frozen, batch).compile()
                cost["compile_seconds"] = time.perf_counter() - started
                started = time.perf_counter()
            state = work.compiled(state, frozen, batch)
            jax.block_until_ready(state.loss)
            cost["train_seconds"] += time.perf_counter() - started
            cost["steps"] += 1
            cost["images"] += work.batch_size
            progress.batch += 1
            bar.update(work.batch_size)
            save(state)
    require_finite(state)
    return state, cost


def assess(work: Work, variables: Any, state: State, progress: Progress) -> dict:
    """The epoch's row: mean training loss, learning rate, validation in view 0."""
    problem, val = work.problem, work.problem.task.splits["val"]
    now = merged(variables, {"params": state.params, "batch_stats": state.batch_stats})
    probs = evaluate.probabilities(problem, now, work.inputs, val)
    if not np.isfinite(probs).all():  # after the epoch's last update, so no loss has shown it
        require_finite(state._replace(bad=state.step))
    scores = evaluate.score(problem.task, val, probs)
    return {
        "phase": work.phase.name,
        "epoch": progress.epoch + 1,
        "step": int(state.step),
        "train_loss": float(state.loss / state.weight),
        "learning_rate": float(work.learning_rate((progress.epoch + 1) * work.steps - 1)),
    } | {f"val_{k}": scores[k] for k in ("loss", "accuracy", "weighted_accuracy")}


def recalibrated(work: Work, variables: Any) -> Any:
    """If the phase asks for it, the trained layers' statistics re-estimated on the training data.

    The mean over one epoch of the batches' statistics, as in Li et al. 2018 (AdaBN); every batch
    is seen in view 0 and normalised by itself.
    """
    if work.phase.settings.batch_norm != "recalibrate":
        return variables
    problem, trained, start = work.problem, work.phase.trained, work.inputs.start
    fixed = problem.parallel.place(select(variables, work.above))
    stats = select(variables, trained)["batch_stats"]

    def add(total, fixed, batch):
        x = problem.network_input(batch["inputs"], start)
        # From zero, one update leaves (1 - momentum) times the batch's own statistics.
        zeroed = merged(fixed, {"params": {}, "batch_stats": jax.tree.map(jnp.zeros_like, total)})
        applied = problem.chain.apply(problem.cast(zeroed), x, start=start, batch_norm=trained)
        return {n: jax.tree.map(jnp.add, total[n], applied.batch_stats[n]) for n in total}

    step = problem.parallel.step(add)
    total = problem.parallel.place(jax.tree.map(np.zeros_like, stats))
    for batch in work.batches(0, augment=False):
        total = step(total, fixed, problem.parallel.share(batch))
    scale = 1 / (work.steps * (1 - BatchNorm.momentum))
    mean = jax.tree.map(lambda t: np.asarray(t) * np.float32(scale), total)
    return merged(variables, {"params": {}, "batch_stats": mean})


def _bar(work: Work, progress: Progress) -> tqdm.tqdm:
    return tqdm.tqdm(
        desc=f"{work.phase.name} {progress.epoch + 1}/{work.phase.settings.epochs}",
        total=work.steps * work.batch_size,
        initial=progress.batch * work.batch_size,
        unit="img",
        leave=False,
    )
