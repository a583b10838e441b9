"""Judge finished runs on other tasks with the same classes: how well do they stand a shift?

    python -m experiments.judge --config=configs/protocols/cifar10_shifts.py \
        --runs=runs/lp_ft,runs/full

Prints, for each run, the accuracy on its own test split and on the test split of each of the
config's `tasks`. A task may have fewer classes than the run; its option `names` gives classes of
another name the run's, and `only` leaves out those that the run does not know. Its images must not
be among those that the run was trained on; where the whole dataset is the run's own, it is refused.
"""

import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from absl import flags

from experiments import cli, config_flag
from tl_jax.data.files import path_of
from tl_jax.errors import UserError

flags.adopt_module_key_flags(config_flag)
_RUNS = flags.DEFINE_list("runs", [], "Folders of finished runs.")


def judged(config, workdir: pathlib.Path, name: str) -> None:
    """Print a table with a line for each run."""
    for row in rows(config, [path_of(run) for run in _RUNS.value]):
        print("\t".join(row), flush=True)


def rows(config, runs: Sequence[pathlib.Path]) -> Iterator[list[str]]:
    """Yield the table's head, and a row for each run as soon as it is judged."""
    from tl_jax.base.load import load_base  # these import JAX, which --help does without
    from tl_jax.report.text import percent
    from tl_jax.runs import judge
    from tl_jax.runs.subject import named_task
    from tl_jax.train import identity

    if not runs or not config.get("tasks"):
        raise UserError("which runs, on which tasks? --runs=runs/lp_ft, and a config with `tasks`")
    own = {run: _own(run) for run in runs}
    tasks = {called: named_task(options, seed=0) for called, options in config.tasks.items()}
    for called, told in identity.of_tasks(tasks).items():
        if run := next((run for run in runs if told["inputs"] in own[run].inputs), None):
            raise UserError(f"task {called!r} has the images that {run} was trained on: say others")
    yield ["run", "own test", *tasks]
    for run in runs:
        base = load_base(run)
        found = [judge.elsewhere(base, task)["accuracy"] for task in tasks.values()]
        yield [str(run), *map(percent, (own[run].accuracy, *found))]


class Own(NamedTuple):
    """What a finished run says of itself."""

    accuracy: float  # on its own test split
    inputs: set[str]  # fingerprints of the tasks that it was trained on


def _own(run: pathlib.Path) -> Own:
    """Read it; UserError for what is no finished run."""
    from tl_jax.runs.results import read_json

    try:
        accuracy = float(read_json(run / "result.json")["test"]["accuracy"])
        tasks = read_json(run / "data.json")
        return Own(accuracy, {told["inputs"] for told in tasks.values()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{run} is no finished run of a classification: {error}") from error


if __name__ == "__main__":
    cli.run(config_flag.by_config(judged, example="configs/protocols/cifar10_shifts.py"))
