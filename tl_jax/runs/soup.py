"""A model soup: one base whose weights are the mean of several finished runs'.

Wortsman et al. 2022, Model soups (arXiv:2203.05482), algorithm 1. Runs from one pretrained start
stay in one basin, so that the mean of their weights is a good network too.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from tl_jax.base.base import Base
from tl_jax.data.task import Task
from tl_jax.errors import unknown
from tl_jax.runs import several
from tl_jax.runs.judge import judged
from tl_jax.stats import metrics


class Ingredient(NamedTuple):
    """A finished run, ready to be mixed with others."""

    run: pathlib.Path
    base: Base
    val: float  # the metric on validation


class Soup(NamedTuple):
    """The mixed base, and what it is made of."""

    base: Base
    kept: tuple[pathlib.Path, ...]
    val: float


def ingredients(runs: Sequence[pathlib.Path], *, metric: str) -> list[Ingredient]:
    """Load finished runs of the same architecture, preprocessing, classes, data and splits.

    UserError for fewer than two, for an unknown metric, and, with what differs, for runs that do
    not fit together.
    """
    finished = several.of_same_data(runs, what="a soup")
    several.require_same(finished, "architecture", "preprocessing", "views")
    parts = []
    for run, base, result in finished:
        known = {name: result.get("val", {}).get(name) for name in metrics.OF_CLASSES}
        value = known.get(metric)
        if not isinstance(value, int | float):
            there = [name for name, x in known.items() if isinstance(x, int | float)]
            raise unknown(f"metric on validation of {run}", metric, there)
        parts.append(Ingredient(run, base, float(value)))
    return parts


def uniform(parts: Sequence[Ingredient], task: Task, *, metric: str) -> Soup:
    """Mix all of them."""
    base = mixed([part.base for part in parts])
    return Soup(base, tuple(part.run for part in parts), judged(base, task, "val")[metric])


def greedy(parts: Sequence[Ingredient], task: Task, *, metric: str) -> Soup:
    """From the best on validation down, add each run with which validation does not fall."""
    sign = -1 if metric in metrics.LOWER_IS_BETTER else 1
    best, *others = sorted(parts, key=lambda part: -sign * part.val)
    kept, soup = [best], Soup(best.base, (best.run,), best.val)
    for part in others:
        base = mixed([one.base for one in (*kept, part)])
        value = judged(base, task, "val")[metric]
        if sign * value >= sign * soup.val:
            kept.append(part)
            soup = Soup(base, tuple(one.run for one in kept), value)
    return soup


def mixed(bases: Sequence[Base]) -> Base:
    """Return the base with the mean of their variables, batch statistics included."""
    mean = jax.tree.map(
        lambda *leaves: np.mean(leaves, axis=0, dtype=np.float64).astype(np.float32),
        *(base.variables for base in bases),
    )
    return dataclasses.replace(bases[0], variables=mean, weights="soup", digest="")

