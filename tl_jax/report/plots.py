"""Figures by matplotlib: SVG on a page, and SVG and PDF files.

matplotlib, from the extra `report`, is imported when the first figure is drawn. Class and file
names never enter a figure; the page shows them, escaped and in any script.
"""

import io
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tl_jax.report import html
from tl_jax.stats.intervals import Bins

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, FAINT, BLUE, ORANGE = "#33373d", "#8b929c", "#2f6db3", "#d8661f"
STYLE = {
    "svg.fonttype": "none",  # text stays text: small, and in the reader's font
    "svg.hashsalt": "tl_jax",  # the same figure gives the same bytes
    "pdf.fonttype": 42,  # TrueType, which journals accept
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid.axis": "y",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.alpha": 0.25,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
# (column of the history, label, colour)
LOSS = (("train_loss", "train", FAINT), ("val_loss", "validation", BLUE))
ACCURACY = (
    ("val_accuracy", "validation", BLUE),
    ("val_weighted_accuracy", "validation, weighted", ORANGE),
)


def panels(history: Sequence[dict]) -> list[tuple[str, tuple]]:
    """Return titles and series of a history's curves: losses, accuracies, all other metrics.

    Weighted accuracy is left out if it equals accuracy. Further terms of a loss, such as
    `train_domain`, have their own curves.
    """
    first = history[0] if history else {}
    known = {column for column, _, _ in (*LOSS, *ACCURACY)}
    same = all(r.get("val_weighted_accuracy") in (None, r.get("val_accuracy")) for r in history)
    curves: list[tuple[str, tuple]] = [("Loss", LOSS)] if history else []
    if "val_accuracy" in first:
        curves.append(("Validation accuracy", ACCURACY[:1] if same else ACCURACY))
    for column in first:
        which, _, name = column.partition("_")
        if column in known or which not in ("train", "val") or column == "train_seconds":
            continue
        series = ((column, "train" if which == "train" else "validation", BLUE),)
        curves.append((f"{name.replace('_', ' ').capitalize()}", series))
    return curves


def percent(x: float, _: float) -> str:
    """Return an axis label in percent."""
    return f"{100 * x:.4g} %"


def points(x: float, _: float) -> str:
    """Return an axis label in points."""
    return f"{100 * x:.4g}"


UNITS = {"%": percent, "points": points}  # formats of fractions, and of differences of fractions


class Drawing(NamedTuple):
    """A figure of this size in inches, drawn by `draw`; its files have the same bytes each time."""

    draw: Callable[["Figure"], None]
    height: float = 3.2
    width: float = 5.2

    def file(self, form: str) -> bytes:
        """Return the file in the form `svg` or `pdf`."""
        import matplotlib
        from matplotlib.figure import Figure

        buffer = io.BytesIO()
        with matplotlib.rc_context(STYLE), warnings.catch_warnings():
            # The browser finds a font for characters that matplotlib's font lacks.
            warnings.filterwarnings("ignore", r"Glyph .* missing from font")
            figure = Figure((self.width, self.height), layout="constrained")
            self.draw(figure)
            undated = {"CreationDate" if form == "pdf" else "Date": None}
            figure.savefig(buffer, format=form, transparent=True, dpi=200, metadata=undated)
        content = buffer.getvalue()
        return content if form == "pdf" else content.replace(b"'DejaVu", b"system-ui, 'DejaVu")

    @property
    def uri(self) -> str:
        """The SVG as a data URI."""
        return html.uri("image/svg+xml", self.file("svg"))


def segments(history: Sequence[dict]) -> list[range]:
    """Return the history's rows by phase; one starts where the name changes or epochs restart."""
    bounds = [
        i
        for i, row in enumerate(history)
        if i == 0
        or row["phase"] != history[i - 1]["phase"]
        or row["epoch"] <= history[i - 1]["epoch"]
    ]
    return [range(a, b) for a, b in itertools.pairwise([*bounds, len(history)])]


def curves(history: Sequence[dict], phases: Sequence[dict], series=LOSS) -> Drawing:
    """Draw columns of the history over all epochs, with phase boundaries and best epochs."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for column, label, color in series:
            y = _values(history, column)
            if np.isfinite(y).any():
                marker = "o" if len(y) <= 30 else ""
                axes.plot(np.arange(len(y)) + 1, y, color=color, label=label, marker=marker, ms=3)
        chosen = next((c for c, _, _ in series if c.startswith("val")), series[0][0])
        _mark_phases(axes, history, phases, chosen=chosen)
        axes.set_xlim(0.5, len(history) + 0.5)
        axes.xaxis.set_major_locator(whole_numbers())
        axes.set_xlabel("epoch")
        if series[0] == ACCURACY[0]:
            axes.yaxis.set_major_formatter(percent)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", handlelength=1.4)

    return Drawing(draw)


def reliability(bins: Bins) -> Drawing:
    """Draw accuracy over confidence, its gap to the diagonal, and a histogram of confidences."""

    def draw(figure: "Figure") -> None:
        top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        full = bins.count > 0
        x, y = bins.confidence[full], bins.accuracy[full]
        top.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=(0, (4, 3)), label="calibrated")
        top.vlines(x, x, y, color=ORANGE, lw=3, alpha=0.5, label="gap")
        top.plot(x, y, color=BLUE, marker="o", ms=4, label="measured")
        top.set(ylabel="accuracy", xlim=(0, 1), ylim=(-0.02, 1.02))
        top.yaxis.set_major_formatter(percent)
        top.legend(loc="best", handlelength=1.6)
        share = bins.count / max(bins.count.sum(), 1)
        width = np.diff(bins.edges)
        bottom.bar(bins.edges[:-1], share, width * 0.92, align="edge", color=BLUE, alpha=0.75)
        bottom.set(xlabel="confidence", ylabel="share")
        bottom.xaxis.set_major_formatter(percent)
        bottom.yaxis.set_major_formatter(percent)

    return Drawing(draw, height=4.4)


def confusion(counts: np.ndarray) -> Drawing:
    """Draw a confusion matrix (C, C), rows true, too large for numbers; shades are row shares."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.grid(False)
        axes.set(xlabel="predicted class", ylabel="true class")
        bar = figure.colorbar(image, shrink=0.8)
        bar.ax.yaxis.set_major_formatter(percent)
        bar.outline.set_visible(False)

    return Drawing(draw, height=4.6)


def scatter(true: np.ndarray, said: np.ndarray) -> Drawing:
    """Draw what was predicted (N,) over what is true (N,), which may be NaN."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        known = ~np.isnan(true)
        both = np.concatenate([true[known], said[known]])
        ends = (both.min(), both.max()) if len(both) else (0, 1)
        axes.plot(ends, ends, color=FAINT, lw=1, ls=(0, (4, 3)))
        alpha = max(0.15, min(0.8, 40 / max(known.sum(), 1) ** 0.7))
        axes.plot(true[known], said[known], "o", color=BLUE, ms=4, mew=0, alpha=alpha)
        axes.set(xlabel="true", ylabel="predicted")

    return Drawing(draw, height=3.8)


def whole_numbers():
    """Return a locator that puts ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True, min_n_ticks=1)


def _values(history: Sequence[dict], column: str) -> np.ndarray:
    """Return a column (E,) with NaN for null and for infinite values, as after divergence."""
    y = np.array([row.get(column) for row in history], np.float64)
    return np.where(np.isfinite(y), y, np.nan)


def _mark_phases(axes, history: Sequence[dict], phases: Sequence[dict], *, chosen: str) -> None:
    best = {phase["name"]: phase["best_epoch"] for phase in phases}
    order = [phase["name"] for phase in phases]
    rings = []
    for k, rows in enumerate(segments(history)):
        name = history[rows[0]]["phase"]
        number = str(order.index(name) + 1) if name in order else "?"
        room = 46 * len(rows) / len(history)  # characters over the phase's share of the axis
        label = f"{number} {name}" if len(f"{number} {name}") <= room else number
        place = {"ha": "center", "va": "bottom", "transform": axes.get_xaxis_transform()}
        middle = (rows[0] + rows[-1]) / 2 + 1
        axes.text(middle, 1.01, label, color=FAINT, size=9, parse_math=False, **place)
        if k:
            axes.axvline(rows[0] + 0.5, color=FAINT, lw=1, ls=(0, (2, 3)))
        rings += [i for i in rows if history[i]["epoch"] == best.get(name)]
    if rings:
        ring = {"color": BLUE, "marker": "o", "ms": 9, "mfc": "none", "mew": 1.6, "ls": ""}
        axes.plot(np.array(rings) + 1, _values(history, chosen)[rings], **ring, label="chosen")
