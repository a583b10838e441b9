"""Describe networks and their cost: layer by layer, or the whole zoo side by side.

    python -m experiments.describe --base=vgg16 [--input=448] [--weights=vgg16.pth]
    python -m experiments.describe --all
    python -m experiments.describe --convolutions

Each command prints a table. --csv=FILE writes it with all digits (--csv=- prints that instead), and
--png=FILE draws it. Everything is counted from shapes: without --weights no file is read.
"""

import csv
import importlib.util
import pathlib
import sys

from absl import flags

from experiments import base_flags, cli, table_flags
from experiments.base_flags import BASE, INPUT, WEIGHTS
from experiments.table_flags import CSV
from tl_jax.errors import UserError

flags.adopt_module_key_flags(base_flags)
flags.adopt_module_key_flags(table_flags)
_ALL = flags.DEFINE_bool("all", False, "Compare all architectures.")
_CONVOLUTIONS = flags.DEFINE_bool("convolutions", False, "Count what factorised convolutions save.")
_PNG = flags.DEFINE_string("png", None, "Draw the table to this file (needs matplotlib).")


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    chosen = [BASE.value is not None, _ALL.value, _CONVOLUTIONS.value]
    if sum(chosen) != 1:
        raise UserError("describe what? one of --base=vgg16, --all and --convolutions")
    if not chosen[0] and (WEIGHTS.value is not None or INPUT.value is not None):
        raise UserError("--weights and --input belong to --base")
    if chosen[2] and _PNG.value is not None:
        raise UserError("--png draws --base and --all; there is no picture of --convolutions")
    _require_places()
    description = _description()
    if CSV.value == "-":
        csv.writer(sys.stdout, lineterminator="\n").writerows(description.exact)
    else:
        print(description.text)
    if CSV.value not in (None, "-"):
        with open(CSV.value, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(description.exact)
    if _PNG.value is not None:
        pathlib.Path(_PNG.value).write_bytes(description.draw())


def _description():
    from tl_jax.base.load import load_base, outline
    from tl_jax.describe import tables

    if BASE.value is None:
        return tables.of_zoo() if _ALL.value else tables.of_convolutions()
    weights = WEIGHTS.value
    base = outline(BASE.value) if weights is None else load_base(BASE.value, weights)
    return tables.of_base(base_flags.resized(base))


def _require_places() -> None:
    """Raise UserError if a file cannot be written, before anything is computed."""
    table_flags.require_places({"--csv": CSV.value, "--png": _PNG.value})
    if _PNG.value is not None and importlib.util.find_spec("matplotlib") is None:
        raise UserError("--png needs matplotlib, which is missing: pip install tl_jax[report]")


if __name__ == "__main__":
    cli.run(main)
