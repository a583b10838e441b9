"""Plans that train a network: each tuned by as many draws of its settings, or by its own grid."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tl_jax.base.base import Base
from tl_jax.data.task import Task
from tl_jax.engine.prefix import Inputs
from tl_jax.errors import UserError
from tl_jax.plans.plan import Settings, lengthened
from tl_jax.runs import pose, settings, transfer
from tl_jax.runs.config import nested
from tl_jax.runs.results import trained_parameters
from tl_jax.runs.space import candidates
from tl_jax.train import loop
from tl_jax.train.inputs import for_plan
from tl_jax.train.problem import Problem
from tl_jax.train.state import Diverged

OF_THE_STUDY = {"seed", "cache"}  # settings of a transfer that a plan does not say


def require(
    config: Mapping[str, Any], name: str, plan: Mapping[str, Any], bases: Sequence[Base]
) -> None:
    """UserError for a space that is empty or cannot be read, and for settings that do not fit, in
    any of the study's draws. Layers are looked at once for draws that differ in numbers alone.
    """
    if not plan.get("space") and config["draws"] > 1:
        raise UserError(
            f"the plan {name!r} has an empty space of settings, so {config['draws']} draws are "
            "one: give it a space, or set draws=1"
        )
    looked_at = set()
    for seed in range(config["first_seed"], config["first_seed"] + config["seeds"]):
        for values in _candidates(config, name, seed):
            every = _settings(config, plan, values)
            if clash := ", ".join(sorted(OF_THE_STUDY & every.keys())):
                raise UserError(f"the plan {name!r}: the study itself sets {clash}; leave it out")
            own, options = settings.divided(every)
            if (structure := _structure(own, options)) not in looked_at:
                looked_at.add(structure)
                for base in bases:
                    pose.check(base, own, options)


def _structure(own: settings.TransferSettings, options: Mapping[str, Any]) -> str:
    """Return all settings but the phases' numbers, which `pose.check` does not look at."""

    def of(option: Any) -> Any:
        if not isinstance(option, Settings):
            return option
        return [value for value in vars(option).values() if not isinstance(value, int | float)]

    return repr((own, {name: of(option) for name, option in options.items()}))


class Draw(NamedTuple):
    """One training, with settings drawn from the plan's space."""

    values: dict[str, Any]
    val: dict[str, Any]  # every metric on validation
    problem: Problem
    variables: Any
    inputs: Inputs
    test_views: str


def figures(
    config: Mapping[str, Any], name: str, base: Base, task: Task, seed: int
) -> dict[str, Any]:
    """Return the figures of a cell: validation chooses among the draws, the best one is tested.

    A draw that diverges is not chosen; Diverged if all do.
    """
    plan, metric = config["plans"][name], config["metric"]
    best, tried = None, []
    for values in _candidates(config, name, seed):
        try:
            draw = _draw(config, plan, values, base, task, seed)
        except Diverged as error:
            tried.append({"settings": values, "val": None, "error": str(error)})
            continue
        tried.append({"settings": values, "val": draw.val[metric]})
        if best is None or draw.val[metric] > best.val[metric]:
            best = draw
    if best is None:
        raise Diverged(f"all draws diverged: {tried[0]['error']}")
    test = transfer.judged(
        best.problem, best.variables, best.inputs, "test", test_views=best.test_views
    ).scores
    counts = [trained_parameters(best.problem, p, best.variables) for p in best.problem.plan.phases]
    return {
        "val": best.val[metric],
        "test": test["accuracy"],
        "test_weighted": test["weighted_accuracy"],
        "chosen": best.values,
        "trained_parameters": max(counts),
        "tried": tried,
    }


def _candidates(config: Mapping[str, Any], name: str, seed: int) -> list[dict[str, Any]]:
    space = config["plans"][name].get("space", {})
    return candidates(space, draws=config["draws"], seed=seed, plan=name)


def _draw(
    config: Mapping[str, Any],
    plan_settings: Mapping[str, Any],
    values: dict[str, Any],
    base: Base,
    task: Task,
    seed: int,
) -> Draw:
    of_study = {"seed": seed, "cache": config["cache"]}
    own, options = settings.divided(_settings(config, plan_settings, values) | of_study)
    problem, _, start = pose.posed(base, task, own, options)
    plan = lengthened(problem.plan, config["least_steps"], steps=problem.epoch_steps)
    problem = dataclasses.replace(problem, plan=plan)
    stores = {"cache": own.cache, "dtype": own.cache_dtype}
    inputs_for = for_plan(problem, test_views=own.test_views, **stores)
    variables, _, inputs = loop.run(problem, start, inputs_for, workdir=None)
    val = transfer.judged(problem, variables, inputs, "val", test_views=own.test_views).scores
    return Draw(values, val, problem, variables, inputs, own.test_views)


def _settings(
    config: Mapping[str, Any], plan: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings of all transfers, over these the plan's, over these the values drawn for it."""
    of_plan = {name: value for name, value in plan.items() if name != "space"}
    return nested([config["settings"], of_plan, values])
