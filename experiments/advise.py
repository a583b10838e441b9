"""Which plan for a new task? Advice from tables of scenarios, and how good such advice is.

    python -m experiments.advise runs/mine/cells.csv \
        --tables=docs/scenarios_elpv.csv,runs/scenarios_digits/cells.csv --cheap=logistic,pixels_svm
    python -m experiments.advise --judge --tables=... --cheap=logistic,pixels_svm

The first reads a table of a new task with the cheap plans alone, and prints every plan's expected
gain over --reference (default: the plan that is best on average), with its 95 % interval, and which
plan it recommends, or that it cannot tell and which runs would settle it.

--judge leaves out every task of the tables in turn, advises on it from the others, and compares
the regret with that of fixed plans, of the lectures' rules and of chance. It writes a page to
--workdir.
"""

from absl import flags

from experiments import cli
from tl_jax.data.files import path_of
from tl_jax.errors import UserError

_TABLES = flags.DEFINE_list("tables", None, "Tables of scenarios, cells.csv, with all plans.")
_CHEAP = flags.DEFINE_list("cheap", None, "Plans that cost little: a new task is measured by them.")
_METRIC = flags.DEFINE_string("metric", "accuracy", "What is gained, or weighted_accuracy.")
_REFERENCE = flags.DEFINE_string("reference", "", "Plan that gains are over; default: the best.")
_JUDGE = flags.DEFINE_bool("judge", False, "Judge advice on the tables' own tasks.")
_WORKDIR = flags.DEFINE_string("workdir", "runs/advise", "Folder of the judgement's page.")


def main(argv: list[str]) -> None:
    from tl_jax.errors import unknown
    from tl_jax.runs import folder
    from tl_jax.studies.advise import advisor, judge, page
    from tl_jax.studies.advise.grid import grid_of, landmarks, seconds
    from tl_jax.studies.scenarios import table
    from tl_jax.studies.scenarios.verdicts import TESTED

    _check(argv)
    if _METRIC.value not in TESTED:
        raise unknown("metric", _METRIC.value, TESTED)
    rows = [row for path in _TABLES.value for row in table.read(path_of(path))]
    if not _CHEAP.value:
        costs = ", ".join(f"{plan} {cost:.1f}" for plan, cost in seconds(rows).items())
        raise UserError(f"which plans are cheap? --cheap=...; the median seconds are: {costs}")
    grid = grid_of(rows, cheap=_CHEAP.value, column=TESTED[_METRIC.value])
    if _JUDGE.value:
        workdir, asked = path_of(_WORKDIR.value), (_TABLES.value, _CHEAP.value, _METRIC.value)
        with folder.claimed(workdir, dict(zip(("tables", "cheap", "metric"), asked, strict=True))):
            judgement = judge.judge(grid)
            print(page.judged(judgement))
            print(f"report: {page.write(workdir, judgement)}")
        return
    found = advisor.fit(grid)
    for scenario, own in landmarks(table.read(path_of(argv[1])), _CHEAP.value).items():
        print(page.advised(scenario, advisor.advise(found, own, _REFERENCE.value)), end="\n\n")


def _check(argv: list[str]) -> None:
    """Raise UserError for flags that ask for nothing, before any table is read."""
    if not _TABLES.value:
        raise UserError("advice from what? --tables=runs/scenarios_digits/cells.csv, for example")
    if _JUDGE.value:
        cli.no_arguments(argv)
    elif len(argv) != 2:
        raise UserError("advice on what? name one table of the new task's cheap plans, or --judge")


if __name__ == "__main__":
    cli.run(main)
