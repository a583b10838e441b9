"""The settings that a plan or method is tuned over: a declared space, as many draws for each.

A space may also be a grid, a list of settings of which each is tried.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tl_jax import registry
from tl_jax.errors import UserError
from tl_jax.runs.config import flat

SPACES: dict[str, Callable[..., Any]] = {}


@registry.register(SPACES, "space")
def log(rng: np.random.Generator, *, low: float, high: float) -> float:
    """Draw evenly by the logarithm, from `low` to `high`."""
    if not 0 < low < high:
        raise UserError(f"a space log({low}, {high}) is empty: 0 < low < high")
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


@registry.register(SPACES, "space")
def uniform(rng: np.random.Generator, *, low: float, high: float) -> float:
    """Draw evenly from `low` to `high`."""
    if not low < high:
        raise UserError(f"a space uniform({low}, {high}) is empty: low < high")
    return float(rng.uniform(low, high))


@registry.register(SPACES, "space")
def one_of(rng: np.random.Generator, *, values: tuple) -> Any:
    """Draw one of the `values`, each as likely."""
    if not isinstance(values, tuple | list) or not values:
        raise UserError("a space one_of needs values, as in one_of((1, 2))")
    return values[int(rng.integers(len(values)))]


def drawn(space: Mapping[str, Any], *, seed: tuple[int, ...]) -> dict[str, Any]:
    """Draw a value for each setting of a space, {"tune": {"learning_rate": "log(1e-4, 1e-2)"}}.

    Returns them flat, {"tune.learning_rate": 0.002}: a function of the seed and the space alone.
    UserError for a space that cannot be read.
    """
    rng = np.random.default_rng(seed)
    values = {}
    for name, spec in sorted(flat(space).items()):
        draw, options = registry.chosen(f"space of {name}:", spec, SPACES)
        values[name] = draw(rng, **options)
    return values


def candidates(
    space: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, draws: int, seed: int, plan: str
) -> list[dict[str, Any]]:
    """Return the settings, flat, among which validation chooses: so many draws from a space, others
    for each plan; or all of a grid, ({"tune": {"learning_rate": 0.1}}, ...).

    UserError for a space that cannot be read.
    """
    if isinstance(space, Mapping):
        name = zlib.crc32(plan.encode())
        return [drawn(space, seed=(seed, number, name)) for number in range(draws)]
    if not space or isinstance(space, str) or not all(isinstance(one, Mapping) for one in space):
        raise UserError(
            f"the plan {plan!r}: a space is settings to draw, or a list of settings that are all "
            f"tried; got {space!r}"
        )
    return [flat(point) for point in space]
