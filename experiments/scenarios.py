"""Which way of transferring wins, by how much, and where does transfer hurt?

    python -m experiments.scenarios --config=configs/scenarios_digits.py
    python -m experiments.scenarios --config=configs/scenarios_digits.py --workers=2
    python -m experiments.scenarios --config=configs/scenarios_digits.py --cluster=auto
    python -m experiments.scenarios --config=configs/scenarios_elpv.py \
        --table=docs/scenarios_elpv.csv

A grid of tasks, bases, label budgets, plans and seeds. Every cell is kept as it finishes, and the
same command goes on. Cells that fail do not stop the others; --retry tries them again. The exit
status is 1 if any failed.

A study's table is cells.csv. --table draws the report of one and computes nothing. --reuse takes
its cells and computes those that are missing: with more seeds, budgets or plans, in another folder.

--cluster=auto makes the cells tasks of the Ray cluster that this machine belongs to (`ray start`),
--cluster=local of one of this machine alone. Every machine needs tl_jax, the data and a working
folder at the same place; this process alone writes results.
"""

import pathlib

from absl import flags

from experiments import cli, config_flag
from tl_jax.data.files import path_of
from tl_jax.errors import UserError

flags.adopt_module_key_flags(config_flag)
_WORKERS = flags.DEFINE_integer(
    "workers", 1, "Processes (of a cluster: on its smallest machine), each with cores of its own."
)
_CLUSTER = flags.DEFINE_string("cluster", "", "A Ray cluster that does the cells: auto or local.")
_RETRY = flags.DEFINE_bool("retry", False, "Try the cells that failed before again.")
_REUSE = flags.DEFINE_string("reuse", "", "A table whose cells are taken, not computed again.")
_TABLE = flags.DEFINE_string("table", "", "Show this table, and compute nothing.")


def main(argv: list[str]) -> int:
    """Do the study; return 1 if a cell failed."""
    from tl_jax.runs.results import failures

    results: list[dict] = []
    config_flag.by_config(
        lambda *given: results.append(_run(*given)), example="configs/scenarios_digits.py"
    )(argv)
    return int(bool(failures(results[0])))


def _run(config, workdir: pathlib.Path, name: str) -> dict:
    from tl_jax.runs import cluster
    from tl_jax.studies import run as studies

    if _TABLE.value:
        computing = (_WORKERS, _CLUSTER, _RETRY, _REUSE)
        if given := [f"--{flag.name}" for flag in computing if flag.present]:
            raise UserError(f"--table computes nothing: leave out {', '.join(given)}")
        result = studies.shown("scenarios", config, workdir, name=name, table=path_of(_TABLE.value))
        return config_flag.say(studies.summary("scenarios", result), result, False, workdir)
    if _WORKERS.value < 1:
        raise UserError(f"--workers is at least 1; got {_WORKERS.value}")
    if _CLUSTER.value:
        cluster.require(_CLUSTER.value)
    how = {"workers": _WORKERS.value, "retry": _RETRY.value, "cluster": _CLUSTER.value}
    how["reuse"] = path_of(_REUSE.value) if _REUSE.value else None
    result, before = studies.run("scenarios", config, workdir, name=name, **how)
    config_flag.say(studies.summary("scenarios", result), result, before, workdir)
    print(f"table: {workdir / 'cells.csv'}, a row a cell")
    return result


if __name__ == "__main__":
    cli.run(main)
