"""Cross-validate a transfer: every example is tested once, in one of several folds.

    python -m experiments.folds --config=configs/folder.py --config.task.path=my_photos/ --folds=5

A run for each fold, each with its own report in a folder of --workdir; examples of one group, such
as a patient's images, are in one fold. The same command again goes on where it was interrupted.
"""

import pathlib

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)
_FOLDS = flags.DEFINE_integer("folds", 5, "Into how many the examples are divided.")


def validate(config, workdir: pathlib.Path, name: str) -> dict:
    """Run every fold of `config` in `workdir`, and print what the folds have on test."""
    from tl_jax.runs import folds  # imports JAX, which --help does without

    outcome = folds.by_config(config, workdir, _FOLDS.value, name=name)
    print(f"{folds.said(outcome)}\nreports: {workdir}/fold_*/report.html")
    return outcome


if __name__ == "__main__":
    cli.run(config_flag.by_config(validate, example="configs/folder.py"), trains=True)
