"""A base from images without labels: a chain that a self-supervised objective trains."""

import dataclasses
import functools
import logging
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tl_jax.base import file
from tl_jax.base.base import Base
from tl_jax.chain.variables import merged, select
from tl_jax.data.task import Task
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError, takes_whole
from tl_jax.plans.plan import Phase, Plan
from tl_jax.report import page
from tl_jax.runs import folder, log, pretrain_page, results, settings, subject
from tl_jax.stats import representation
from tl_jax.train import evaluate, identity, loop, objectives
from tl_jax.train.inputs import asked, for_plan
from tl_jax.train.objectives import OBJECTIVES
from tl_jax.train.objectives.self_supervised import SelfSupervised
from tl_jax.train.problem import Problem

logger = logging.getLogger(__name__)

# Below these, features or embeddings have collapsed. Untrained networks lie above all three.
COLLAPSED = {"train_spread": 0.1, "val_spread": 0.01, "val_rank": 1.5}
SHOWN, NEAREST = 6, 7  # images of val on the page, and training images beside each


class Posed(NamedTuple):
    """A pretraining that is ready to begin."""

    problem: Problem
    base: Base  # cut below its classifier
    variables: dict[str, Any]  # the base's, and the tails'


def by_config(config: Any, workdir: pathlib.Path, *, name: str) -> tuple[dict[str, Any], bool]:
    """The result of a pretraining as `configs.pretrain` says, and whether it had been done before.

    UserError for an objective that learns from labels, and for one that cannot learn from this
    task, batch or augmentation.
    """
    task = subject.task_of(config, config.seed)
    base = functools.cache(lambda: subject.base_of(config))
    return folder.finished(
        lambda: work(base(), task, workdir, config, name=name),
        config.to_dict(),
        workdir,
        cache=config.cache,
        check=lambda: posed(base(), task, config),
        data=lambda: identity.of_tasks({"": task}),
        images=subject.folders_of(config),
        needs_report=False,
    )


def work(
    base: Base, task: Task, workdir: pathlib.Path, config: Any, *, name: str
) -> dict[str, Any]:
    """Train the base on the task's images; keep it in `workdir` and return what came of it."""
    started = time.monotonic()
    problem, ready, first = posed(base, task, config)
    logger.info("%s", log.described(problem.task))
    variables, progress, inputs = loop.run(
        problem,
        first,
        for_plan(problem, test_views="none", cache=config.cache or None, dtype="float32"),
        workdir=workdir,
        checkpoint_seconds=config.checkpoint_seconds,
        write=_warning(log.writer(workdir)),
    )
    final = dataclasses.replace(ready, variables=select(variables, ready.layers))
    final.save(workdir / file.NAME)

    def predicted(weights: Any) -> Callable[[np.ndarray], np.ndarray]:
        return lambda examples: evaluate.predictions(problem, weights, inputs, examples)

    result = {
        "name": name,
        "seed": config.seed,
        "config": config.to_dict(),
        "base": {"name": base.name, "weights": base.weights, "layers": list(ready.layers)},
        "task": {
            "name": task.name,
            "classes": list(task.classes),
            "images": {split: len(rows) for split, rows in problem.task.splits.items()},
        },
        "history": progress.history,
        "before": problem.objective.watch(predicted(first), problem.task),
        "after": problem.objective.watch(predicted(variables), problem.task),
        "collapsed": collapse(progress.history[-1]),
        "seconds": time.monotonic() - started,
        **results.provenance("pretrain"),
    }
    result = results.finite(result)
    if page.can_be_drawn():
        shown = _neighbours(problem.task, predicted(variables))
        pretrain_page.write(workdir, result, base=ready, task=problem.task, neighbours=shown)
    return result


def posed(base: Base, task: Task, config: Any) -> Posed:
    """The problem that the config poses: all layers learn, and the objective's tails."""
    if task.open is None:
        raise UserError(f"pretraining reads images, and the task {task.name!r} has none")
    if not len(task.splits["val"]):
        raise UserError(f"the task {task.name!r} has no examples in val, to watch features by")
    ready = base.cut(config.cut or base.bottleneck)
    expected, task = ready.of_images.of_task(task)
    ready = dataclasses.replace(ready, preprocessing=expected)
    task = numbered(fewer(task, config.images, config.seed))
    objective = _objective(config.objective)
    objective = dataclasses.replace(objective, output=ready.layers[-1]).fitted(task)
    _require_room(objective, ready)
    tails = objective.tails(ready.chain)
    chain = ready.chain.with_layers(*tails)
    fresh = chain.init(config.seed, expected.example, [layer.name for layer in tails])
    tune = settings.phase("tune", config.tune.to_dict())
    problem = Problem(
        chain,
        expected,
        task,
        Plan("pretrain", (Phase("pretrain", dict.fromkeys(chain.names, 1.0), tune),)),
        Parallel(config.parallel),
        seed=config.seed,
        batch_size=config.batch_size,
        precision=config.precision,
        objective=objective,
    )
    size = problem.parallel.batch_size(config.batch_size, len(task.splits["train"]))
    if objective.coupled and size < 2:
        raise UserError(
            f"{type(objective).__name__} compares the images of a batch, and batch_size={size} has "
            "one: take 64, or what fits"
        )
    variables = merged(ready.variables, fresh)
    asked(problem, problem.plan.phases[0], variables)  # an augmentation may be missing
    return Posed(problem, ready, variables)


def _objective(spec: Any) -> SelfSupervised:
    objective = objectives.make(spec)
    if not isinstance(objective, SelfSupervised):
        known = [n for n, kind in OBJECTIVES.items() if issubclass(kind, SelfSupervised)]
        raise UserError(
            f"objective={spec!r} does not learn from images alone: take one of {', '.join(known)}"
        )
    if objective.output != SelfSupervised.output:
        raise UserError(f"output={objective.output!r} is what cut= says: leave it out, give cut=")
    return objective


def _require_room(objective: SelfSupervised, base: Base) -> None:
    """UserError where the base has no room for the parts of images that it is shown."""
    size = base.of_images.size
    try:
        base.resized(objective.seen(size))
    except UserError as error:
        name = type(objective).__name__
        said = f"{name} cuts images of {size} x {size} pixels: {error}: take a larger size="
        raise UserError(said) from None


def fewer(task: Task, most: int, seed: int) -> Task:
    """The task with `most` of its training images, drawn by the seed; with 0 all of them."""
    takes_whole(most, "images=", 0, 2**31)
    train = task.splits["train"]
    if not 0 < most < len(train):
        return task
    kept = np.random.default_rng(seed).choice(train, most, replace=False)
    return dataclasses.replace(task, splits={**task.splits, "train": np.sort(kept)})


def numbered(task: Task) -> Task:
    """The task whose truth has "example" (N,), the number of a training image among these."""
    numbers = np.zeros(len(task.ids), np.int32)
    numbers[task.splits["train"]] = np.arange(len(task.splits["train"]))
    return task.with_truth(example=numbers)


def collapse(row: Mapping[str, Any]) -> str:
    """What an epoch's row says of a collapse; empty where there is none."""
    for column, least in COLLAPSED.items():
        if column in row and row[column] < least:
            what = "embeddings" if column.startswith("train") else "features"
            measure = column.partition("_")[2]
            return f"the {what} have collapsed: {measure} {row[column]:.3g}, below {least:g}"
    return ""


def _warning(write: Callable[[dict], None]) -> Callable[[dict], None]:
    """Return a function that writes a row, and warns of the first that tells a collapse."""
    warned = []

    def both(row: dict) -> None:
        write(row)
        if (said := collapse(row)) and not warned:
            logger.warning("epoch %d: %s", row["epoch"], said)
            warned.append(said)

    return both


def _neighbours(task: Task, predicted: Callable[[np.ndarray], np.ndarray]) -> list[list[int]]:
    """Images of val, each followed by the nearest training images: rows of example numbers."""
    val, train = task.splits["val"], task.splits["train"]
    queries = val[np.linspace(0, len(val) - 1, min(SHOWN, len(val))).astype(int)]
    rows, _ = representation.nearest(predicted(queries), predicted(train), NEAREST)
    return [[int(query), *map(int, train[row])] for query, row in zip(queries, rows, strict=True)]


def said(result: dict[str, Any]) -> str:
    """The result in a few lines."""
    lines = [
        f"{when}: " + ", ".join(f"{name} {value:.3f}" for name, value in result[when].items())
        for when in ("before", "after")
    ]
    return "\n".join([*lines, *([result["collapsed"]] if result["collapsed"] else [])])
