"""Download and prepare the TFDS datasets that a config names, where there is a network.

    python -m experiments.prepare --config=configs/protocols/cats_and_dogs.py

Each is written as array_record to its task's data_dir (default: ~/tensorflow_datasets), which the
other programs read; copy that folder to machines without a network. What is there already stays.
"""

import pathlib
import sys

from absl import flags

from experiments import cli, config_flag
from tl_jax.errors import UserError

flags.adopt_module_key_flags(config_flag)


def prepare(config, workdir: pathlib.Path, name: str) -> None:
    """Prepare every dataset, and print its folder; UserError, at the end, if one could not be."""
    from tl_jax.data.tasks import prepared
    from tl_jax.runs.subject import tasks_in

    named = [(options["name"], options.get("data_dir") or None) for options in tasks_in(config)]
    wanted = dict.fromkeys(
        (task.partition(":")[2], where) for task, where in named if task.startswith("tfds:")
    )
    if not wanted:
        raise UserError(f"the config {name!r} names no TFDS dataset: there is nothing to prepare")
    failed = []
    for dataset, data_dir in wanted:
        try:
            print(f"{dataset}\t{prepared.prepare(dataset, data_dir)}", flush=True)
        except UserError as error:
            print(f"{dataset}\t{error}", file=sys.stderr)
            failed.append(dataset)
    if failed:
        missing = ", ".join(failed)
        raise UserError(f"{len(failed)} of {len(wanted)} could not be prepared: {missing}")


if __name__ == "__main__":
    cli.run(config_flag.by_config(prepare, example="configs/protocols/cats_and_dogs.py"))
