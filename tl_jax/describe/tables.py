"""Descriptions as tables: one base, the zoo, factorised convolutions."""

import functools
import itertools
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import tqdm

from tl_jax import models
from tl_jax.chain.places import IMAGE
from tl_jax.data.texts.preprocessing import TOKENS
from tl_jax.describe import convolutions, lectures, zoo
from tl_jax.describe.layers import Row, layers

WIDTH = 100
LAYERS = (
    "layer", "output", "parameters", "share", "MMACs", "stride", "field", "convs only", "lectures"
)  # fmt: skip
FIELDS = (
    "MMACs: millions of multiply-accumulates for an image. stride: effective, in pixels of the "
    "input. field: receptive field in pixels, poolings included. convs only: as lecture 003 "
    "(Inception, transfer, multi-task learning) defines it, where poolings count with their stride "
    "but have no extent. Both are theoretical and grow past the image's edges. all: global "
    "poolings and dense layers see the whole image."
)
FOR_TEXTS = (
    "MMACs: millions of multiply-accumulates for a text of {} tokens; looking up their vectors is "
    "none."
)
BEST_WEIGHTS = (
    "top-1: the best that publishers state for weights on ImageNet, with one central crop. input: "
    "the side of its images in pixels; GMACs are for that size."
)
TEXTS = (
    "input: tokens of a text; GMACs are for that many. Encoders are counted without a classifier, "
    "language models with their decoder."
)
ZOO = ("base", "forms", "input", "parameters", "GMACs", "top-1", "weights")
CONVOLUTIONS = ("convolution", "weights", "multiply-accumulates", "times fewer", "field")

Table = list[list]  # rows of cells, the head first


class Description(NamedTuple):
    """A description as text, as exact rows, and as a function that draws it as PNG."""

    text: str
    exact: Table
    draw: Callable[[], bytes] | None = None


def of_base(base: Any) -> Description:
    """Describe a `tl_jax.Base` layer by layer, without looking at its weights.

    Lectures' figures are shown with whole architectures of 1000 classes on images in colour.
    """
    architecture, example = base.architecture, base.preprocessing.example
    name, shape = architecture.name, example.shape[1:]
    rows = layers(base.chain, example)
    usual = not architecture.cut and architecture.classes == 1000 and shape[2:] == (3,)
    marks = lectures.notes(name, rows) if usual else {}
    remarks = lectures.remarks(name, rows) if usual else []
    fields = FIELDS if len(shape) == 3 else FOR_TEXTS.format(*shape)
    title = f"{name} ({architecture.form}), " + (
        " x ".join(map(str, shape)) if len(shape) == 3 else f"{shape[0]} tokens"
    )
    statistics = sum(r.statistics for r in rows)
    if statistics:
        remarks = [
            f"Batch norm's {statistics:,} running means and variances are not parameters here; "
            "Keras counts them as such.",
            *remarks,
        ]
    lines = [title, *_aligned(layer_table(rows, marks), left=(0, 1, 8)), _wrapped(fields)]
    text = "\n".join([*lines, *map(_wrapped, remarks)])
    return Description(text, exact_layers(rows), functools.partial(_draw, "layers", title, rows))


def layer_table(rows: Sequence[Row], marks: dict[str, str]) -> Table:
    """Return rows for people, with receptive fields and `marks` by layer if there are any, and
    their sum.
    """
    parameters, macs = sum(r.parameters for r in rows), sum(r.macs for r in rows)
    body = [
        [
            r.name,
            "x".join(map(str, r.output)),
            f"{r.parameters:,}",
            f"{100 * r.parameters / max(parameters, 1):.1f} %",
            f"{r.macs / 1e6:,.1f}",
            _sides(r.stride, "–"),
            _sides(r.field),
            _sides(r.convs),
            marks.get(r.name, ""),
        ]
        for r in rows
    ]
    total = ["total", "", f"{parameters:,}", "100.0 %", f"{macs / 1e6:,.1f}", "", "", "", ""]
    table = [list(LAYERS), *body, total]
    kept = [True] * 5 + [any(r.field for r in rows)] * 3 + [bool(marks)]
    return [list(itertools.compress(row, kept)) for row in table]


def exact_layers(rows: Sequence[Row]) -> Table:
    """Return rows for machines; a field that is the whole image is `all`."""
    pairs = ("stride", "field", "convs") if any(r.field for r in rows) else ()
    head = ["layer", "output", "parameters", "statistics", "macs"]
    head += [f"{pair}_{side}" for pair in pairs for side in ("height", "width")]
    body = [
        [r.name, "x".join(map(str, r.output)), r.parameters, r.statistics, r.macs]
        + [_side(side) for pair in pairs for side in getattr(r, pair)]
        for r in rows
    ]
    return [head, *body]


def _side(x: float) -> str:
    return str(x) if math.isfinite(x) else "all"


def _sides(pair: tuple[float, ...], zero: str = "0") -> str:
    """Format a pair: (7, 7) as '7', (1, 7) as '1x7'; none as ''."""
    sides = [_side(x) if x else zero for x in pair]
    return "x".join(sides[:1] if len(set(sides)) == 1 else sides)


def of_zoo() -> Description:
    """Describe all architectures side by side: of images, the most accurate first, and of texts."""
    names = [*models.names(), *models.names(TOKENS)]
    bar = tqdm.tqdm(names, desc="describe", leave=False, disable=None)
    entries = zoo.ranked(zoo.entry(name) for name in bar)
    of_images, of_texts = ([e for e in entries if e.reads == place] for place in (IMAGE, TOKENS))
    notes = [_wrapped(BEST_WEIGHTS), _wrapped(lectures.BEST)]
    text = "\n".join([*_zoo_table(of_images), *notes, "", *_zoo_table(of_texts), _wrapped(TEXTS)])
    exact = [
        list((e._asdict() | {"forms": "+".join(e.forms)}).values()) for e in of_images + of_texts
    ]
    head = list(zoo.Entry._fields)
    return Description(text, [head, *exact], functools.partial(_draw, "zoo", entries))


def _zoo_table(entries: Sequence[zoo.Entry]) -> list[str]:
    """Return the lines of a table of bases; their accuracy is left out where none is known."""
    body = [
        [
            e.name,
            ", ".join(e.forms),
            str(e.size),
            f"{e.parameters:,}",
            f"{e.macs / 1e9:.3f}",
            "–" if e.top1 is None else f"{e.top1:.1f} %",
            e.weights or "–",
        ]
        for e in entries
    ]
    kept = [True] * 5 + [any(e.top1 for e in entries), True]
    table = [list(itertools.compress(row, kept)) for row in [list(ZOO), *body]]
    return _aligned(table, left=(0, 1, len(table[0]) - 1))


def of_convolutions() -> Description:
    """Describe the factorisations of a convolution, without a plot."""
    table = [list(CONVOLUTIONS)]
    exact: list[list] = [["comparison", "convolution", "weights", "macs", "field"]]
    for comparison in convolutions.comparisons():
        table.append([comparison.title, "", "", "", ""])
        whole = comparison.variants[0]
        for variant in comparison.variants:
            parts = " + ".join(f"{row.macs:,}" for row in variant.rows)
            macs = parts if len(variant.rows) == 1 else f"{parts} = {variant.macs:,}"
            fewer = f"{whole.macs / variant.macs:.2f}"
            field = _sides(variant.rows[-1].field)
            table.append([f"  {variant.name}", f"{variant.weights:,}", macs, fewer, field])
            exact.append([comparison.title, variant.name, variant.weights, variant.macs, field])
    return Description("\n".join(_aligned(table, left=(0,))), exact)


def _draw(plot: str, *arguments) -> bytes:
    from tl_jax.describe import plots  # needs matplotlib, from the extra `report`

    return getattr(plots, plot)(*arguments)


def _aligned(table: Table, *, left: Iterable[int]) -> list[str]:
    """Return a line for each row, with the columns `left` flush left, all others flush right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _wrapped(text: str) -> str:
    joined = text.replace(" %", "\N{NO-BREAK SPACE}%")  # a number stays with its unit
    return textwrap.fill(joined, WIDTH, break_on_hyphens=False).replace("\N{NO-BREAK SPACE}", " ")
