"""The disk space that a run will need: logged, or refused, before anything is computed."""

import pathlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from tl_jax.chain.network import Network
from tl_jax.data.task import Task
from tl_jax.engine import checkpoint, prefix
from tl_jax.engine.store import Need, require_room
from tl_jax.plans.plan import Phase
from tl_jax.train import saving
from tl_jax.train.problem import Problem
from tl_jax.train.step import Recipe
from tl_jax.train.survey import Places, Survey

LARGE = 10**8  # bytes of variables above which the room for checkpoints is checked


def is_large(variables: Any) -> bool:
    """Return whether checkpoints are so large that their room is checked beforehand."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(variables)) >= LARGE


class Reading(NamedTuple):
    """A phase, its recipe, and the outputs that it stores and reads."""

    phase: Phase
    recipe: Recipe
    survey: Survey
    places: Places
    stored: tuple[tuple[str, tuple[int, ...]], ...]  # places, the lowest first, with their views


def require(
    problem: Problem,
    readings: Sequence[Reading],
    variables: Any,
    *,
    cache: pathlib.Path | None,
    dtype: str,
    workdir: pathlib.Path | None,
) -> None:
    """Log what the phases to come will put on disk; UserError if there is no room for it.

    `readings` are those of the phases to come; the first of them begins with `variables`.
    """
    needs: list[Need] = []
    if cache is not None:
        tasks = {one.fingerprint: one for one in (problem.task, *problem.sources.values())}
        for task in tasks.values():
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
    """Yield the room for what the phases to come will store of a task, less what is there."""
    chain, trained, seen = problem.chain, set[str](), set[pathlib.Path]()
    inputs, needs = prefix.to_come(task, problem.preprocessing, cache=cache)
    yield from needs
    for reading in readings:
        inputs_below, how = inputs, {"dtype": dtype, "precision": problem.cache_precision}
        common = {"examples": len(task.ids), "cache": cache, **how}
        for place, views in reading.stored:
            shape = reading.places.shapes[place]
            outputs = prefix.features_store(
                chain, variables, inputs_below, place, shape, stored_views=views, **common
            )
            if is_changed(chain, place, trained):  # its weights are not known yet
                yield Need(outputs.what, cache / reading.phase.name, outputs.nbytes)
            elif outputs.folder not in seen:
                yield outputs.need()
            seen.add(outputs.folder)
            inputs_below = prefix.above(chain, inputs_below, place, outputs.folder.name)
        trained |= set(reading.phase.trained)


def is_changed(chain: Network, place: str, trained: Collection[str]) -> bool:
    """Return whether the output of a layer is another one after these layers were trained."""
    return not set(trained).isdisjoint(chain.weights(chain.below[place]))


def of_checkpoints(
    problem: Problem, readings: Sequence[Reading], variables: Any, workdir: pathlib.Path
) -> Iterator[Need]:
    """Yield the room for the checkpoints of the phases to come, less what is there.

    While one is written, there is one checkpoint more than are kept.
    """
    phases, folder = problem.plan.phases, workdir / "checkpoints"
    most = max(
        saving.nbytes(phases, phases.index(one.phase), one.recipe, one.survey, variables)
        for one in readings
    )
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    yield Need("checkpoints", folder, max(0, (checkpoint.KEEP + 1) * most - there))
