"""Compare finished runs: mean, spread and each run over seeds, or one method with another.

    python -m experiments.compare runs/elpv_0 runs/elpv_1 runs/elpv_2
    python -m experiments.compare runs/plain_* runs/mixup_* --latex=mixup.tex

Runs whose configs differ only in their seed are one method. If there are several methods, each is
compared with the method of the first run: the table has differences on test in --metric, paired by
seed, with intervals for splits that overlap, a verdict beyond --margin, and the cost. --csv writes
the table in fractions, --latex in percent.
"""

import functools
import pathlib

from absl import flags

from experiments import cli, table_flags
from experiments.table_flags import CSV
from tl_jax.errors import UserError

flags.adopt_module_key_flags(table_flags)
_METRIC = flags.DEFINE_string(
    "metric", "", "Metric that compares methods; empty: the first of weighted accuracy, mAP and R²."
)
_MARGIN = flags.DEFINE_float("margin", 0.0, "What is no difference: points, or the metric's unit.")
_LATEX = flags.DEFINE_string("latex", None, "Write the table to this LaTeX file.")


def main(argv: list[str]) -> None:
    from tl_jax.studies.compare import page, study
    from tl_jax.studies.compare.row import Comparison

    if len(argv) < 2:
        raise UserError("which runs? python -m experiments.compare runs/elpv_0 runs/elpv_1")
    table_flags.require_places({"--csv": CSV.value, "--latex": _LATEX.value})
    runs = map(pathlib.Path, argv[1:])
    outcome = study.compute(runs, metric=_METRIC.value, margin=_MARGIN.value)
    if isinstance(outcome, Comparison):
        text, cells = page.methods(outcome), functools.partial(page.by_method, outcome)
    else:
        text, cells = page.table(*outcome), functools.partial(page.by_seed, *outcome)
    print(page.as_csv(cells()).rstrip() if CSV.value == "-" else text)
    if CSV.value not in (None, "-"):
        pathlib.Path(CSV.value).write_text(page.as_csv(cells()), encoding="utf-8")
    if _LATEX.value is not None:
        latex = page.as_latex(cells(percent=True))
        pathlib.Path(_LATEX.value).write_text(latex, encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
