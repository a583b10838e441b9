"""What each phase of a plan reads: pixels, or stored outputs of frozen layers."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

from tl_jax.data import views
from tl_jax.engine import prefix
from tl_jax.engine.prefix import DTYPES, Inputs
from tl_jax.errors import unknown
from tl_jax.plans.plan import Phase
from tl_jax.train.state import Problem


def for_plan(
    problem: Problem, *, test_views: str, cache: pathlib.Path | None, dtype: str
) -> Callable[[Phase, Any], Inputs]:
    """The function that gives each phase of the problem's plan its inputs.

    What no phase trains is run once, from pixels; a phase with a longer prefix is run from there.
    Without a `cache` every phase gets pixels, decoded whenever they are read.
    """
    task, phases = problem.task, problem.plan.phases
    most = max(views.count(v) for v in [test_views, *(p.settings.views for p in phases)])
    if dtype not in DTYPES:
        raise unknown("cache_dtype", dtype, DTYPES)
    if cache is None:
        return lambda phase, variables: prefix.decoded(task, problem.preprocessing)
    order = [None, *problem.chain.names]
    lowest = min((p.prefix for p in phases), key=order.index)
    stored = functools.partial(
        prefix.features,
        problem.chain,
        examples=len(task.ids),
        parallel=problem.parallel,
        cache=cache,
        dtype=dtype,
    )

    def inputs(phase: Phase, variables: Any) -> Inputs:
        below = prefix.pixels(task, problem.preprocessing, cache=cache)
        if lowest is not None:
            below = stored(variables, below, lowest, stored_views=most)
        if phase.prefix == lowest:
            return below
        last = phase is phases[-1]
        needed = max(views.count(v) for v in [phase.settings.views, test_views if last else "none"])
        return stored(variables, below, phase.prefix, stored_views=needed)

    return inputs
