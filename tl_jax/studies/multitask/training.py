"""One training: a network for all tasks, by one of the methods, or for one of them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tl_jax.base.base import Base
from tl_jax.chain.stitch import stitched
from tl_jax.data.task import Task
from tl_jax.engine.prefix import Inputs
from tl_jax.errors import UserError
from tl_jax.plans.plan import Plan
from tl_jax.runs import pose, settings, transfer
from tl_jax.runs.results import trained_parameters
from tl_jax.studies.multitask import EQUAL, OWN, SINGLE, STITCHED, metric
from tl_jax.train import loop
from tl_jax.train.inputs import for_plan
from tl_jax.train.objectives import Affinity, GradNorm, PCGrad, Tasks, Uncertainty
from tl_jax.train.problem import Problem
from tl_jax.train.state import best_row

Others = tuple[tuple[str, int], ...]  # name and number of classes of each further truth


class Candidate(NamedTuple):
    """A way of training, of which a method may have several: validation chooses."""

    said: str  # what sets it apart from the method's others
    objective: Tasks
    tasks: tuple[str, ...]  # whose mean accuracy on validation chooses its epoch
    stitch_rate: float = 0.0  # of cross-stitched trunks, of the mixes; 0: there is one trunk


def _single(config: Any, others: Others) -> list[Candidate]:
    """A network for each task alone, with the others' weights 0: the same steps and trunk."""
    names = (OWN, *dict(others))
    alone = [tuple(float(name == one) for name in names) for one in names]
    return [
        Candidate(name, Tasks(others=others, weights=weights), (name,))
        for name, weights in zip(names, alone, strict=True)
    ]


def _equal(config: Any, others: Others) -> list[Candidate]:
    """Equal weights; on the way it is measured how each task changes the others' losses."""
    step = config["affinity_step"]
    objective = Affinity(others=others, step=step) if step else Tasks(others=others)
    return [Candidate("", objective, (OWN, *dict(others)))]


def _static(config: Any, others: Others) -> list[Candidate]:
    """Equal weights, and one task's times each of the factors."""
    names = (OWN, *dict(others))
    found = [Candidate("equal", Tasks(others=others), names)]
    for one in names:
        for factor in config["factors"]:
            weights = tuple(float(factor) if name == one else 1.0 for name in names)
            objective = Tasks(others=others, weights=weights)
            found.append(Candidate(f"{one} x {factor:g}", objective, names))
    return found


def _stitched(config: Any, others: Others) -> list[Candidate]:
    """A trunk for each task, and mixes that learn at each of the rates."""
    names = (OWN, *dict(others))
    return [
        Candidate(f"rate x {rate:g}", Tasks(others=others), names, stitch_rate=rate)
        for rate in config["stitch_rates"]
    ]


def _one(make: Callable[..., Tasks], **options: Callable[[Any], Any]) -> Callable:
    def candidates(config: Any, others: Others) -> list[Candidate]:
        given = {name: of(config) for name, of in options.items()}
        return [Candidate("", make(others=others, **given), (OWN, *dict(others)))]

    return candidates


# By the name of a method, its candidates: (config, others) -> candidates
METHODS: dict[str, Callable[[Any, Others], list[Candidate]]] = {
    SINGLE: _single,
    EQUAL: _equal,
    "static": _static,
    "uncertainty": _one(Uncertainty),
    "gradnorm": _one(
        GradNorm,
        shared=lambda config: config["shared"],
        alpha=lambda config: config["alpha"],
        rate=lambda config: config["gradnorm_rate"],
    ),
    "pcgrad": _one(PCGrad),
    STITCHED: _stitched,
}


class Trained(NamedTuple):
    """A network that was trained."""

    problem: Problem
    variables: Any
    inputs: Inputs
    rows: list[dict]  # of the epochs of the last phase
    epoch: int  # that was kept of them
    val: dict[str, Any]

    def mean(self, tasks: Sequence[str]) -> float:
        """Return the mean accuracy of these tasks on validation."""
        return sum(self.val[metric(name)] for name in tasks) / len(tasks)

    def test(self) -> dict[str, Any]:
        """Return every metric on the test split."""
        return transfer.judged(self.problem, self.variables, self.inputs, "test").scores

    def parameters(self) -> int:
        """Return how many parameters were trained at most at once."""
        phases = self.problem.plan.phases
        return max(trained_parameters(self.problem, phase, self.variables) for phase in phases)


def given(config: Mapping[str, Any], seed: int, **more: Any) -> tuple[Any, dict[str, Any]]:
    """Return the settings of a transfer and the plan's options that the config says."""
    return settings.divided({**config["settings"], "seed": seed, "cache": config["cache"], **more})


def trained(
    config: Mapping[str, Any], base: Base, task: Task, seed: int, one: Candidate
) -> Trained:
    """Train a candidate of a method; only validation is looked at."""
    own, options = given(config, seed, objective=one.objective)
    problem, ready, variables = pose.posed(base, task, own, options)
    if len(one.tasks) == 1:
        problem = dataclasses.replace(problem, plan=chosen_by(problem.plan, metric(one.tasks[0])))
    if one.stitch_rate:
        how = {"rate": one.stitch_rate, "seed": seed, "example": ready.preprocessing.example}
        problem, variables = with_trunks(config, problem, variables, **how)
    inputs_for = for_plan(problem, test_views="none", cache=own.cache, dtype=own.cache_dtype)
    variables, progress, inputs = loop.run(problem, variables, inputs_for, workdir=None)
    phase = problem.plan.phases[-1]
    rows = progress.rows(phase)
    epoch = best_row(phase, rows, problem.objective)["epoch"]
    val = transfer.judged(problem, variables, inputs, "val").scores
    return Trained(problem, variables, inputs, rows, epoch, val)


def chosen_by(plan: Plan, name: str) -> Plan:
    """Return the plan whose phases keep the epoch with the best `name` on validation."""
    phases = [
        dataclasses.replace(p, settings=dataclasses.replace(p.settings, best_by=f"val_{name}"))
        for p in plan.phases
    ]
    return dataclasses.replace(plan, phases=tuple(phases))


def with_trunks(
    config: Mapping[str, Any],
    problem: Problem,
    variables: Any,
    *,
    rate: float,
    seed: int,
    example: Any,
) -> tuple[Problem, Any]:
    """Return the problem with a trunk for each task, cross-stitched, and its first variables."""
    objective: Any = problem.objective
    found = stitched(
        problem.chain,
        objective.places,
        config["stitched_at"],
        trunk=trunk(problem.plan, objective.places),
        share=config["stitch_share"],
    )
    phases = tuple(
        dataclasses.replace(p, multipliers=found.rates(dict(p.multipliers), rate))
        for p in problem.plan.phases
    )
    plan = dataclasses.replace(problem.plan, phases=phases)
    more = dataclasses.replace(problem, chain=found.network, plan=plan)
    return more, found.begun(variables, seed=seed, example=example)


def trunk(plan: Plan, heads: Sequence[str]) -> tuple[str, ...]:
    """Return the layers that learn in some phase and are no head, in forward order."""
    learns = {name for phase in plan.phases for name in phase.trained} - set(heads)
    return tuple(name for name in plan.phases[0].multipliers if name in learns)


def last_shared(config: Mapping[str, Any], base: Base, plan: Plan) -> str:
    """Return the layer whose gradients GradNorm compares: the config's, or the last of the trunk
    with parameters. UserError if no layer of the trunk learns.
    """
    able = [name for name in trunk(plan, (OWN,)) if base.variables["params"].get(name)]
    if not able:
        raise UserError(f"in the plan {plan.name!r} tasks share no layer that learns: take another")
    return config["shared"] or able[-1]
