"""Transfer a pretrained base to a task by a config, and report the result.

    python -m experiments.transfer --config=configs/elpv.py --workdir=runs/elpv

--help lists all settings; --config.seed=3 changes one. The same command again resumes what was
interrupted, or shows the result if there is one, unless the data have changed since.
"""

import pathlib
import sys

from absl import flags

from experiments import cli, config_flag, keys, together

flags.adopt_module_key_flags(config_flag)
flags.adopt_module_key_flags(together)


def transfer(config, workdir: pathlib.Path, name: str) -> dict:
    """Run `config` in `workdir` to its end; return the result that is also in `result.json`."""
    from tl_jax.report import text  # these import JAX, which --help does without
    from tl_jax.runs.transfer import by_config

    result, before = by_config(config, workdir, name=name)
    return config_flag.say(text.terminal_table(result), result, before, workdir)


if __name__ == "__main__":
    if any(argument.lstrip("-") in ("help", "helpfull") for argument in sys.argv[1:]):
        __doc__ = f"{__doc__}\n{keys.explained()}\n"  # absl prints it
    cli.run(config_flag.by_config(transfer, example="configs/elpv.py"), trains=True, several=True)
