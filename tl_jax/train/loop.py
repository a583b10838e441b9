"""Training: a plan's phases one after the other, each from its first batch to its best epoch.

`run` is the loop, to be read downwards; the steps are beside it.
"""

import functools
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm

from tl_jax.chain.network import merged, select
from tl_jax.data import loader, views
from tl_jax.data.preprocessing import require_same
from tl_jax.engine import prefix
from tl_jax.ops import BatchNorm
from tl_jax.ops.cpu import heap
from tl_jax.plans.plan import Phase, Settings
from tl_jax.train import evaluate, optim
from tl_jax.train.state import (
    Network,
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

CALL_SECONDS = 1.0  # that one call of several steps may take: how late a signal is heeded
LARGE_TEMPORARIES = 2**26  # bytes that are worth waiting for, and far more than a batch


def run(
    problem: Problem,
    variables: Any,
    inputs_for: Callable[[Phase, Any], prefix.Inputs],
    *,
    workdir: pathlib.Path,
    checkpoint_seconds: float = 30.0,
    write: Callable[[dict], None] = lambda row: None,
) -> tuple[Any, Progress, prefix.Inputs]:
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
        inputs = prefix.on_device(inputs, problem.parallel)
        work = Work(problem, phase, progress.phase, inputs)
        progress.inputs[progress.phase :] = [inputs.described()]
        if state is None:
            variables = recalibrated(work, variables)
            state = begin(phase, variables, former)
            best = snapshot(state)
        fixed = problem.parallel.place(work.frozen(variables))
        while progress.epoch < phase.settings.epochs and not stops(phase, progress.rows(phase)):
            save = functools.partial(saver.offer, progress, variables, best=best)
            state, cost = train_epoch(work, fixed, state, progress, save)
            row = assess(work, fixed, state, progress) | cost
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


class Recipe(NamedTuple):
    """What a step is compiled for; runs that differ in seed, rates or data share the program."""

    network: Network
    start: str | None  # the layer whose output a step takes
    multipliers: tuple[tuple[str, float], ...]
    settings: Settings  # what of the phase's enters a step, at a constant rate of 1

    @property
    def phase(self) -> Phase:
        """A phase that trains so."""
        return Phase("step", dict(self.multipliers), self.settings)


def recipe(network: Network, phase: Phase, start: str | None) -> Recipe:
    """The recipe of a phase's steps."""
    own = phase.settings
    settings = Settings(
        epochs=1,
        learning_rate=1.0,
        schedule="constant",
        optimizer=own.optimizer,
        weight_decay=own.weight_decay,
        clip=own.clip,
        batch_norm=own.batch_norm,
    )
    return Recipe(network, start, tuple(phase.multipliers.items()), settings)


class Work:
    """A phase ready to run: what it reads and how it steps."""

    def __init__(self, problem: Problem, phase: Phase, number: int, inputs: prefix.Inputs):
        self.problem, self.phase, self.number, self.inputs = problem, phase, number, inputs
        self.examples = problem.task.splits["train"]
        self.batch_size = problem.parallel.batch_size(problem.batch_size, len(self.examples))
        self.steps = len(self.examples) // self.batch_size  # an epoch
        self.total = self.steps * phase.settings.epochs
        self.learning_rate = optim.schedule(phase.settings, self.total)
        self.above = tuple(layer.name for layer in problem.chain.between(inputs.start, None))
        # Of the frozen layers above the inputs a step takes the output as well: see `below`.
        self.recipe = recipe(problem.network, phase, phase.prefix or inputs.start)
        self.step = _step(self.recipe)
        self.compiled: Callable | None = None
        self.compile_seconds = 0.0
        self.temporaries = self.held = 0  # bytes: the program's, and in use before its last call
        self.pace = 1  # steps in one call, where inputs are on the device

    def frozen(self, variables: Any) -> Any:
        """What the phase needs and leaves as it is: layers not trained, random key, rates."""
        fixed = select(variables, [n for n in self.above if n not in self.phase.trained])
        key = jax.random.key_data(jax.random.key(self.problem.seed))
        rates = jax.vmap(self.learning_rate)(jnp.arange(self.total))
        return fixed | {"key": key, "rates": jnp.asarray(rates, jnp.float32)}

    def below(self, frozen: Any) -> Callable[[dict], dict]:
        """The function that makes of a batch what a step takes: runs the frozen layers of which
        the output is not stored.
        """
        ends = self.inputs.start, self.recipe.start
        if ends[0] == ends[1]:
            return lambda batch: batch
        layers = [layer.name for layer in self.problem.chain.between(*ends)]
        run = _below(self.problem.network, *ends)(select(frozen, layers))
        return lambda batch: batch | {"inputs": run(batch["inputs"])}

    @functools.cached_property
    def data(self) -> dict[str, jax.Array]:
        """All that batches are made of, on the device; for inputs that are there."""
        task = self.problem.task
        truth = {"targets": task.targets, "weights": task.weights}
        return {"rows": self.inputs.resident} | self.problem.parallel.place(truth)

    def order(self, epoch: int, *, augment: bool = True) -> dict[str, Any]:
        """What decides the epoch's batches: a function of seed, phase and epoch."""
        return {
            "views": views.count(self.phase.settings.views) if augment else 1,
            "batch_size": self.batch_size,
            "seed": (self.problem.seed, self.number, epoch),
        }

    def batches(self, epoch: int, *, first: int = 0, augment: bool = True) -> Iterator[dict]:
        """The epoch's training batches from `first` on, on the host."""
        task, order = self.problem.task, self.order(epoch, augment=augment)
        for batch in loader.epoch(self.inputs.read, self.examples, first=first, **order):
            yield {
                "inputs": batch.inputs,
                "targets": task.targets[batch.indices],
                "weights": task.weights[batch.indices],
            }

    def call(self, program: Callable, *args: Any) -> State:
        """The phase's one program on such arrays; compiles it the first time."""
        if self.compiled is None:
            started = time.perf_counter()
            self.compiled = program.lower(*args).compile()
            self.compile_seconds = time.perf_counter() - started
            if jax.default_backend() == "cpu":
                self.temporaries = self.compiled.memory_analysis().temp_size_in_bytes
        self.held = heap.in_use()
        return self.compiled(*args)

    def finish(self, state: State) -> None:
        """Wait for the call that gives `state`, and until it has given back its temporaries."""
        jax.block_until_ready(state.loss)
        if self.temporaries >= LARGE_TEMPORARIES:
            heap.wait(self.held + self.temporaries // 2, seconds=0.01)


@functools.lru_cache(maxsize=8)
def _below(network: Network, start: str | None, stop: str) -> Callable:
    def forward(variables, x):
        return network.apply(variables, x, start, stop=stop).output

    return network.parallel.map(forward)


def train_step(recipe: Recipe, state: State, frozen: Any, batch: dict) -> State:
    """One update from a batch {inputs (B, ...), targets (B, C), weights (B,)}.

    Gradients are taken of the trained layers alone, so nothing that is done to gradients can reach
    the frozen ones or bring their backward pass back.
    """
    network, phase = recipe.network, recipe.phase
    normed = phase.trained if phase.settings.batch_norm == "batch" else ()
    key = jax.random.fold_in(jax.random.wrap_key_data(frozen["key"]), state.step)

    def weighted_loss(params):
        variables = merged(frozen, {"params": params, "batch_stats": state.batch_stats})
        applied = network.apply(
            variables,
            batch["inputs"],
            recipe.start,
            train=phase.trained,
            batch_norm=normed,
            rng=network.parallel.key(key),
        )
        losses = optax.softmax_cross_entropy(applied.output.astype(jnp.float32), batch["targets"])
        loss = (losses * batch["weights"]).sum()
        # Divided here and not in the gradients, where it would be one more pass over each.
        return loss / weight, (loss, applied.batch_stats)

    weight = network.parallel.sum(batch["weights"].sum())
    gradients, (loss, stats) = jax.grad(weighted_loss, has_aux=True)(state.params)
    loss, gradients = network.parallel.sum((loss, gradients))
    updates, optimizer = optim.transformation(phase, 1).update(
        gradients, state.optimizer, state.params
    )
    rate = frozen["rates"][state.optimizer[-1].count]  # the last link counts the phase's steps
    return State(
        params=optax.apply_updates(state.params, jax.tree.map(lambda u: rate * u, updates)),
        batch_stats={name: stats[name] for name in state.batch_stats},
        optimizer=optimizer,
        step=state.step + 1,
        loss=state.loss + loss,
        weight=state.weight + weight,
        bad=jnp.where((state.bad < 0) & ~_finite(loss, gradients), state.step, state.bad),
    )


def _finite(loss: Any, gradients: Any) -> Any:
    """Whether the loss and the gradients of biases and norms are.

    What is not a number in a layer shows in those at little cost; from the loss a ReLU or maximum
    of oneDNN's further up may hide it.
    """
    sums = [g.sum() for g in jax.tree.leaves(gradients) if g.ndim < 2]
    return jnp.isfinite(jnp.stack([loss, *(s.astype(loss.dtype) for s in sums)])).all()


def resident_steps(
    recipe: Recipe, state: State, frozen: Any, data: dict, order: dict, first: Any, last: Any
) -> State:
    """The steps `first` to `last` - 1 of an epoch, from arrays that are on the device.

    `data`: rows (R, D) and the N examples' targets (N, C) and weights (N,). `order`: which of the
    rows and examples are in each of the S batches, (S, B) each.
    """

    def one(number, state):
        rows, examples = order["rows"][number], order["examples"][number]
        taken = {name: data[name][examples] for name in ("targets", "weights")}
        return train_step(recipe, state, frozen, {"inputs": data["rows"][rows], **taken})

    return jax.lax.fori_loop(first, last, one, state)


@functools.lru_cache(maxsize=8)  # one for all runs of a recipe, so that the second compiles nothing
def _step(recipe: Recipe) -> Callable:
    return recipe.network.parallel.step(functools.partial(train_step, recipe))


@functools.lru_cache(maxsize=8)
def _resident_steps(recipe: Recipe) -> Callable:
    return recipe.network.parallel.resident_steps(functools.partial(resident_steps, recipe))


def train_epoch(
    work: Work, frozen: Any, state: State, progress: Progress, save: Callable[[State], None]
) -> tuple[State, dict]:
    """The epoch's remaining batches; `save` is offered the state every now and then.

    Also gives what it cost. `train_seconds` is the time that passed: steps, waiting for batches and
    writing checkpoints, but not compiling.
    """
    advanced = streamed if work.inputs.resident is None else resident
    states = advanced(work, frozen, work.problem.parallel.place(state), progress)
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


def streamed(work: Work, frozen: Any, state: State, progress: Progress) -> Iterator[State]:
    """The state after each remaining batch of the epoch; its arrays may be still to come.

    While a step runs, the next batch is read and put on the device. No more than one runs at a
    time, so that memory stays bounded and a signal is heeded soon.
    """
    below = work.below(frozen)
    for batch in work.batches(progress.epoch, first=progress.batch):
        batch = work.problem.parallel.share(batch)
        work.finish(state)
        state = work.call(work.step, state, frozen, below(batch))
        progress.batch += 1
        yield state


def resident(work: Work, frozen: Any, state: State, progress: Progress) -> Iterator[State]:
    """The state after every few steps of the epoch, in batches as `streamed` has them.

    They are one call, in which nothing goes to the device and back; each call takes twice as many
    steps as the one before as long as that was quick.
    """
    program = _resident_steps(work.recipe)
    examples, numbers = loader.epoch_order(work.examples, **work.order(progress.epoch))
    order = {"rows": np.int32(work.inputs.row(examples, numbers)), "examples": np.int32(examples)}
    while progress.batch < work.steps:
        started = time.perf_counter()
        first, last = progress.batch, min(progress.batch + work.pace, work.steps)
        span = np.int32(first), np.int32(last)
        state = work.call(program, state, frozen, work.data, order, *span)
        jax.block_until_ready(state.loss)
        quick = time.perf_counter() - started < CALL_SECONDS / 2
        work.pace = min(2 * work.pace, work.steps) if quick else max(1, work.pace // 2)
        progress.batch = last
        yield state


def assess(work: Work, frozen: Any, state: State, progress: Progress) -> dict:
    """The epoch's row: mean training loss, learning rate, validation in view 0."""
    problem, val = work.problem, work.problem.task.splits["val"]
    now = merged(frozen, {"params": state.params, "batch_stats": state.batch_stats})
    probs = evaluate.probabilities(problem, now, work.inputs, val)
    # After the epoch's last update, so no loss has shown it. The weights are looked at as well:
    # a ReLU or maximum of oneDNN's, further up, would hide what is not a number.
    found = probs, state.params, state.batch_stats
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found)):
        require_finite(state._replace(bad=state.step))
    scores = evaluate.brief_score(problem.task, val, probs)
    return {
        "phase": work.phase.name,
        "epoch": progress.epoch + 1,
        "step": int(state.step),
        "train_loss": float(state.loss / state.weight),
        "learning_rate": float(work.learning_rate((progress.epoch + 1) * work.steps - 1)),
    } | {f"val_{name}": value for name, value in scores.items()}


def recalibrated(work: Work, variables: Any) -> Any:
    """If the phase asks for it, the trained layers' statistics re-estimated on the training data.

    The mean over one epoch of the batches' statistics, as in Li et al. 2018 (AdaBN); every batch
    is seen in view 0 and normalised by itself.
    """
    if work.phase.settings.batch_norm != "recalibrate":
        return variables
    parallel, step = work.problem.parallel, _statistics_step(work.recipe)
    fixed = parallel.place(select(variables, work.above))
    stats = select(variables, work.phase.trained)["batch_stats"]
    total = parallel.place(jax.tree.map(np.zeros_like, stats))
    below = work.below(fixed)
    for batch in work.batches(0, augment=False):
        total = step(total, fixed, below(parallel.share(batch)))
    scale = 1 / (work.steps * (1 - BatchNorm.momentum))
    mean = jax.tree.map(lambda t: np.asarray(t) * np.float32(scale), total)
    return merged(variables, {"params": {}, "batch_stats": mean})


@functools.lru_cache(maxsize=8)
def _statistics_step(recipe: Recipe) -> Callable:
    trained = recipe.phase.trained

    def add(total, fixed, batch):
        # From zero, one update leaves (1 - momentum) times the batch's own statistics.
        zeroed = merged(fixed, {"params": {}, "batch_stats": jax.tree.map(jnp.zeros_like, total)})
        network, inputs = recipe.network, batch["inputs"]
        applied = network.apply(zeroed, inputs, recipe.start, batch_norm=trained)
        return {n: jax.tree.map(jnp.add, total[n], applied.batch_stats[n]) for n in total}

    return recipe.network.parallel.step(add)


def _bar(work: Work, progress: Progress) -> tqdm.tqdm:
    return tqdm.tqdm(
        desc=f"{work.phase.name} {progress.epoch + 1}/{work.phase.settings.epochs}",
        total=work.steps * work.batch_size,
        initial=progress.batch * work.batch_size,
        unit="img",
        leave=False,
    )
