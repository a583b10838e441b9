"""What a study of one's own images has found."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.advice.knowledge import COLUMN, Cut, Known
from tl_jax.advice.plans import PLANS, Subject, in_grid
from tl_jax.errors import UserError
from tl_jax.runs.results import failures
from tl_jax.stats.paired import Estimate, corrected, overlap_of_rows
from tl_jax.studies.scenarios.verdicts import against_reference


class Ran(NamedTuple):
    """Plans that were run on the task, and beside them the cheap ones, on the same splits."""

    rows: Sequence[dict]  # of the cells that did not fail
    plans: tuple[str, ...]  # the best on validation first
    verdicts: Mapping[str, Mapping[str, Any]]  # of each other plan beside the best
    failed: tuple[str, ...]  # plans of which a run failed, and that are not compared

    @classmethod
    def of(cls, runs: dict, landmarks: dict, base: str) -> "Ran":
        """From the results of two grids, plans of which a run failed left out.

        UserError if none is left.
        """
        rows = [row for row in runs["rows"] if row.get("error") is None]
        seeds = {row["seed"] for row in rows}
        failed = tuple(dict.fromkeys(row["plan"] for row in failures(runs)))
        rows = [row for row in rows if row["plan"] not in failed]  # means are over the same splits
        if not rows:
            raise UserError(f"runs of every plan failed: {failures(runs)[0]['error']}")
        own = [row for row in landmarks["rows"] if row["base"] == in_grid(base)]
        rows += [row for row in own if row["seed"] in seeds]
        vals: dict[str, list[float]] = {row["plan"]: [] for row in rows}
        for row in rows:
            vals[row["plan"]].append(row["val"])
        plans = tuple(sorted(vals, key=lambda plan: -np.mean(vals[plan])))
        best = {"plans": plans, "reference": plans[0], "metric": "weighted_accuracy", "margin": 0.0}
        verdicts = against_reference(rows, best)
        return cls(rows, plans, {verdict["plan"]: verdict for verdict in verdicts}, failed)

    def of_plan(self, plan: str) -> list[dict]:
        """The plan's rows, one a seed."""
        return [row for row in self.rows if row["plan"] == plan]

    def test(self, plan: str) -> Estimate:
        """The plan's accuracy on test, a mean over splits."""
        tested = [row[COLUMN] for row in self.of_plan(plan)]
        return corrected(tested, ratio=overlap_of_rows(self.rows))

    def kept(self) -> tuple[str, Mapping[str, Any]]:
        """The best plan that trains a network, and the settings that it had in the first split."""
        trained = next((plan for plan in self.plans if "plan" in PLANS[plan]), None)
        if trained is None:
            raise UserError("no plan that trains a network came to an end: there is none to keep")
        first = min(self.of_plan(trained), key=lambda row: row["seed"])
        return trained, first["chosen"]


class Found(NamedTuple):
    """What is known of the task; `ran` and `model` are None where they were not asked for."""

    subject: Subject
    look: dict
    landmarks: dict
    base: str
    known: Known
    layers: dict
    cut: Cut
    ran: Ran | None = None
    model: dict | None = None
