"""What is known of a task before any plan is run on it: landmarks, the lectures' tables, advice."""

import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.advice import advisor, judge, rules
from tl_jax.advice.grid import Grid, Row, Scenario, grid_of
from tl_jax.advice.grid import landmarks as landmarks_of
from tl_jax.advice.plans import CHEAP, PLANS, in_grid
from tl_jax.errors import UserError
from tl_jax.stats.paired import Estimate, corrected
from tl_jax.stats.verdict import verdicts
from tl_jax.studies.layer_probes.grid import ProbeGrid
from tl_jax.studies.scenarios import table

COLUMN = "test_weighted"  # test accuracy, weighted by confidence where labels have one


class Lecture(NamedTuple):
    """What a lecture's table says of the task."""

    name: str
    words: str
    plan: str | None  # the plan that stands for the words, if they name one


class Known(NamedTuple):
    """What is known of a task with its labels, from a base."""

    scenario: Scenario
    small: bool
    similar: bool
    lectures: list[Lecture]
    advice: advisor.Advice | None  # None: there are no tables to learn from
    judgement: judge.Judgement | None  # None: the tables are of fewer than two tasks


def tables() -> list[pathlib.Path]:
    """Return the tables of scenarios that come with tl_jax and have all cheap plans."""
    checkout = pathlib.Path(__file__).parents[2] / "docs"
    installed = pathlib.Path(sys.prefix) / "share" / "tl_jax"
    found = next((own for own in map(_tables_in, (checkout, installed)) if own), [])
    return [path for path in found if set(CHEAP) <= {row["plan"] for row in table.read(path)}]


def _tables_in(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.glob("scenarios_*.csv"))


def learnt(paths: Sequence[pathlib.Path]) -> Grid | None:
    """Return what these tables have measured; None without a table.

    Only plans that a study of one's own images has are of use. UserError for a file that is no
    table, and for tables that do not go together.
    """
    rows = [row for path in paths for row in table.read(path) if row["plan"] in PLANS]
    if paths and not rows:
        raise UserError(f"the tables have none of the plans {', '.join(PLANS)}")
    return grid_of(rows, cheap=CHEAP, column=COLUMN) if rows else None


def known(grid: Grid | None, rows: Sequence[Row], base: str, name: str) -> Known:
    """Return what the `rows` of a task's cheap plans, and tables of other tasks, say of the task of
    this name.
    """
    ((scenario, landmarks),) = (
        pair for pair in landmarks_of(rows, CHEAP).items() if pair[0].base == in_grid(base)
    )
    scenario = scenario._replace(task=name, base=base)
    small, similar = rules.kind(landmarks, CHEAP)
    plans = rules.stand_ins(list(PLANS))
    said = {name: words[small, similar] for name, words in rules.LECTURES.items()}
    lectures = [
        Lecture(name, one.words, plans[one.role] if one.role else None)
        for name, one in said.items()
    ]
    if grid is None:
        return Known(scenario, small, similar, lectures, None, None)
    advice = advisor.advise(advisor.fit(grid), landmarks)
    judged = judge.judge(grid) if len(set(grid.tasks)) > 1 else None
    return Known(scenario, small, similar, lectures, advice, judged)


class Cut(NamedTuple):
    """The layer whose features serve a probe best, and what it gains over the bottleneck."""

    layer: str
    gain: Estimate  # on validation
    told: bool  # whether the gain is told from none, after correction for all layers


def best_cut(layers: Mapping[str, Any]) -> Cut:
    """Return the layer that is best on validation, from the result of a probe of every layer."""
    grid = ProbeGrid(layers["config"], layers["layers"], layers["cells"])
    val = grid.values(grid.largest, grid.probes[0], "val")  # (L, S); the last is the bottleneck
    best = len(val) - 1 - int(val.mean(1)[::-1].argmax())  # of equals the highest layer
    over = [corrected(val[best] - own, ratio=layers["overlap"]) for own in val]
    others = [own for index, own in enumerate(over) if index != best]
    told = best != len(val) - 1 and verdicts(others, margin=0.0)[-1] == "helps"
    return Cut(grid.layers[best], over[-1], told)


def candidates(found: Known, most: int) -> tuple[str, ...]:
    """Return up to so many plans to run, the first choice first: of those that are not cheap, and
    so were not measured yet, the ones that advice ranks best, or without advice the lectures'.

    One at least trains a network, so that there is one to keep.
    """
    if found.advice is None:
        names = [lecture.plan for lecture in found.lectures if lecture.plan]
    else:
        names = [one.plan for one in found.advice.ranked]
    chosen = [name for name in dict.fromkeys(names) if name not in CHEAP][:most]
    if not any("plan" in PLANS[name] for name in chosen):
        chosen.append("head_only")
    return tuple(chosen)


def best_base(rows: Sequence[Row], bases: Sequence[str]) -> str:
    """Return the base whose features serve a logistic probe best on validation, over seeds."""

    def mean(base: str) -> float:
        cell = in_grid(base), rules.FEATURES
        return float(np.mean([row["val"] for row in rows if (row["base"], row["plan"]) == cell]))

    return max(bases, key=mean)
