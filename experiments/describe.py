"""What networks are made of and what they cost: layer by layer, or the whole zoo side by side.

    python -m experiments.describe --base=vgg16 [--input=448] [--weights=vgg16.pth]
    python -m experiments.describe --all
    python -m experiments.describe --convolutions

Each prints a table; --csv=FILE writes it with all digits (--csv=- prints that instead), --png=FILE
draws it. Everything is counted from shapes: without --weights no file is read.
"""

import csv
import math
import pathlib
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from absl import flags

from experiments import base_flags, cli
from experiments.base_flags import BASE, INPUT, WEIGHTS

flags.adopt_module_key_flags(base_flags)
_ALL = flags.DEFINE_bool("all", False, "Compare all architectures.")
_CONVOLUTIONS = flags.DEFINE_bool("convolutions", False, "Count what factorising one saves.")
_CSV = flags.DEFINE_string("csv", None, "Write the table there with all digits; -: print it so.")
_PNG = flags.DEFINE_string("png", None, "Draw it there (--base and --all; needs matplotlib).")

WIDTH = 100
LAYERS = (
    "layer", "output", "parameters", "share", "MMACs", "stride", "field", "convs only", "lectures"
)  # fmt: skip
FIELDS = (
    "MMACs: millions of multiply-accumulates for an image. stride: effective, in pixels of the "
    "input. field: receptive field in pixels, poolings included. convs only: as lecture 003 "
    "(Inception, transfer, multi-task learning) defines it, by convolutions alone; poolings count "
    "with their stride but have no extent. Both are the theoretical ones, which grow past the "
    "image's edges. all: global poolings and dense layers see the whole image."
)
BEST_WEIGHTS = (
    "top-1: the best that publishers state for weights on ImageNet, of one central crop. input: "
    "the side in pixels that these weights were measured with; GMACs are for it."
)
ZOO = ("base", "forms", "input", "parameters", "GMACs", "top-1", "weights")
CONVOLUTIONS = ("convolution", "weights", "multiply-accumulates", "times fewer", "field")

Table = list[list]  # rows of cells


class Description(NamedTuple):
    """What there is to tell: as text, as exact rows, and a function that draws it as PNG."""

    text: str
    exact: Table
    draw: Callable[[], bytes] | None = None


def main(argv: list[str]) -> None:
    from tl_jax.errors import UserError

    cli.no_arguments(argv)
    chosen = [BASE.value is not None, _ALL.value, _CONVOLUTIONS.value]
    if sum(chosen) != 1:
        raise UserError("describe what? one of --base=vgg16, --all and --convolutions")
    if not chosen[0] and (WEIGHTS.value is not None or INPUT.value is not None):
        raise UserError("--weights and --input belong to --base")
    if chosen[2] and _PNG.value is not None:
        raise UserError("--png draws --base and --all; there is no picture of --convolutions")
    _require_places()
    description = (_layers, _zoo, _convolutions)[chosen.index(True)]()
    if _CSV.value == "-":
        csv.writer(sys.stdout, lineterminator="\n").writerows(description.exact)
    else:
        print(description.text)
    if _CSV.value not in (None, "-"):
        with open(_CSV.value, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(description.exact)
    if _PNG.value is not None:
        pathlib.Path(_PNG.value).write_bytes(description.draw())


def _require_places() -> None:
    """UserError if what is asked for cannot be written, before it is computed."""
    import importlib.util

    from tl_jax.errors import UserError

    for flag, file in (("--csv", _CSV.value), ("--png", _PNG.value)):
        if file is None or (flag, file) == ("--csv", "-"):
            continue
        if file in ("", "-"):
            raise UserError(f"{flag}={file} names no file; give one, as in {flag}=table.{flag[2:]}")
        if pathlib.Path(file).is_dir():
            raise UserError(f"{flag}: {file!r} cannot be written: it is a folder; name a file")
        if not pathlib.Path(file).parent.is_dir():
            raise UserError(f"{flag}: {file!r} cannot be written: there is no such folder")
    if _PNG.value is not None and importlib.util.find_spec("matplotlib") is None:
        raise UserError("--png needs matplotlib, which is missing: pip install tl_jax[report]")


def _layers() -> Description:
    """One base, layer by layer."""
    from tl_jax.describe import layers, lectures

    base = _base()
    architecture, preprocessing = base.architecture, base.preprocessing
    size = preprocessing.size
    rows = layers(base.chain, preprocessing.input_shape)
    usual = not architecture.cut and (architecture.classes, preprocessing.channels) == (1000, 3)
    marks = lectures.notes(architecture.name, rows) if usual else {}
    remarks = lectures.remarks(architecture.name, rows) if usual else []
    title = f"{architecture.name} ({architecture.form}), {size} x {size} x {preprocessing.channels}"
    statistics = sum(r.statistics for r in rows)
    if statistics:
        remarks = [
            f"Batch norm's {statistics:,} running means and variances are not parameters here; "
            "Keras counts them as such.",
            *remarks,
        ]

    def draw() -> bytes:
        from tl_jax.describe import plots

        return plots.layers(title, rows)

    lines = [title, *_aligned(layer_table(rows, marks), left=(0, 1, 8)), _wrapped(FIELDS)]
    text = "\n".join([*lines, *map(_wrapped, remarks)])
    return Description(text, exact_layers(rows), draw)


def _base():
    """The `Base` that the flags ask for; no variables are made or loaded without --weights."""
    from tl_jax import models
    from tl_jax.base.architecture import Architecture
    from tl_jax.base.base import Base
    from tl_jax.base.load import load_base

    name = models.canonical(BASE.value)
    if WEIGHTS.value is None:
        family = models.family(name)
        architecture = Architecture(name, family.forms(name)[0])
        base = Base(architecture, "", {}, family.preprocessing(name, architecture.form))
    else:
        base = load_base(name, WEIGHTS.value)
    return base if INPUT.value is None else base.resized(INPUT.value)


def layer_table(rows: Sequence, marks: dict[str, str]) -> Table:
    """`tl_jax.analysis.Row`s as people read them, with `marks` by layer if any, and their sum."""
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
    return table if marks else [row[:-1] for row in table]


def exact_layers(rows: Sequence) -> Table:
    """The same for machines; `all` where the field is the whole image."""
    pairs = ("stride", "field", "convs")
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


def _sides(pair: tuple[float, float], zero: str = "0") -> str:
    """(7, 7) -> '7', (1, 7) -> '1x7'."""
    height, width = (_side(x) if x else zero for x in pair)
    return height if height == width else f"{height}x{width}"


def _zoo() -> Description:
    """All of them, side by side."""
    import tqdm

    from tl_jax import models
    from tl_jax.describe import lectures, zoo

    bar = tqdm.tqdm(models.names(), desc="describe", leave=False, disable=None)
    entries = zoo.ranked(zoo.entry(name) for name in bar)

    def draw() -> bytes:
        from tl_jax.describe import plots

        return plots.zoo(entries)

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
    lines = [
        *_aligned([list(ZOO), *body], left=(0, 1, 6)),
        _wrapped(BEST_WEIGHTS),
        _wrapped(lectures.BEST),
    ]
    exact = [list(e._replace(forms="+".join(e.forms))) for e in entries]
    return Description("\n".join(lines), [list(zoo.Entry._fields), *exact], draw)


def _convolutions() -> Description:
    """The factorisations, of which there is no picture."""
    from tl_jax.describe import convolutions

    table, exact = [list(CONVOLUTIONS)], [["comparison", "convolution", "weights", "macs", "field"]]
    for comparison in convolutions.comparisons():
        table.append([comparison.title, "", "", "", ""])
        whole = comparison.forms[0]
        for form in comparison.forms:
            parts = " + ".join(f"{row.macs:,}" for row in form.rows)
            macs = parts if len(form.rows) == 1 else f"{parts} = {form.macs:,}"
            fewer = f"{whole.macs / form.macs:.2f}"
            field = _sides(form.rows[-1].field)
            table.append([f"  {form.name}", f"{form.weights:,}", macs, fewer, field])
            exact.append([comparison.title, form.name, form.weights, form.macs, field])
    return Description("\n".join(_aligned(table, left=(0,))), exact)


def _aligned(table: Table, *, left: Iterable[int]) -> list[str]:
    """Lines with the columns `left` flush left, all others flush right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _wrapped(text: str) -> str:
    kept = text.replace(" %", "\N{NO-BREAK SPACE}%")  # a number stays with its unit
    return textwrap.fill(kept, WIDTH, break_on_hyphens=False).replace("\N{NO-BREAK SPACE}", " ")


if __name__ == "__main__":
    cli.run(main)
