"""The page of LSDA: average precision of classes with boxes and without, by way."""

import pathlib
from typing import Any

import numpy as np

from tl_jax.report import study
from tl_jax.runs.subject import task_name
from tl_jax.stats.intervals import known, over_seeds
from tl_jax.stats.paired import Estimate, paired
from tl_jax.stats.verdict import verdicts
from tl_jax.studies.lsda import WAYS

COLUMNS = ("way", "what", "AP without boxes", "half", "AP with boxes", "half of these")
DIFFERENCES = ("way", "less", "difference", "half", "verdict")
PAIRS = (("shifted", "adapted"), ("shifted", "classified"), ("oracle", "shifted"))


def write(workdir: pathlib.Path, result: dict[str, Any]) -> None:
    """Write the page and its tables."""
    config = result["config"]
    study.write(
        workdir,
        title="Detectors without boxes",
        lead="Some classes have boxes, others only images in which they are. Does what the first "
        "gain from boxes carry over to the others?",
        sections=[_levels(result), _compared(result)],
        facts={
            "base": config["base"],
            "task": task_name(config["task"]),
            "classes without boxes": ", ".join(config["held_out"]),
            "nearest classes": str(config["nearest"]),
            "seeds": ", ".join(map(str, config["seeds"])),
            "method": "LSDA, Hoffman et al. 2014, arXiv:1407.5035",
        },
        result=result,
    )


def summary(result: dict[str, Any]) -> str:
    """Return a line a way."""
    lines = [f"{'way':12}{'without boxes':>15}{'with boxes':>12}"]
    for way, _, held, _, others, _ in _rows(result):
        lines.append(f"{way:12}{100 * held:15.1f}{100 * others:12.1f}")
    return "\n".join(lines)


def _by_seed(result: dict[str, Any], way: str, *, held: bool) -> dict[int, float]:
    """Return the mean average precision of the classes without boxes, or with, by seed."""
    without = set(result["config"]["held_out"])
    found = {}
    for cell in result["cells"]:
        own = [ap for name, ap in cell[way].items() if (name in without) == held and ap is not None]
        found[cell["seed"]] = float(np.mean(own)) if own else np.nan
    return found


def _rows(result: dict[str, Any]) -> list[tuple]:
    rows = []
    for way, what in WAYS.items():
        row: list[Any] = [way, what]
        for held in (True, False):
            values = list(_by_seed(result, way, held=held).values())
            mean, half = over_seeds(values, ratio=result["overlap"])
            row += [float(mean), known(half)]
        rows.append(tuple(row))
    return rows


def _levels(result: dict[str, Any]) -> study.Section:
    text = (
        "Average precision on test at an IoU of 0.5, by VOC's rule, as means over classes and "
        "seeds, with half the 95 % interval for splits that overlap (Nadeau & Bengio 2003)."
    )
    hundredths = {name: "points" if "half" in name else "%" for name in COLUMNS[2:]}
    table = study.Table("lsda", "Every way", COLUMNS, _rows(result), hundredths)
    return study.Section("How good", text, (), (table,))


def _compared(result: dict[str, Any]) -> study.Section:
    estimates: list[Estimate] = [
        paired(*(_by_seed(result, way, held=True) for way in pair), ratio=result["overlap"])
        for pair in PAIRS
    ]
    said = verdicts(estimates, margin=0.0)
    rows = [
        (*pair, estimate.mean, known(estimate.half), verdict)
        for pair, estimate, verdict in zip(PAIRS, estimates, said, strict=True)
    ]
    text = (
        "Differences for the classes without boxes, paired by seed. A verdict is corrected for "
        "their number, and takes five seeds."
    )
    hundredths = {"difference": "points", "half": "points"}
    table = study.Table("differences", "What the shift gives", DIFFERENCES, rows, hundredths)
    return study.Section("Does the shift help?", text, (), (table,))
