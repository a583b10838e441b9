"""The page of grown networks: accuracy by epoch, and epochs to the teacher's accuracy."""

import pathlib

import numpy as np

from tl_jax.report import figures, study
from tl_jax.runs.subject import task_name
from tl_jax.stats.intervals import known, over_seeds
from tl_jax.stats.paired import paired
from tl_jax.stats.verdict import verdicts
from tl_jax.studies.grow import CONTINUED, SIZES, STARTS, TEACHER

COLUMNS = ("size", "start", "parameters", "rate", "val at first", "val", "test", "half", "epochs")
COLUMNS += ("reached by",)
DIFFERENCES = ("size", "grown less", "test difference", "half", "verdict")


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    config = result["config"]
    split = ", ".join(f"{count:,} {name}" for name, count in result["sizes"].items())
    study.write(
        workdir,
        title="Grown networks",
        lead="A teacher is trained; a wider and a deeper network begin as the same function and "
        "learn on. Do they learn faster than networks of their size from scratch?",
        sections=[_learning(result), _compared(result)],
        facts={
            "base": result["base"],
            "task": f"{task_name(config['task'])}: {split} examples",
            "wider": ", ".join(
                f"{place} x {factor:g}" for place, factor in config["wider"].items()
            ),
            "deeper": ", ".join(config["deeper"]),
            "noise on copies": f"{config['noise']:g} of a kernel's deviation",
            "seeds": ", ".join(map(str, config["seeds"])),
            "method": "Net2Net, Chen et al. 2015, arXiv:1511.05641",
        },
        result=result,
    )


def summary(result: dict) -> str:
    """Return a line a way of beginning."""
    lines = [f"{'size':8} {'start':24}{'at first':>9}{'val':>7}{'test':>7}{'epochs':>8}"]
    for size, start, _, _, first, best, test, _, epochs, reached in _rows(result):
        figures = f"{100 * first:9.1f}{100 * best:7.1f}{100 * test:7.1f}"
        shown = "" if epochs is None else f"{epochs:8.1f} ({reached})"
        lines.append(f"{size:8} {start:24}{figures}{shown}")
    return "\n".join(lines)


def _cells(result: dict) -> dict[tuple[str, str], dict[int, dict]]:
    """Return the rows by size and start, then by seed, in the order of the page."""
    ways = [(TEACHER, ""), (TEACHER, CONTINUED), *((s, b) for s in SIZES for b in STARTS)]
    found: dict[tuple[str, str], dict[int, dict]] = {way: {} for way in ways}
    for cell in result["cells"]:
        found[cell["size"], cell["start"]][cell["seed"]] = cell
    return {way: cells for way, cells in found.items() if cells}


def _rows(result: dict) -> list[tuple]:
    """Return a row a way of beginning, in the order of `COLUMNS`."""
    cells, rows = _cells(result), []
    teachers = cells[TEACHER, ""]
    for (size, start), by_seed in cells.items():
        of = list(by_seed.values())
        best = np.mean([max(cell["val"][1:]) for cell in of])  # after an epoch, as the one tested
        test, test_half = over_seeds([cell["test"] for cell in of], ratio=result["overlap"])
        epochs = [
            reached(cell["val"], max(teachers[seed]["val"])) for seed, cell in by_seed.items()
        ]
        there = [epoch for epoch in epochs if epoch is not None]
        rows.append((
            size, start or "fresh weights", of[0]["parameters"], of[0]["rate"],
            float(np.mean([cell["val"][0] for cell in of])),
            float(best), float(test), known(test_half),
            float(np.mean(there)) if there else None, f"{len(there)} of {len(of)}",
        ))  # fmt: skip
    return rows


def reached(accuracies: list[float], wanted: float) -> int | None:
    """Return the first epoch, 0 before training, whose accuracy is at least `wanted`, or None."""
    return next((epoch for epoch, value in enumerate(accuracies) if value >= wanted), None)


def _learning(result: dict) -> study.Section:
    cells = _cells(result)
    pictures = []
    for size in SIZES:
        lines = {start: cells[size, start] for start in STARTS if (size, start) in cells}
        if not lines:
            continue
        lines[CONTINUED] = cells[TEACHER, CONTINUED]
        # (epochs + 1, seeds)
        series = {
            name: np.transpose([c["val"] for c in own.values()]) for name, own in lines.items()
        }
        epochs = [str(epoch) for epoch in range(len(series[CONTINUED]))]
        drawn = figures.against_depth(epochs, series, label="validation accuracy")
        caption = f"The {size} network: validation accuracy after each epoch, 0 before training"
        pictures.append(study.Picture(f"learning_{size}", caption, drawn))
    text = (
        "Means over seeds, which draw splits and first weights. A grown network computes at first "
        "what the teacher does, and learns at a fraction of its rate. Epochs are those to "
        "the best validation accuracy of the teacher, 0 before training, over the seeds that "
        "reached it; val and test are of the best epoch by validation. The teacher trained on at "
        "the grown networks' rate shows what longer training alone gives."
    )
    hundredths = {name: "%" for name in ("val at first", "val", "test")}
    hundredths["half"] = "points"
    table = study.Table("grown", "Every way of beginning", COLUMNS, _rows(result), hundredths)
    return study.Section("Learning", text, tuple(pictures), (table,))


def _compared(result: dict) -> study.Section:
    cells, ratio = _cells(result), result["overlap"]
    pairs = [
        (size, other, cells[size, "grown"], cells[key])
        for size in SIZES
        if (size, "grown") in cells
        for other, key in (
            *((start, (size, start)) for start in list(STARTS)[1:]),
            (CONTINUED, (TEACHER, CONTINUED)),
        )
    ]
    estimates = [paired(_tests(one), _tests(other), ratio=ratio) for *_, one, other in pairs]
    rows = [
        (size, other, estimate.mean, known(estimate.half), verdict)
        for (size, other, *_), estimate, verdict in zip(
            pairs, estimates, verdicts(estimates, margin=0.0), strict=True
        )
    ]
    text = (
        "Differences of test accuracy, paired by seed, with 95 % intervals for splits that overlap "
        "(Nadeau & Bengio 2003). A verdict is corrected for their number, and takes five seeds."
    )
    hundredths = {"test difference": "points", "half": "points"}
    table = study.Table("differences", "Grown or not", DIFFERENCES, rows, hundredths)
    return study.Section("Is it better in the end?", text, (), (table,))


def _tests(by_seed: dict[int, dict]) -> dict[int, float]:
    return {seed: cell["test"] for seed, cell in by_seed.items()}
