"""A phase ready to run: its inputs, its batches and its compiled step."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.chain import programs
from tl_jax.chain import variables as leaves_of
from tl_jax.chain.network import Net
from tl_jax.chain.places import Known
from tl_jax.chain.variables import select
from tl_jax.data import loader, views
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.data.task import Task
from tl_jax.engine.prefix import Inputs
from tl_jax.ops.cpu import heap
from tl_jax.plans.plan import Phase
from tl_jax.train import optim
from tl_jax.train.inputs import asked
from tl_jax.train.problem import Problem, Setup
from tl_jax.train.step import Recipe, State, update
from tl_jax.train.survey import taken_out

LARGE_TEMPORARIES = 2**26  # bytes worth waiting for; far more than a batch


class Source(NamedTuple):
    """The data that a phase reads of one source."""

    task: Task
    inputs: Inputs
    batch_size: int
    views: tuple[int, ...]  # batches draw examples in these views
    classes: np.ndarray | None = None  # of the training examples, if each is drawn as often

    def batch(self, examples: np.ndarray, numbers: np.ndarray) -> dict[str, Any]:
        """Return inputs and truth of examples (B,) in their views (B,), on the host."""
        truth = {name: array[examples] for name, array in self.task.truth.items()}
        preprocessing = self.inputs.preprocessing
        if self.task.asks == "boxes" and isinstance(preprocessing, Preprocessing):
            truth = views.of_boxes(truth, numbers, preprocessing.size)
        return {"inputs": self.inputs.known(examples, numbers), **truth}

    def order(self, *seed: int, augment: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Return examples and views, (S, B) each, of an epoch's batches."""
        return loader.epoch_order(
            self.task.splits["train"],
            views=self.views if augment else (0,),
            batch_size=self.batch_size,
            seed=seed,
            ordered=self.task.ordered,
            classes=self.classes,
        )


class PhaseRun:
    """A phase ready to run on its inputs."""

    def __init__(self, problem: Problem, phase: Phase, number: int, inputs: Inputs, variables: Any):
        self.problem, self.phase, self.number, self.inputs = problem, phase, number, inputs
        self.recipe, self.survey, places = asked(problem, phase, variables)
        inputs_of = inputs.others or {"": inputs}
        numbers = views.numbers(phase.settings.views)
        sizes, classes = problem.batch_sizes, problem.drawn_classes(phase)
        self.sources = {
            name: Source(
                task,
                inputs_of[name],
                sizes[name],
                numbers if task.open is not None else (0,),
                classes,
            )
            for name, task in problem.trained_on.items()
        }
        self.batch_size = next(iter(sizes.values()))
        self.steps = problem.epoch_steps
        self.total = self.steps * phase.settings.epochs
        self.learning_rate: Callable[[Any], Any] = optim.schedule(phase.settings, self.total)
        # A step starts at this place, above all frozen layers, whether or not it is stored.
        self.start = next(iter(places.found), None)
        self.layers = self._layers()
        self.step = _step(self.recipe)
        self.compiled: Callable | None = None
        self.compile_seconds = 0.0
        self.temporaries = 0  # bytes of the program
        self.pace = 1  # steps in one call, where inputs are on the device

    def _layers(self) -> tuple[str, ...]:
        """Return the layers whose weights the phase needs: none below stored outputs."""
        network, stored = self.problem.chain, self.inputs.start
        needed = set(self.survey.layers) | (network.below[self.start] if self.start else set())
        below = network.below[stored] if stored else frozenset()
        return network.weights(n for n in network.names if n in needed - below)

    def frozen(self, variables: Any, anchor: Any, first: int) -> dict[str, Any]:
        """Return the values that the phase reads and does not change: see `step.update`."""
        trained = self.recipe.of_trained(variables)
        rest = select(variables, self.layers)
        stats = {n: s for n, s in rest["batch_stats"].items() if n not in self.recipe.trained}
        moving = leaves_of.flat(trained["params"])
        flat = {p: a for p, a in leaves_of.flat(rest["params"]).items() if p not in moving}
        key = jax.random.key_data(jax.random.key(self.problem.seed))
        rates = jax.vmap(self.learning_rate)(jnp.arange(self.total))
        fixed = {
            "params": leaves_of.nested(flat),
            "batch_stats": stats,
            "key": key,
            "rates": jnp.asarray(rates, jnp.float32),
            "first": np.int32(first),
            "decay": np.float32(self.phase.settings.weight_decay),
        }
        if self.survey.anchor:
            fixed["anchor"] = select(anchor, self.layers)
        return fixed

    def prefix(self, fixed: Any) -> Callable[[dict], dict]:
        """Return a function that runs the uncached frozen layers on a raw batch and yields the
        step's input.
        """
        network, start = self.problem.chain, self.start
        if start is None or self.recipe.augment is not None or self.inputs.place == start:
            return lambda batch: batch
        names = [n for n in network.names if n in network.below[start]]
        run = _prefix(self.problem.setup, start)(select(fixed, names))

        def known(node: Any) -> Any:
            if not isinstance(node, Known):
                return node
            rest = taken_out(network, node, start)
            return Known({**rest, start: run(Known({n: node[n] for n in node if n not in rest}))})

        return lambda batch: jax.tree.map(known, batch, is_leaf=_is_known)

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """The arrays that batches are taken from, on the device; inputs must be there already."""
        place = self.problem.parallel.place
        (source,) = self.sources.values()
        by_example = {"arrays": dict(self.inputs.arrays), "truth": dict(source.task.truth)}
        return {"rows": {self.inputs.place: self.inputs.resident}} | place(by_example)

    def batches(
        self, epoch: int, *, first: int = 0, augment: bool = True, whole: bool = False
    ) -> Iterator[Any]:
        """Yield the epoch's training batches from `first` on, on the host.

        Each of several processes reads its own rows of them for `share`, or the `whole` batch.
        Batches are a function of seed, phase and epoch. Each source has an order of its own: in one
        order, sources of equally many examples, sorted alike, would give each batch the same
        classes. Sources that are shorter than the first start again, each time in another order.
        """
        seed = self.problem.seed, self.number, epoch
        orders = {}
        for number, (name, source) in enumerate(self.sources.items()):
            rounds, drawn = 0, []
            while sum(len(examples) for examples, _ in drawn) < self.steps:
                again = (rounds, number) if rounds or number else ()
                drawn.append(source.order(*seed, *again, augment=augment))
                rounds += 1
            mine = slice(None) if whole else self.problem.parallel.rows(source.batch_size)
            orders[name] = [np.concatenate(parts)[:, mine] for parts in zip(*drawn, strict=True)]

        def batch(step: int) -> Any:
            of_sources = {
                name: source.batch(orders[name][0][step], orders[name][1][step])
                for name, source in self.sources.items()
            }
            return of_sources.get("", of_sources)

        return loader.read_ahead(range(first, self.steps), batch)

    def call(self, program: jax.stages.Wrapped, *args: Any) -> State:
        """Return the result of the phase's one program, which the first call compiles."""
        if self.compiled is None:
            started = time.perf_counter()
            self.compiled = program.lower(*args).compile()
            self.compile_seconds = time.perf_counter() - started
            if jax.default_backend() == "cpu":
                used: Any = self.compiled.memory_analysis()
                self.temporaries = used.temp_size_in_bytes
        return self.compiled(*args)

    def finish(self, state: State) -> None:
        """Wait for the call that returns `state`, and until its temporary memory is released."""
        jax.block_until_ready(state.step)
        if self.temporaries >= LARGE_TEMPORARIES:
            heap.await_release()


def resident_steps(
    recipe: Recipe, state: State, fixed: Any, data: dict, order: dict, first: Any, last: Any
) -> State:
    """Run the steps `first` to `last` - 1 of an epoch from arrays on the device.

    `data` holds the stored "rows" (R, D) and the other inputs' "arrays" (N, ...) by place, and the
    "truth" (N, ...) by name. `order` holds the numbers of the "rows" and "examples" of the S
    batches, (S, B) each.
    """

    def one(number, state):
        return update(recipe, state, fixed, taken(data, {n: o[number] for n, o in order.items()}))

    return jax.lax.fori_loop(first, last, one, state)


def taken(data: dict, order: dict) -> dict[str, Any]:
    """Return the batch of these data that has the "rows" and "examples" (B,) of `order`."""
    known = {place: rows[order["rows"]] for place, rows in data["rows"].items()}
    known |= {place: array[order["examples"]] for place, array in data["arrays"].items()}
    truth = {name: array[order["examples"]] for name, array in data["truth"].items()}
    return {"inputs": Known(known), **truth}


@functools.lru_cache(maxsize=programs.KEPT)
def _prefix(setup: Setup, stop: str) -> Callable:
    def forward(fixed, known):
        params = setup.cast(fixed["params"])
        return Net(setup.network, params, fixed["batch_stats"], prepare=setup.prepare)(known, stop)

    return setup.parallel.map(forward)


@functools.lru_cache(maxsize=programs.KEPT)  # so that a second run of a recipe compiles nothing
def _step(recipe: Recipe) -> jax.stages.Wrapped:
    return recipe.setup.parallel.step(functools.partial(update, recipe))


@functools.lru_cache(maxsize=programs.KEPT)
def resident_program(recipe: Recipe) -> jax.stages.Wrapped:
    """Return the compiled `resident_steps` of a recipe."""
    return recipe.setup.parallel.resident_steps(functools.partial(resident_steps, recipe))


def _is_known(node: Any) -> bool:
    return isinstance(node, Known)
