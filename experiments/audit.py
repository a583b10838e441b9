"""Look at a task's data before training: balance, sizes, copies, doubtful labels, a source.

    python -m experiments.audit photos/
    python -m experiments.audit photos/ --base=efficientnet_lite0 [--source=other_photos/]

The task is a folder with a sub-folder for each class, or a name such as digits or text:mine.csv,
whose texts a base such as minilm_l6 reads. With --base, a probe on its features judges the labels;
--source is another task that the base compares with it. Files that cannot be read are listed and
left out. The command prints what it finds (--json: the whole result) and writes a page, by default
in a folder of runs/ named after task and base.
"""

import json
import sys

from absl import flags

from experiments import arguments, base_flags, cli, json_flag, source_flag, workdir_flag
from experiments.base_flags import BASE, INPUT, WEIGHTS
from experiments.json_flag import JSON
from experiments.source_flag import SOURCE
from tl_jax import interrupt
from tl_jax.errors import UserError

flags.adopt_module_key_flags(base_flags)
flags.adopt_module_key_flags(json_flag)
flags.adopt_module_key_flags(workdir_flag)
flags.adopt_module_key_flags(source_flag)


def main(argv: list[str]) -> None:
    from tl_jax.base.load import outline  # these import JAX, which --help does without
    from tl_jax.report.study import file_name
    from tl_jax.runs.subject import task_name
    from tl_jax.studies import run as studies

    if len(argv) != 2 or not argv[1]:
        raise UserError("which images? python -m experiments.audit photos/ (or a task's name)")
    for flag, value in (("source", SOURCE.value), ("weights", WEIGHTS.value)):
        if value and not BASE.value:
            raise UserError(f"--{flag} needs a base: --base=efficientnet_lite0, for example")
    if BASE.value:
        base_flags.resized(outline(BASE.value, WEIGHTS.value))  # names a mistake as a flag
    config = _config(argv[1])
    name = file_name(f"audit {task_name(config.task)} {config.base}".strip())
    workdir = workdir_flag.workdir(name)
    try:
        with interrupt.caught():
            result, before = studies.run("audit", config, workdir, name=name)
    except UserError as error:
        raise UserError(arguments.as_flags(str(error), ())) from error
    print(json.dumps(result) if JSON.value else studies.summary("audit", result))
    said = "done before" if before else "report"
    print(f"{said}: {workdir / 'report.html'}", file=sys.stderr if JSON.value else sys.stdout)


def _config(task: str):
    """Return the config of the study for this task and the flags."""
    from configs import defaults

    config = defaults.subject()
    config.base, config.weights = BASE.value or "", WEIGHTS.value or ""
    config.size = INPUT.value or 0
    config.seed = 0
    config.task = _options(task)
    config.source = _options(SOURCE.value)
    return config.lock()


def _options(task: str) -> dict[str, str]:
    """Return the options of a task that is to be looked at, damaged files and all."""
    from tl_jax.data.tasks import options

    damaged = task and "on_unreadable" in options(task)
    return {"name": task} | ({"on_unreadable": "skip"} if damaged else {})


if __name__ == "__main__":
    cli.run(main)
