"""Plots of one chain and of the zoo, as PNG. They need matplotlib (the extra `report`)."""

import io
import itertools
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tl_jax.describe.layers import Row
from tl_jax.describe.zoo import Entry
from tl_jax.report.plots import BLUE, FAINT, INK, ORANGE, STYLE

# One colour for each family, Paul Tol's "muted" with our blue and orange; then the next marker
COLOURS = (BLUE, ORANGE, "#117733", "#882255", "#44aa99", "#999933", "#aa4499", "#332288")
MARKERS = "osD"
COSTS = {"macs": "multiply-accumulates for an image", "parameters": "parameters"}
# Offsets of a label from its data point, in typographic points, best first
AROUND = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7))
OFFSETS = tuple((x * far, y * far) for far in (5, 9, 14, 20) for x, y in AROUND)
FAR = len(AROUND)  # from this offset on, a line leads back to the data point


def zoo(entries: Sequence[Entry]) -> bytes:
    """Plot published top-1 over multiply-accumulates and over parameters; return the PNG.

    MobileNet's paper has such plots (Howard et al. 2017, arXiv:1704.04861, figures 4 and 5).
    """
    known = [(e, e.top1) for e in entries if e.top1 is not None]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (key, label) in zip(panels, COSTS.items(), strict=True):
            _scatter(axes, [e for e, _ in known], key)
            axes.set_xlabel(label)
        panels[0].set_ylabel("published top-1 on ImageNet, %")
        legend = panels[0].get_legend_handles_labels()
        figure.legend(*legend, loc="outside lower center", ncols=7, handletextpad=0.2)
        figure.canvas.draw()  # settle the layout before placing labels
        figure.set_layout_engine("none")
        for axes, key in zip(panels, COSTS, strict=True):
            _label(axes, [(getattr(e, key), top1, _variant(e)) for e, top1 in known])

    return _png(draw, 13.0, 7.6)


def _scatter(axes, entries: Sequence[Entry], key: str) -> None:
    """Plot top-1 over the entries' field `key`; each family has its colour and marker."""
    styles = itertools.cycle(itertools.product(MARKERS, COLOURS))
    for family, (marker, colour) in zip(sorted({e.family for e in entries}), styles, strict=False):
        members = [e for e in entries if e.family == family]
        x, y = [getattr(e, key) for e in members], [e.top1 for e in members]
        axes.plot(x, y, marker, color=colour, ms=5, label=family)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(_short)
    axes.grid(True, axis="both")
    axes.margins(0.06)


def layers(title: str, rows: Sequence[Row]) -> bytes:
    """Plot parameters, multiply-accumulates and receptive fields, if there are any, by layer;
    return the PNG.
    """
    positions, spatial = range(len(rows)), any(r.field for r in rows)

    def draw(figure: Figure) -> None:
        figure.suptitle(title, size=11)
        left, middle, *others = figure.subplots(1, 2 + spatial, sharey=True)
        left.barh(positions, [r.parameters for r in rows], color=BLUE)
        left.set_xlabel("parameters")
        middle.barh(positions, [r.macs for r in rows], color=ORANGE)
        middle.set_xlabel("multiply-accumulates")
        for right in others:
            _fields(right, rows)
        left.set_yticks(positions, [r.name for r in rows], size=8)
        left.set_ylim(len(rows) - 0.4, -0.6)
        for axes in (left, middle, *others):
            axes.grid(True, axis="x")
            axes.grid(False, axis="y")
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(_short)

    return _png(draw, 11.0, 1.6 + 0.19 * len(rows))


def _fields(axes, rows: Sequence[Row]) -> None:
    """Plot the receptive field of each layer, the first one on top."""
    for key, label, colour, line in (
        ("field", "with pooling", BLUE, "-"),
        ("convs", "convolutions only", ORANGE, "--"),
    ):
        fields = np.array([max(getattr(r, key)) for r in rows], np.float64)
        fields[np.isinf(fields)] = np.nan
        axes.plot(fields, range(len(rows)), line, marker="o", ms=3, color=colour, label=label)
    axes.set_xlabel("receptive field, pixels (none drawn: all)")
    axes.legend(loc="best")
    axes.set_xlim(left=0)


def _png(draw: Callable[[Figure], None], width: float, height: float) -> bytes:
    """Return the PNG of what `draw` draws on a figure of that size, in inches."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure((width, height), layout="constrained", dpi=120)
        FigureCanvasAgg(figure)
        draw(figure)
        figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _short(x: float, _: int) -> str:
    """Format a number for an axis: 25557032 as '25.6M'."""
    for power, unit in ((9, "G"), (6, "M"), (3, "k")):
        if x >= 10**power:
            return f"{x / 10**power:.3g}{unit}"
    return f"{x:.3g}"


def _variant(e: Entry) -> str:
    """Return the name without the family's, which the colour shows, unless that leaves nothing."""
    rest = e.name.replace(e.family, "").strip("_").replace("__", "_")
    return rest or e.name


def _label(axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write each (x, y, text) beside its point, where it hides least."""
    renderer, pixels = axes.figure.canvas.get_renderer(), axes.figure.dpi / 72
    at = axes.transData.transform([point[:2] for point in points])
    occupied = np.hstack([at - 3 * pixels, at + 3 * pixels])  # boxes: (left, low, right, high)
    panel = axes.bbox.extents[None]
    style = {"textcoords": "offset points", "ha": "center", "va": "center", "color": INK}
    for (x, y, text), point in zip(points, at, strict=True):
        label = axes.annotate(text, (x, y), (0, 0), size=7.5, **style)
        boxes = _boxes_around(point, pixels, label.get_window_extent(renderer).size)
        hidden = _shared(boxes, occupied).sum(1) - _shared(boxes, panel)[:, 0]
        best = int(hidden.round().argmin())  # the first of equally good ones
        occupied = np.vstack([occupied, boxes[best]])
        label.set_position(((boxes[best, :2] + boxes[best, 2:]) / 2 - point) / pixels)
        if best >= FAR:
            line = {"arrowstyle": "-", "color": FAINT, "lw": 0.5, "shrinkA": 3, "shrinkB": 0}
            axes.annotate("", (x, y), label.get_position(), arrowprops=line, **style)


def _boxes_around(point: np.ndarray, pixels: float, size: np.ndarray) -> np.ndarray:
    """Return boxes (P, 4) of that size at each of OFFSETS; an offset of 0 centres the box."""
    offset = np.asarray(OFFSETS)
    low = point + pixels * offset + np.where(offset < 0, -size, np.where(offset > 0, 0, -size / 2))
    return np.hstack([low, low + size])


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the areas (A, B) that boxes (A, 4) and (B, 4) share."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.maximum(high - low, 0).prod(-1)
