"""How much reality does simulation replace: how many real labels is it worth?

    python -m experiments.simulation --config=configs/simulation_digits.py

The same command again resumes with what is not finished.
"""

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)

if __name__ == "__main__":
    cli.run(config_flag.program("simulation"), trains=True)
