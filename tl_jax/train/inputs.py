"""The inputs of each phase of a plan: raw inputs, or stored outputs of frozen layers."""

import logging
import os
import pathlib
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import numpy as np

from tl_jax.chain.places import IMAGE
from tl_jax.data import augment, views
from tl_jax.data.files import path_of
from tl_jax.data.task import Task
from tl_jax.engine import prefix
from tl_jax.engine.prefix import Inputs
from tl_jax.errors import UserError, unknown
from tl_jax.plans.plan import Phase
from tl_jax.train import room
from tl_jax.train.problem import Problem, sample
from tl_jax.train.room import Reading
from tl_jax.train.state import criterion
from tl_jax.train.step import Recipe, recipe
from tl_jax.train.survey import Places, Survey, places, survey

logger = logging.getLogger(__name__)


class Asked(NamedTuple):
    """A phase's recipe, and what its steps ask for."""

    recipe: Recipe
    survey: Survey  # from the highest place that it may read, or from raw inputs
    places: Places


def asked(problem: Problem, phase: Phase, variables: Any) -> Asked:
    """Return the phase's recipe, and what an abstract trace finds that its steps ask for.

    `variables` are the network's, or their shapes. UserError for an unknown metric, and for a
    pattern of leaves that no parameter matches.
    """
    augmentation = phase.settings.augment
    augmentation = augmentation if callable(augmentation) else augment.make(augmentation)
    if getattr(augmentation, "coupled", False):
        problem.require_whole_batches(f"augment={phase.settings.augment}")
    of_steps = recipe(problem.setup, phase, problem.objective.augmented(augmentation))
    if not jax.tree.leaves(of_steps.of_trained(variables)["params"]) and phase.settings.leaves:
        raise UserError(
            f"phase {phase.name!r}: no parameter of the layers that learn matches "
            f"leaves={phase.settings.leaves!r}"
        )
    raw = {name: raw_sample(problem, task) for name, task in problem.trained_on.items()}
    batch, single = raw.get("", raw), raw_sample(problem, problem.task, real=True)
    may_read = places(of_steps, variables, batch, single)
    needs = may_read.survey or survey(of_steps, variables, batch, single)
    _require_metric(problem, phase, needs)
    return Asked(of_steps, needs, may_read)


def raw_sample(
    problem: Problem, task: Task, *, size: int = 0, real: bool = False
) -> dict[str, Any]:
    """Return a batch of the task's raw inputs and truth as shapes; `size` 0: the problem's size."""
    known = {name: array[:1] for name, array in task.arrays.items()}
    if task.open is not None and problem.preprocessing is not None:
        side = problem.preprocessing.size
        known[IMAGE] = np.zeros((1, side, side, task.channels), np.uint8)
    return sample(task, known, size=size or problem.batch_size, real=real)


def for_plan(
    problem: Problem,
    *,
    test_views: str,
    cache: str | os.PathLike | None,
    dtype: str,
    workdir: pathlib.Path | None = None,
) -> Callable[[Phase, Any], Inputs]:
    """Return a function that returns the inputs of each phase of the problem's plan.

    The layers that no phase trains run once, and their output is stored; a phase that may read a
    higher place reads that. Without a folder `cache` every phase gets images, decoded at each
    reading.

    At its first call it logs what all phases will put on disk, checkpoints in `workdir` included;
    UserError if there is no room.
    """
    phases, folder = problem.plan.phases, path_of(cache) if cache else None
    prefix.require_dtype(dtype)
    for view in (test_views, *(phase.settings.views for phase in phases)):
        views.numbers(view)
        if problem.task.asks == "boxes":
            views.require_mirrors(view)
    readings: dict[str, Reading] = {}  # by phase; they do not depend on the weights

    def inputs(phase: Phase, variables: Any) -> Inputs:
        if not readings and (folder is not None or room.is_large(variables)):
            all_readings = _readings(problem, variables, test_views)
            readings.update((one.phase.name, one) for one in all_readings)
            to_come = [readings[one.name] for one in phases[phases.index(phase) :]]
            room.require(problem, to_come, variables, cache=folder, dtype=dtype, workdir=workdir)
        if folder is None:
            return _by_source(problem, lambda task: prefix.decoded(task, problem.preprocessing))
        reading, to = readings[phase.name], {"cache": folder, "dtype": dtype}
        if reading.places.why:
            _say_why(reading, problem)
        return _by_source(problem, lambda task: _stored(problem, reading, variables, task, **to))

    return inputs


def _readings(problem: Problem, variables: Any, test_views: str) -> list[Reading]:
    """Return what each phase stores and reads.

    The highest place that all phases may read is stored in all views that any phase needs. A
    phase that may read a higher place stores that too where it pays, in the views that it needs
    itself.
    """
    phases = problem.plan.phases
    of_phases = [asked(problem, phase, variables) for phase in phases]
    readable = [set(one.places.found) for one in of_phases]
    common = [place for place in of_phases[0].places.found if all(place in one for one in readable)]
    for_train = [views.numbers(phase.settings.views) for phase in phases]
    for_test = views.numbers(test_views)
    shared = ((common[0], _all(for_test, *for_train)),) if common else ()
    readings, trained = [], set[str]()
    for phase, needs, own in zip(phases, of_phases, for_train, strict=True):
        stored, highest = shared, next(iter(needs.places.found), "")
        if highest not in ("", *dict(shared)) and _pays(problem, phase, highest, trained):
            stored += ((highest, _all(own, for_test if phase is phases[-1] else ())),)
        readings.append(Reading(phase, *needs, stored))
        trained |= set(phase.trained)
    return readings


def _pays(problem: Problem, phase: Phase, place: str, trained: Collection[str]) -> bool:
    """Return whether a phase should store the output of a layer, after others were `trained`.

    Where the layers below are as they came, other runs read it too. Otherwise it is this phase's
    alone, and is stored for every example of the task: it must be read more often than that.
    """
    if problem.sources or not room.is_changed(problem.chain, place, trained):
        return True
    splits = problem.task.splits
    reads = phase.settings.epochs * (len(splits["train"]) + len(splits["val"]))
    return reads > len(problem.task.ids)


def _all(*sets: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set().union(*sets)))


def _by_source(problem: Problem, of: Callable[[Task], Inputs]) -> Inputs:
    """Return the inputs of the judged task; `others` holds those of every source."""
    others = {name: of(task) for name, task in problem.sources.items()}
    same = [name for name, task in problem.sources.items() if task is problem.task]
    judged = others[same[0]] if same else of(problem.task)
    return judged._replace(others=others)


def _stored(
    problem: Problem,
    reading: Reading,
    variables: Any,
    task: Task,
    *,
    cache: pathlib.Path,
    dtype: str,
) -> Inputs:
    """Return the task's inputs for a phase: the highest of its stored outputs, or raw inputs."""
    inputs = prefix.pixels(task, problem.preprocessing, cache=cache)
    for place, numbers in reading.stored:
        inputs = prefix.features(
            problem.chain,
            variables,
            inputs,
            place,
            examples=len(task.ids),
            stored_views=numbers,
            parallel=problem.parallel,
            cache=cache,
            dtype=dtype,
            precision=problem.cache_precision,
        )
    return inputs


def _say_why(reading: Reading, problem: Problem) -> None:
    """Log in one line why a phase cannot read a higher place, and what that costs."""
    phase, places = reading.phase, reading.places
    reads = f"the stored output of {places.found[0]!r}" if places.found else "raw inputs"
    line = f"phase {phase.name!r} reads {reads} in every step: {places.why}"
    if phase.settings.augment:
        images = len(problem.task.splits["train"])
        line += (
            f". Its frozen layers run for {phase.settings.epochs * images:,} random images; "
            f"views=flip instead of augment would run them for {2 * images:,}, once, and keep that"
        )
    logger.warning("%s", line)


def _require_metric(problem: Problem, phase: Phase, needs: Survey) -> None:
    """Raise UserError, with the near miss, if `best_by` is no column of an epoch's row."""
    by = criterion(phase, problem.objective)
    known = [f"val_{name}" for name in needs.scores] + ["train_loss", "last"]
    # Not the logged figures: nobody says whether more of them is better.
    known += [f"train_{name}" for name in needs.minimised]
    if by not in known:
        raise unknown("best_by", by, known)


__all__ = ["Asked", "asked", "for_plan", "raw_sample"]
