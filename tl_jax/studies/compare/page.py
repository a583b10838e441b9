"""The comparison of runs as a table for the terminal, as CSV and as LaTeX."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from tl_jax.studies.compare.row import Comparison, Row

Cells = list[tuple]  # the heading, then a row for each line: text, numbers or None
PLACES = {"p": 3, "seconds": 0}  # behind the point; two elsewhere


def table(seeds: Sequence[int], rows: Iterable[Row]) -> str:
    """A line for each split and metric: mean, standard deviation, then each run by seed."""
    head = f"{'':22}{'mean':>8}{'sd':>8}" + "".join(f"{f'seed {s}':>9}" for s in seeds)
    return "\n".join([head, *map(_line, rows)])


def _line(row: Row) -> str:
    name = f"{row.split} {row.metric}"
    if row.mean is None:
        return f"{name}: not defined in every run"
    values = "".join(f"{value:9.2f}" for value in row.values)
    return f"{name:22}{row.mean:8.2f}{row.deviation:8.2f}{values}"


def by_seed(seeds: Sequence[int], rows: Iterable[Row]) -> Cells:
    """The runs of one config as cells; what is not defined is None."""
    found: Cells = [("split", "metric", "mean", "sd", *(f"seed {seed}" for seed in seeds))]
    for row in rows:
        values = row.values or [None] * len(seeds)
        found.append((row.split, row.metric, row.mean, row.deviation, *values))
    return found


def by_method(found: Comparison) -> Cells:
    """The methods as cells, the first with nothing to be compared with."""
    head = ("method", "seeds", f"test {found.metric}", "± 95 %", "difference", "low", "high")
    cells: Cells = [(*head, "pairs", "p", "verdict", "seconds", "trained parameters", "kept")]
    for method, own in zip(found.methods, [None, *found.differences], strict=True):
        compared: tuple = (None,) * 6
        if own is not None:
            e = own.estimate
            compared = (e.mean, e.low, e.high, e.count, own.p, own.verdict)
        mean, half = method.mean.mean, method.mean.half
        row = (method.name, len(method.seeds), mean, half, *compared)
        cells.append((*row, method.seconds, method.parameters, method.kept))
    return cells


def methods(found: Comparison) -> str:
    """The methods as a table for the terminal, and how to read it."""
    cells = shown(by_method(found))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *others in cells:
        columns = [c.rjust(w) for c, w in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *columns]).rstrip())
    return "\n".join([*lines, "", _told(found)])


def shown(cells: Cells) -> list[tuple[str, ...]]:
    """Cells as text, numbers rounded; what is None or not finite is empty."""
    head = cells[0]
    rows = [tuple(map(_text, row, (PLACES.get(name, 2) for name in head))) for row in cells[1:]]
    return [head, *rows]


def as_csv(cells: Cells) -> str:
    """Cells as a CSV file, numbers with all digits."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue()


def as_latex(cells: Cells) -> str:
    """Cells as a `tabular` of LaTeX with the rules of the package booktabs."""
    lines = [" & ".join(map(_escaped, row)) + r" \\" for row in shown(cells)]
    columns = "l" + "r" * (len(cells[0]) - 1)
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:]]
    return "\n".join([*body, r"\bottomrule", r"\end{tabular}", ""])


def _told(found: Comparison) -> str:
    how = "Student's, on one test split"
    if found.ratio:
        how = f"for splits drawn anew that overlap (n_test / n_train = {found.ratio:.2f})"
    return (
        f"Differences are to {found.methods[0].name}, paired by seed; intervals are 95 %, {how}. "
        f"p is of no difference, after Holm's correction for {len(found.differences)}; a verdict "
        f"needs five pairs, and a difference beyond a margin of {found.margin:g}."
    )


def _text(value: Any, places: int) -> str:
    if isinstance(value, float):
        return f"{value:.{places}f}" if math.isfinite(value) else ""
    if isinstance(value, int):
        return f"{value:,}"
    return value or ""


def _escaped(text: str) -> str:
    for sign in "&%_#$":
        text = text.replace(sign, "\\" + sign)
    return text.replace("±", r"$\pm$")
