"""What to do with these images and labels: measured, advised, and settled by runs if asked.

    python -m experiments.advise my_photos/ [--settle] [--quick]
    python -m experiments.advise elpv --per_class=20 --source=fashion_mnist
    python -m experiments.advise --judge

It looks at the task, measures the plans that train no network on each base, says where the task
stands in the lectures' tables, and what tables of scenarios (--tables) let one expect of every
plan, or that it cannot tell and which runs would settle it. --settle runs these, five splits each.

--judge leaves out every task of the tables in turn, advises on it from the others, and compares the
regret with that of fixed plans, of the lectures' rules and of chance.
"""

import pathlib

from absl import flags

from experiments import cli, images_flags, source_flag, workdir_flag
from experiments.source_flag import SOURCE
from tl_jax.errors import UserError

flags.adopt_module_key_flags(images_flags)
flags.adopt_module_key_flags(source_flag)
flags.adopt_module_key_flags(workdir_flag)
_SETTLE = flags.DEFINE_bool("settle", False, "Run the plans that would settle what is best.")
_JUDGE = flags.DEFINE_bool("judge", False, "Judge advice on the tables' own tasks.")


def main(argv: list[str]) -> None:
    if _JUDGE.value:
        cli.no_arguments(argv)
        _judge(images_flags.tables(), workdir_flag.workdir("advice_judged"))
    else:
        images_flags.answered("advise", argv, settle=_SETTLE.value, source=SOURCE.value)


def _judge(given: list[pathlib.Path] | None, workdir: pathlib.Path) -> None:
    from tl_jax.advice import judge, judged, knowledge  # these import JAX
    from tl_jax.runs import folder

    tables = knowledge.tables() if given is None else given
    grid = knowledge.learnt(tables)
    if grid is None:
        raise UserError("advice is judged on tables of scenarios: --tables=runs/mine/cells.csv")
    with folder.claimed(workdir, {"tables": [str(path) for path in tables]}):
        judgement = judge.judge(grid)
        print(judged.judged(judgement))
        print(f"report: {judged.write(workdir, judgement)}")


if __name__ == "__main__":
    cli.run(main, trains=True)
