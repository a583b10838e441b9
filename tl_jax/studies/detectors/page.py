"""The page of detectors: average precision over budgets, by detector and plan."""

import pathlib
from typing import Any

import numpy as np

from tl_jax.report import figures, study
from tl_jax.runs.subject import task_name
from tl_jax.stats.intervals import known, over_seeds
from tl_jax.stats.paired import paired
from tl_jax.stats.verdict import verdicts
from tl_jax.studies.detectors import METRICS

COLUMNS = ("detector", "plan", "images", *METRICS.values(), "half", "seeds", "seconds")
SHIFTED = ("shift", "detector", "plan", "images", *METRICS.values(), "half", "mAP of the task")
DIFFERENCES = ("detector", "plan", "images", "difference", "half", "verdict")


def write(workdir: pathlib.Path, result: dict[str, Any]) -> None:
    """Write the page and its tables."""
    config = result["config"]
    sizes = ", ".join(f"{s['train']} + {s['val']} (test {s['test']})" for s in result["sizes"])
    study.write(
        workdir,
        title="What transfer gives a detector",
        lead="The same detectors, trained by several plans at several budgets of labelled images, "
        "and judged by COCO's mean average precision.",
        sections=[_levels(result), _compared(result), *_shifted(result), _every(result)],
        facts={
            "base": config["base"],
            "task": task_name(config["task"]),
            "labelled images, train + val": sizes,
            "seeds": ", ".join(map(str, config["seeds"])),
        },
        result=result,
    )


def summary(result: dict[str, Any]) -> str:
    """Return a line a detector, plan and budget."""
    lines = [f"{'detector':12} {'plan':20}{'images':>8}{'mAP':>8}{'AP50':>8}{'half':>7}"]
    for detector, plan, images, mean, ap50, half, *_ in _rows(result):
        spread = "" if half is None else f"{100 * half:7.1f}"
        lines.append(
            f"{detector:12} {plan:20}{images:>8}{100 * mean:8.1f}{100 * ap50:8.1f}{spread}"
        )
    return "\n".join(lines)


def _cells(result: dict[str, Any]) -> dict[tuple[str, str, int], dict[int, dict]]:
    """Return the rows by detector, plan and budget, then by seed; the reference comes first."""
    config = result["config"]
    plans = sorted(config["plans"], key=lambda plan: plan != config["reference"])
    found: dict[tuple[str, str, int], dict[int, dict]] = {
        (detector, plan, budget): {}
        for detector in config["detectors"]
        for plan in plans
        for budget in config["budgets"]
    }
    for cell in result["cells"]:
        found[cell["detector"], cell["plan"], cell["budget"]][cell["seed"]] = cell
    return {key: cells for key, cells in found.items() if cells}


def _rows(result: dict[str, Any]) -> list[tuple]:
    """Return a row a detector, plan and budget, in the order of `COLUMNS`."""
    sizes, rows = _sizes(result), []
    for (detector, plan, budget), by_seed in _cells(result).items():
        of = list(by_seed.values())
        means = [float(np.mean([cell[metric] for cell in of])) for metric in METRICS]
        _, half = over_seeds([cell["map"] for cell in of], ratio=result["overlap"])
        seconds = float(np.mean([cell["seconds"] for cell in of]))
        images = sizes[budget]["train"] + sizes[budget]["val"]
        rows.append((detector, plan, images, *means, known(half), len(of), seconds))
    return rows


def _sizes(result: dict[str, Any]) -> dict[int, dict[str, int]]:
    return {sizes["budget"]: sizes for sizes in result["sizes"]}


def _levels(result: dict[str, Any]) -> study.Section:
    rows, config = _rows(result), result["config"]
    series: dict[str, list[tuple[float, float]]] = {}
    for detector, plan, _, mean, _, half, *_ in rows:
        own = series.setdefault(f"{detector}, {plan}", [])
        own.append((mean, np.nan if half is None else half))
    whole = {name: own for name, own in series.items() if len(own) == len(config["budgets"])}
    images = [s["train"] + s["val"] for s in result["sizes"]]
    drawn = figures.over_budgets(images, whole, label="mAP on test", of="labelled images")
    text = (
        "Means over seeds, which draw splits, labelled images and first weights; half is half the "
        "95 % interval of mAP for splits that overlap (Nadeau & Bengio 2003). Images are those for "
        "training and validation."
    )
    hundredths = {name: "%" for name in METRICS.values()} | {"half": "points"}
    table = study.Table("detectors", "Every detector and plan", COLUMNS, rows, hundredths)
    picture = study.Picture("budgets", "mAP over labelled images", drawn)
    return study.Section("How good", text, (picture,) if whole else (), (table,))


def _compared(result: dict[str, Any]) -> study.Section:
    cells, sizes = _cells(result), _sizes(result)
    last = result["config"]["reference"]
    others = [plan for plan in result["config"]["plans"] if plan != last]
    pairs = [
        (detector, plan, budget, cells[detector, plan, budget], cells[detector, last, budget])
        for detector in result["config"]["detectors"]
        for plan in others
        for budget in result["config"]["budgets"]
        if (detector, plan, budget) in cells and (detector, last, budget) in cells
    ]
    estimates = [
        paired(_maps(one), _maps(other), ratio=result["overlap"])
        for _, _, budget, one, other in pairs
    ]
    rows = [
        (detector, plan, sizes[budget]["train"] + sizes[budget]["val"], estimate.mean,
         known(estimate.half), verdict)
        for (detector, plan, budget, *_), estimate, verdict in zip(
            pairs, estimates, verdicts(estimates, margin=0.0), strict=True
        )
    ]  # fmt: skip
    text = (
        f"Differences of mAP to the plan {last}, paired by seed. A verdict is corrected for their "
        "number, and takes five seeds."
    )
    hundredths = {"difference": "points", "half": "points"}
    table = study.Table("differences", f"Less {last}", DIFFERENCES, rows, hundredths)
    return study.Section("What transfer gives", text, (), (table,))


def _shifted(result: dict[str, Any]) -> list[study.Section]:
    """Return a section of what the detectors give on the shifted tasks, if there are any."""
    sizes, rows = _sizes(result), []
    for shift in result["config"]["shifts"]:
        for (detector, plan, budget), by_seed in _cells(result).items():
            there = [cell["shifts"][shift] for cell in by_seed.values()]
            means = [float(np.mean([scores[metric] for scores in there])) for metric in METRICS]
            _, half = over_seeds([scores["map"] for scores in there], ratio=result["overlap"])
            here = float(np.mean(list(_maps(by_seed).values())))
            images = sizes[budget]["train"] + sizes[budget]["val"]
            rows.append((shift, detector, plan, images, *means, known(half), here))
    if not rows:
        return []
    text = "The same detectors on the test splits of tasks that they have not learnt from."
    hundredths = dict.fromkeys((*METRICS.values(), "mAP of the task"), "%") | {"half": "points"}
    table = study.Table("shifts", "Shifted tasks", SHIFTED, rows, hundredths)
    return [study.Section("Where the domain shifts", text, (), (table,))]


def _every(result: dict[str, Any]) -> study.Section:
    """Return the section of single trainings, from which all figures above are."""
    shifts, sizes = list(result["config"]["shifts"]), _sizes(result)
    rows = [
        (detector, plan, sizes[budget]["train"] + sizes[budget]["val"], seed, cell["map"],
         cell["ap50"], *(cell["shifts"][shift]["map"] for shift in shifts),
         cell["recall_of_proposals"], cell["seconds"])
        for (detector, plan, budget), by_seed in _cells(result).items()
        for seed, cell in by_seed.items()
    ]  # fmt: skip
    measured = (*METRICS.values(), *(f"mAP of {shift}" for shift in shifts), "proposals' recall")
    columns = ("detector", "plan", "images", "seed", *measured, "seconds")
    table = study.Table("cells", "Every training", columns, rows, dict.fromkeys(measured, "%"))
    return study.Section("Training by training", "", (), (table,))


def _maps(by_seed: dict[int, dict]) -> dict[int, float]:
    return {seed: cell["map"] for seed, cell in by_seed.items()}
