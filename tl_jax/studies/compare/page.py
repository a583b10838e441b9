"""The comparison of runs as a table for the terminal, as CSV and as LaTeX."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from tl_jax.studies.compare.row import Comparison, Row

Cells = list[tuple]  # the heading, then a row for each line: text, numbers or None
LATEX = str.maketrans(
    {sign: "\\" + sign for sign in "&%_#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$"}
)
PLACES = {"p": 3, "seconds": 0}  # behind the point; two elsewhere


def table(seeds: Sequence[int], rows: Iterable[Row]) -> str:
    """A line for each split and metric: mean, standard deviation, then each run by seed."""
    head = f"{'':27}{'mean':>8}{'sd':>8}" + "".join(f"{f'seed {s}':>9}" for s in seeds)
    _, *lines = by_seed(seeds, rows, percent=True)
    return "\n".join([head, *(_line(*line) for line in lines)])


def _line(split: str, metric: str, mean: float | None, *values: float) -> str:
    name = f"{split} {metric}"
    if mean is None:
        return f"{name}: not defined in every run"
    return f"{name:27}{mean:8.2f}{values[0]:8.2f}" + "".join(f"{x:9.2f}" for x in values[1:])


def by_seed(seeds: Sequence[int], rows: Iterable[Row], *, percent: bool = False) -> Cells:
    """The runs of one config as cells, fractions or in percent; what is not defined is None."""
    found: Cells = [("split", "metric", "mean", "sd", *(f"seed {seed}" for seed in seeds))]
    for row in rows:
        scale, unit = _scale(row.metric, percent)
        values = [row.mean, row.deviation, *(row.values or [None] * len(seeds))]
        own = (None if x is None else scale * x for x in values)
        found.append((row.split, f"{row.metric}{unit}", *own))
    return found


def by_method(found: Comparison, *, percent: bool = False) -> Cells:
    """The methods as cells, fractions or in percent; the first is compared with nothing."""
    scale, unit = _scale(found.metric, percent)
    points = ", points" if unit else ""
    head = ("method", "seeds", f"test {found.metric}{unit}", f"± 95 %{points}")
    head += (f"difference{points}", f"low{points}", f"high{points}")
    cells: Cells = [(*head, "pairs", "p", "verdict", "seconds", "trained parameters", "kept")]
    for method, own in zip(found.methods, [None, *found.differences], strict=True):
        compared: tuple = (None,) * 6
        if own is not None:
            e = own.estimate
            compared = (*(scale * x for x in (e.mean, e.low, e.high)), e.count, own.p, own.verdict)
        mean, half = scale * method.mean.mean, scale * method.mean.half
        row = (method.name, len(method.seeds), mean, half, *compared)
        cells.append((*row, method.seconds, method.parameters, method.kept))
    return cells


def _scale(metric: str, percent: bool) -> tuple[float, str]:
    """By what a metric is multiplied, and what its heading says; the loss stays in nats."""
    return (100.0, ", %") if percent and metric != "loss" else (1.0, "")


def methods(found: Comparison) -> str:
    """The methods as a table for the terminal, and how to read it."""
    cells = shown(by_method(found, percent=True))
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
    how, scale = "Student's, on one test split", _scale(found.metric, True)[0]
    if found.ratio:
        how = f"for splits drawn anew that overlap (n_test / n_train = {found.ratio:.2f})"
    return (
        f"Differences are to {found.methods[0].name}, paired by seed; intervals are 95 %, {how}. "
        f"p is of no difference, after Holm's correction for {len(found.differences)}; a verdict "
        f"needs five pairs, and a difference beyond a margin of {scale * found.margin:g}."
    )


def _text(value: Any, places: int) -> str:
    if isinstance(value, float):
        return f"{value:.{places}f}" if math.isfinite(value) else ""
    if isinstance(value, int):
        return f"{value:,}"
    return value or ""


def _escaped(text: str) -> str:
    return text.translate(LATEX)
