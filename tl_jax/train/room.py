"""What a run will put on disk, of shapes alone: said, or refused, before anything is computed."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from tl_jax.data.task import Task
from tl_jax.engine import checkpoint, prefix
from tl_jax.engine.store import Need, require_room
from tl_jax.plans.plan import Phase
from tl_jax.train import saving
from tl_jax.train.problem import Problem
from tl_jax.train.step import Recipe
from tl_jax.train.survey import Places, Survey

LARGE = 10**8  # bytes of variables from which checkpoints are worth a word


def is_large(variables: Any) -> bool:
    """Whether checkpoints may take so much that their room is asked for beforehand."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(variables)) >= LARGE


class Reading(NamedTuple):
    """What a phase does on disk: what it stores and reads of outputs, and its checkpoints."""

    phase: Phase
    recipe: Recipe
    survey: Survey
    places: Places
    stored: tuple[tuple[str, int], ...]  # places, the lowest first, and how many views of each


def require(
    problem: Problem,
    readings: Sequence[Reading],
    variables: Any,
    *,
    cache: pathlib.Path | None,
    dtype: str,
    workdir: pathlib.Path | None,
) -> None:
    """Say what the phases to come will put on disk; UserError if there is no room for it.

    `readings` are of these phases; `variables` are those that the first of them begins with.
    """
    needs: list[Need] = []
    if cache is not None:
        for task in {id(task): task for task in (problem.task, *problem.sources.values())}.values():
            needs += of_stores(problem, task, readings, variables, cache=cache, dtype=dtype)
    if workdir is not None and is_large(variables):
        needs += of_checkpoints(problem, readings, variables, workdir)
    require_room(needs)


def of_stores(
    problem: Problem,
    task: Task,
    readings: Sequence[Reading],
    variables: Any,
    *,
    cache: pathlib.Path,
    dtype: str,
) -> Iterator[Need]:
    """Yield what the phases to come will store of a task, less what is there."""
    chain, trained, seen = problem.chain, set[str](), set[pathlib.Path]()
    inputs = prefix.decoded(task, problem.preprocessing)
    if task.open is not None and problem.preprocessing is not None:
        pixels = prefix.pixels_store(task, problem.preprocessing, cache=cache)
        inputs = inputs._replace(key=pixels.folder.name)
        yield pixels.need()
    for reading in readings:
        below, of = inputs, {"examples": len(task.ids), "cache": cache, "dtype": dtype}
        for place, views in reading.stored:
            shape = reading.places.shapes[place]
            kept = prefix.features_store(
                chain, variables, below, place, shape, stored_views=views, **of
            )
            if trained & set(chain.weights(chain.below[place])):  # its weights are still to come
                yield Need(kept.what, cache / reading.phase.name, kept.nbytes)
            elif kept.folder not in seen:
                yield kept.need()
            seen.add(kept.folder)
            below = prefix.above(chain, below, place, kept.folder.name)
        trained |= set(reading.phase.trained)


def of_checkpoints(
    problem: Problem, readings: Sequence[Reading], variables: Any, workdir: pathlib.Path
) -> Iterator[Need]:
    """Yield what checkpoints of the phases to come will take, less what is there.

    For a moment there is one more than are kept.
    """
    phases, folder = problem.plan.phases, workdir / "checkpoints"
    most = max(
        saving.nbytes(phases, phases.index(of.phase), of.recipe, of.survey, variables)
        for of in readings
    )
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    yield Need("checkpoints", folder, max(0, (checkpoint.KEEP + 1) * most - there))
