"""Do tasks help each other? One network for several classifications, beside one for each.

    python -m experiments.multitask --config=configs/multitask_digits.py

Finished cells (a variant, a seed, a method) are stored: the same command again resumes with the
rest.
"""

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)

if __name__ == "__main__":
    cli.run(config_flag.program("multitask"), trains=True)
