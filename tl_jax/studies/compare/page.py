"""The comparison of runs as a table for the terminal, as CSV and as LaTeX."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from tl_jax.report.text import PLAIN
from tl_jax.studies.compare.row import Comparison, Row

Cells = list[tuple]  # the heading, then a row for each line: text, numbers or None
LATEX = str.maketrans(
    {sign: "\\" + sign for sign in "&%_#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$"}
)
PLACES = {"p": 3, "seconds": 0}  # decimal places; two elsewhere


def table(seeds: Sequence[int], rows: Iterable[Row]) -> str:
    """Return a line for each split and metric: mean, standard deviation, each run by seed."""
    head = f"{'':27}{'mean':>8}{'sd':>8}" + "".join(f"{f'seed {s}':>9}" for s in seeds)
    _, *lines = by_seed(seeds, rows, percent=True)
    return "\n".join([head, *(_line(*line) for line in lines)])


def _line(split: str, metric: str, mean: float | None, *values: float) -> str:
    name = f"{split} {metric}"
    if mean is None:
        return f"{name}: not defined in every run"
    return f"{name:27}{mean:8.2f}{values[0]:8.2f}" + "".join(f"{x:9.2f}" for x in values[1:])


def by_seed(seeds: Sequence[int], rows: Iterable[Row], *, percent: bool = False) -> Cells:
    """Return the runs of a config as cells, in fractions or percent; undefined ones are None."""
    cells: Cells = [("split", "metric", "mean", "sd", *(f"seed {seed}" for seed in seeds))]
    for row in rows:
        scale, unit = _scale(row.metric, percent)
        values = [row.mean, row.deviation, *(row.values or [None] * len(seeds))]
        scaled = (None if x is None else scale * x for x in values)
        cells.append((row.split, f"{row.metric}{unit}", *scaled))
    return cells


def by_method(comparison: Comparison, *, percent: bool = False) -> Cells:
    """Return the methods as cells, in fractions or percent; the first has no comparison."""
    scale, unit = _scale(comparison.metric, percent)
    points = ", points" if unit else ""
    head = ("method", "seeds", f"test {comparison.metric}{unit}", f"± 95 %{points}")
    head += (f"difference{points}", f"low{points}", f"high{points}")
    cells: Cells = [(*head, "pairs", "p", "verdict", "seconds", "trained parameters", "kept")]
    for method, difference in zip(comparison.methods, [None, *comparison.differences], strict=True):
        compared: tuple = (None,) * 6
        if difference is not None:
            e, p, verdict = difference.estimate, difference.p, difference.verdict
            compared = (*(scale * x for x in (e.mean, e.low, e.high)), e.count, p, verdict)
        mean, half = scale * method.mean.mean, scale * method.mean.half
        row = (method.name, len(method.seeds), mean, half, *compared)
        cells.append((*row, method.seconds, method.parameters, method.kept))
    return cells


def _scale(metric: str, percent: bool) -> tuple[float, str]:
    """Return the factor on a metric and the unit of its heading; what is no share stays."""
    return (100.0, ", %") if percent and metric not in PLAIN else (1.0, "")


def methods(comparison: Comparison) -> str:
    """Return the methods as a table for the terminal, with a note on how to read it."""
    cells = shown(by_method(comparison, percent=True))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *others in cells:
        columns = [c.rjust(w) for c, w in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *columns]).rstrip())
    return "\n".join([*lines, "", _note(comparison)])


def shown(cells: Cells) -> list[tuple[str, ...]]:
    """Return cells as text, with numbers rounded; None and what is not finite are empty."""
    head = cells[0]
    rows = [tuple(map(_text, row, (PLACES.get(name, 2) for name in head))) for row in cells[1:]]
    return [head, *rows]


def as_csv(cells: Cells) -> str:
    """Return cells as a CSV file, with all digits."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue()


def as_latex(cells: Cells) -> str:
    """Return cells as a LaTeX `tabular` with the rules of the package booktabs."""
    lines = [" & ".join(map(_escaped, row)) + r" \\" for row in shown(cells)]
    columns = "l" + "r" * (len(cells[0]) - 1)
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:]]
    return "\n".join([*body, r"\bottomrule", r"\end{tabular}", ""])


def _note(comparison: Comparison) -> str:
    how, scale = "Student's, on one test split", _scale(comparison.metric, True)[0]
    if comparison.ratio:
        how = f"for splits drawn anew that overlap (n_test / n_train = {comparison.ratio:.2f})"
    return (
        f"Differences from {comparison.methods[0].name} are paired by seed; intervals are 95 %, "
        f"{how}. p is the p value of no difference, after Holm's correction for "
        f"{len(comparison.differences)}; a verdict needs five pairs and a difference beyond a "
        f"margin of {scale * comparison.margin:g}."
    )


def _text(value: Any, places: int) -> str:
    if isinstance(value, float):
        return f"{value:.{places}f}" if math.isfinite(value) else ""
    if isinstance(value, int):
        return f"{value:,}"
    return value or ""


def _escaped(text: str) -> str:
    return text.translate(LATEX)
