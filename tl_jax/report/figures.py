"""Figures that studies share: values against depth, for pairs of layers, and maps of points.

Their text is layer names and the study's own words, never a class or a file name; but a map of
words shows these.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tl_jax.report.plots import BLUE, FAINT, INK, ORANGE, UNITS, Drawing, whole_numbers
from tl_jax.stats import intervals

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Our two colours, then Paul Tol's "muted", which most colour-blind people can tell apart
COLOURS = (BLUE, ORANGE, "#117733", "#882255", "#44aa99", "#999933", "#aa4499", "#332288")
DASHES = ((5, 2), (2, 2), (6, 2, 1, 2), (1, 1))
NARROW, WIDE = 5.2, 10.5  # inches: half and full width of a page
FEW = 12  # names that fit a narrow figure; cells in a row that have room for their value
MOST = 60  # names that are readable on a wide figure


def against_depth(
    layers: Sequence[str],
    series: Mapping[str, np.ndarray],
    *,
    label: str,
    unit: str = "%",
    dashed: Mapping[str, np.ndarray] | None = None,
    levels: Mapping[str, float] | None = None,
    ratio: float = 0.0,
) -> Drawing:
    """Draw lines over L layers in forward order.

    Each of `series` is (L, S), with S values over seeds; a line is their mean, and its shade the
    95 % interval (`intervals.over_seeds`, with `ratio`). `dashed` are single lines (L,); `levels`
    are values for all layers. `label` and `unit` belong to the vertical axis; `unit` is a key of
    `plots.UNITS`, or "" for plain values.
    """
    width = _width(layers)

    def draw(figure: "Figure") -> None:
        axes, places = figure.subplots(), np.arange(len(layers))
        for (name, values), colour in zip(series.items(), itertools.cycle(COLOURS), strict=False):
            mean, half = intervals.over_seeds(values, ratio=ratio)
            axes.fill_between(places, mean - half, mean + half, color=colour, alpha=0.16, lw=0)
            axes.plot(places, mean, color=colour, marker="o", ms=3, label=name)
        dashes = itertools.cycle(DASHES)
        for name, values in (dashed or {}).items():
            axes.plot(places, values, color=FAINT, ls=(0, next(dashes)), lw=1.4, label=name)
        for name, value in (levels or {}).items():
            axes.axhline(value, color=FAINT, lw=1, ls=(0, next(dashes)), label=name)
        _name(axes.xaxis, layers, room=width)
        axes.set_ylabel(label)
        axes.margins(x=0.02)
        if unit:
            axes.yaxis.set_major_formatter(UNITS[unit])
        _, names = axes.get_legend_handles_labels()
        columns = max(1, int(width / (0.7 + 0.09 * max(map(len, names), default=1))))
        figure.legend(loc="outside upper center", ncols=columns, handlelength=1.8)

    return Drawing(draw, width=width, height=4.3)


def heat_map(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    label: str,
    bounds: tuple[float, float] = (0, 1),
    unit: str = "",
    along: tuple[str, str] = ("", ""),
) -> Drawing:
    """Draw a shade for each of (R, C) values; NaN stays blank.

    `label` names the values, `unit` is as in `against_depth`; `bounds` are the values of the
    lightest and the darkest shade, which the caption should give; `along` names the vertical and
    the horizontal axis. If there are few values, they are written out.
    """
    values = np.asarray(values, np.float64)
    low, high = bounds
    width = max(_width(rows), _width(columns))
    size = min(width, 7.5)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.grid(False)
        shades = axes.imshow(values, cmap="Blues", vmin=low, vmax=high, aspect="auto")
        _name(axes.yaxis, rows)
        _name(axes.xaxis, columns, room=size)
        axes.set(ylabel=along[0], xlabel=along[1])
        if max(values.shape) <= FEW:
            for (row, column), x in np.ndenumerate(values):
                dark = x > low + 0.6 * (high - low)
                colour = {"color": "white" if dark else INK}
                shown = f"{100 * x:.1f}" if unit else f"{x:.2f}"
                shown = shown if np.isfinite(x) else ""
                axes.text(column, row, shown, ha="center", va="center", size=7.5, **colour)
        bar = figure.colorbar(shades, shrink=0.8, label=label, format=UNITS.get(unit))
        bar.outline.set_visible(False)

    return Drawing(draw, width=size, height=0.8 * size)


def by_plan(
    budgets: Sequence[str],
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    reference: str,
    label: str,
) -> Drawing:
    """Draw a panel for each of B budgets, with a line a plan: its mean and interval.

    `series` are (mean, half of the interval) of each plan, (B,), as fractions, shown in percent.
    The plan `reference` stands out, and its mean goes through all lines.
    """

    def draw(figure: "Figure") -> None:
        all_axes = figure.subplots(1, len(budgets), sharex=True, sharey=True, squeeze=False)[0]
        names = list(series)
        for number, (axes, budget) in enumerate(zip(all_axes, budgets, strict=True)):
            axes.axvline(series[reference][number][0], color=ORANGE, lw=0.9)
            for place, name in enumerate(names):
                mean, half = series[name][number]
                colour = ORANGE if name == reference else BLUE
                axes.plot((mean - half, mean + half), (place, place), color=colour, lw=1.2)
                axes.plot(mean, place, color=colour, marker="o", ms=4)
            axes.set_title(budget, fontsize="medium")
            axes.grid(axis="x", alpha=0.4)
            axes.xaxis.set_major_formatter(UNITS["%"])
        all_axes[0].set_yticks(range(len(names)), names)
        all_axes[0].invert_yaxis()
        low, high = all_axes[0].get_xlim()  # intervals of few seeds reach beyond 0 and 1
        all_axes[0].set_xlim(max(low, 0), min(high, 1))
        figure.supxlabel(label, fontsize="medium")

    return Drawing(draw, width=WIDE, height=1.2 + 0.24 * len(series))


def over_budgets(
    budgets: Sequence[int],
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    label: str,
    of: str = "real labels of each class",
) -> Drawing:
    """Draw a line over B numbers of labels, evenly spaced, and shade its interval.

    `series` are (mean, half of the interval), (B,), as fractions, shown in percent; NaN where there
    is none.
    """

    def draw(figure: "Figure") -> None:
        axes, places = figure.subplots(), np.arange(len(budgets))
        for (name, values), colour in zip(series.items(), itertools.cycle(COLOURS), strict=False):
            mean, half = np.transpose(values)
            low, high = (mean - half).clip(0, 1), (mean + half).clip(0, 1)
            axes.fill_between(places, low, high, color=colour, alpha=0.16, lw=0)
            axes.plot(places, mean, color=colour, marker="o", ms=3, label=name)
        axes.set_xticks(places, [str(budget) for budget in budgets])
        axes.set(xlabel=of, ylabel=label)
        axes.yaxis.set_major_formatter(UNITS["%"])
        figure.legend(loc="outside upper center", ncols=4, handlelength=1.8)

    return Drawing(draw, width=WIDE, height=4.3)


def over_rates(
    rates: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    marks: Mapping[str, float],
    label: str,
) -> Drawing:
    """Draw lines over S learning rates on a logarithmic axis, (S,) each.

    `marks` are rates with a name; `label` is the vertical axis'. The last line stands out.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        *faint, (name, last) = series.items()
        for other, values in faint:
            axes.plot(rates, values, color=FAINT, lw=0.9, label=other)
        axes.plot(rates, last, color=BLUE, label=name)
        for (mark, rate), dash in zip(marks.items(), itertools.cycle(DASHES), strict=False):
            axes.axvline(rate, color=ORANGE, lw=1.2, ls=(0, dash), label=mark)
        axes.set(xscale="log", xlabel="learning rate", ylabel=label)
        axes.set_ylim(0, 1.1 * max(last[: len(last) - len(last) // 10]))
        figure.legend(loc="outside upper center", ncols=4, handlelength=1.8)

    return Drawing(draw, width=WIDE, height=3.8)


def scatter(points: np.ndarray, labels: np.ndarray) -> Drawing:
    """Draw points (N, 2) with a colour for each of the classes `labels` (N,), numbered from 1.

    From the ninth class on colours repeat with another marker.
    """
    looks = itertools.product("os^Dv", COLOURS)
    classes = np.unique(labels)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.set_axis_off()
        for label, (marker, colour) in zip(classes, itertools.cycle(looks), strict=False):
            of_class = points[labels == label]
            style = {"color": colour, "marker": marker, "s": 9, "lw": 0, "alpha": 0.75}
            axes.scatter(*of_class.T, **style, rasterized=True, label=str(label + 1))
            number = {"color": colour, "weight": "bold", "ha": "center", "va": "center"}
            paper = {"facecolor": "white", "alpha": 0.8, "lw": 0, "boxstyle": "circle,pad=0.15"}
            x, y = np.median(of_class, 0)
            # It needs no room beside the axes; before their limits are known it would take all.
            axes.text(x, y, str(label + 1), **number, bbox=paper).set_in_layout(False)
        if len(classes) <= 2 * FEW:
            style = {"markerscale": 2, "handletextpad": 0, "columnspacing": 1}
            figure.legend(loc="outside lower center", ncols=FEW, **style)

    return Drawing(draw, height=4.6)


def words(points: np.ndarray, names: Sequence[str]) -> Drawing:
    """Draw words at their points (N, 2); one that would cover an earlier one is a dot."""
    size = np.ptp(points, 0)
    places = (points - points.min(0)) / np.where(size > 0, size, 1) * (WIDE, 0.62 * WIDE)

    def draw(figure: "Figure") -> None:
        axes, shown = figure.subplots(), np.zeros((0, 3))
        axes.set_axis_off()
        axes.scatter(*places.T, color=FAINT, s=3, lw=0, rasterized=True)
        axes.margins(0.06)
        for place, name in zip(places, names, strict=True):
            half = 0.04 * len(name)  # inches, about, of a word in this font
            apart = np.abs(shown[:, :2] - place)
            if not ((apart[:, 0] < half + shown[:, 2]) & (apart[:, 1] < 0.13)).any():
                shown = np.vstack([shown, [*place, half]])
                style = {"size": 8, "ha": "center", "va": "center", "color": INK}
                # It needs no room beside the axes; before their limits are known it takes all.
                axes.text(place[0], place[1], name, parse_math=False, **style).set_in_layout(False)

    return Drawing(draw, width=WIDE, height=0.66 * WIDE)


def over_epochs(losses: Sequence[float]) -> Drawing:
    """Draw the loss of each epoch."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.plot(range(1, len(losses) + 1), losses, color=BLUE, marker="o", ms=3)
        axes.xaxis.set_major_locator(whole_numbers())
        axes.set(xlabel="epoch", ylabel="loss")

    return Drawing(draw)


def _width(names: Sequence[str]) -> float:
    return NARROW if len(names) <= FEW else WIDE


def _name(axis: "Axis", names: Sequence[str], *, room: float | None = None) -> None:
    """Set ticks with the names; if there are too many to read, only every second, third, ...

    Names are turned upright if `room` inches do not hold them side by side.
    """
    step = -(-len(names) // MOST)
    upright = room is not None and 0.1 * len(names) * max(map(len, names)) > room
    style = {"size": 8.5 if len(names) <= MOST / 2 else 6.5, "rotation": 90 if upright else 0}
    axis.set_ticks(range(0, len(names), step), names[::step], **style)
