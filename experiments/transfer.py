"""Transfer a pretrained base to a task, as a config says, and report what came of it.

    python -m experiments.transfer --config=configs/elpv.py --workdir=runs/elpv

Every setting is explained in tl_jax/runs/settings.py and, for phases, in tl_jax/plans/plan.py;
--config.seed=3 changes one. The same command again goes on with what was interrupted, or shows the
result if there is one.
"""

import pathlib

from absl import flags

from experiments import cli, study

flags.adopt_module_key_flags(study)


def transfer(config, workdir: pathlib.Path, name: str) -> dict:
    """Run `config` in `workdir` to its end; return the result that is also in `result.json`."""
    from tl_jax.report import text  # these import JAX, which --help does without
    from tl_jax.runs.transfer import by_config

    result, before = by_config(config, workdir, name=name)
    return study.say(text.terminal_table(result), result, before, workdir)


if __name__ == "__main__":
    cli.run(study.by_config(transfer, example="configs/elpv.py"), trains=True)
