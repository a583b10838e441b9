"""The page of simulation: accuracy over real labels, and what simulation is worth in labels."""

import math
import pathlib
from typing import NamedTuple

import numpy as np

from tl_jax.report import figures, study
from tl_jax.report.plots import Drawing
from tl_jax.runs.subject import task_name
from tl_jax.stats.equivalents import labels_for
from tl_jax.stats.intervals import over_seeds
from tl_jax.studies.simulation import NONE

COLUMNS = ("simulation", "labels a class", "accuracy", "± 95 %", "gain", "± 95 % of gain")
COLUMNS += ("worth", "lowest", "highest")
UNITS = {"accuracy": "%", **dict.fromkeys(COLUMNS[3:6], "points")}


class Row(NamedTuple):
    """A simulation and a number of real labels; a line of the table. NaN where there is no figure:
    an interval of one seed, a comparison of real labels alone with themselves.
    """

    simulation: str
    labels: int  # of each class
    accuracy: float
    half: float
    gain: float = math.nan  # over the same labels without simulation
    gain_half: float = math.nan
    # labels of each class that are as accurate without simulation: the median, and over the seeds
    worth: float = math.nan
    lowest: float = math.nan
    highest: float = math.nan


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    config, found = result["config"], rows(result)
    sizes = ", ".join(f"{name}: {size:,}" for name, size in result["sizes"].items())
    largest = max(config["budgets"])
    study.write(
        workdir,
        title="Simulation to reality",
        lead="How many real labels is training on simulated images worth?",
        sections=[
            study.Section(
                "Accuracy on real images",
                "Each line is a start: fresh weights, or those that a simulation has trained. The "
                "same training on real labels follows, of as many steps whatever their number. "
                "Means over seeds with 95 % intervals (Student's t): a seed draws the weights, the "
                "order and the examples that have labels; the test images are the same. Gain: over "
                "as many labels without simulation, and over chance without labels.",
                (
                    study.Picture(
                        "simulation", "Test accuracy over labels of each class", _picture(found)
                    ),
                ),
                (study.Table("simulation", "Every start", COLUMNS, _lines(found, largest), UNITS),),
            ),
            study.Section("What simulation is worth", _words(found, largest)),
        ],
        facts={
            "base": f"{config['base']}, {config['start']} weights",
            "real": task_name(config["task"]),
            "images": sizes,
            "seeds": ", ".join(map(str, config["seeds"])),
        },
        result=result,
    )


def summary(result: dict) -> str:
    """Return a line for each start and number of labels."""
    lines = [f"{'simulation':14}{'labels':>7}{'accuracy':>16}{'gain':>15}  worth, labels a class"]
    for row in rows(result):
        accuracy = f"{100 * row.accuracy:.1f} ± {100 * row.half:.1f}"
        gain = f"{100 * row.gain:+.1f} ± {100 * row.gain_half:.1f}" if row.gain == row.gain else ""
        name = f"{row.simulation:14}{row.labels:7}{accuracy:>16}{gain:>15}"
        lines.append(f"{name}  {_worth(row, max(result['config']['budgets']))}".rstrip())
    return "\n".join(lines)


def rows(result: dict) -> list[Row]:
    """Return a row for each start and number of labels, the curve of real labels alone first."""
    by_key = {(cell["simulation"], cell["budget"]): cell["test"] for cell in result["cells"]}
    budgets, chance = list(result["config"]["budgets"]), 1 / len(result["classes"])
    curves = np.transpose([by_key[NONE, budget] for budget in budgets])  # (S, budgets)
    found = []
    for (name, budget), own in by_key.items():
        row = Row(name, budget, *map(float, over_seeds(own)))
        if name != NONE:
            others = by_key.get((NONE, budget), [chance] * len(own))
            gain, half = map(float, over_seeds(np.subtract(own, others)))
            pairs = zip(own, curves, strict=True)
            each = [labels_for(a, budgets, curve.tolist(), chance=chance) for a, curve in pairs]
            known = {"worth": float(np.median(each)), "lowest": min(each), "highest": max(each)}
            row = row._replace(gain=gain, gain_half=half, **known)
        found.append(row)
    return found


def _lines(found: list[Row], largest: int) -> list[tuple]:
    """Return the rows as the table has them: a worth beyond the curve is text."""
    beyond = f"> {largest}"
    return [
        tuple(beyond if value == math.inf else None if value != value else value for value in row)
        for row in found
    ]


def _worth(row: Row, largest: int) -> str:
    """Return what a row's simulation is worth as text."""
    if math.isnan(row.worth):
        return ""
    shown = [
        f"> {largest}" if value == math.inf else f"{value:.2g}"
        for value in (row.worth, row.lowest, row.highest)
    ]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def _words(found: list[Row], largest: int) -> str:
    """Return a paragraph for each simulation without real labels, and what the figures mean."""
    lines = [
        f"Simulation {row.simulation!r} alone, without a real label, is as accurate as "
        f"{_worth(row, largest)} real labels of each class are without it: median, lowest and "
        "highest over the seeds, each read off its own curve."
        for row in found
        if row.labels == 0
    ]
    lines.append(
        "Between two budgets a curve is linear in the logarithm of the number of labels; without "
        "any it is at chance. The table has the same for simulation and real labels together: less "
        "the labels that were used, that is what simulation saves."
    )
    return "\n\n".join(lines)


def _picture(found: list[Row]) -> Drawing:
    budgets = sorted({row.labels for row in found})
    names = list(dict.fromkeys(row.simulation for row in found))
    series = {
        name: [
            next(((r.accuracy, r.half) for r in found if r[:2] == (name, n)), (math.nan, math.nan))
            for n in budgets
        ]
        for name in names
    }
    return figures.over_budgets(budgets, series, label="test accuracy")
