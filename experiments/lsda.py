"""Does a class get a detector without a box of its own? LSDA, beside what it begins from.

    python -m experiments.lsda --config=configs/lsda.py

Finished seeds are stored: the same command again resumes with the rest.
"""

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)

if __name__ == "__main__":
    cli.run(config_flag.program("lsda"), trains=True)
