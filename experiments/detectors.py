"""What does transfer give a detector? Plans at budgets of labelled images, over seeds.

    python -m experiments.detectors --config=configs/detectors_small.py

Finished cells (a seed, a budget, a detector, a plan) are stored: the same command again resumes
with the rest.
"""

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)

if __name__ == "__main__":
    cli.run(config_flag.program("detectors"), trains=True)
