"""How well can classes be told apart from a few examples of each, by base, layer and method?

    python -m experiments.few_shot --config=configs/few_shot_digits.py
    python -m experiments.few_shot --config=configs/few_shot.py --config.task.path=my_photos

Bases are trained on the base classes first, where the config says so. The same command again
resumes with what is not finished.
"""

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)

if __name__ == "__main__":
    cli.run(config_flag.program("few_shot"), trains=True)
