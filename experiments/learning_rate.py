"""Which learning rate? For each phase of a transfer's plan, losses while the rate rises.

    python -m experiments.learning_rate --config=configs/digits.py
    python -m experiments.learning_rate --config=configs/folder.py --config.task.path=my_photos/

It takes the config of a transfer, and suggests a rate for `--config.train_head.learning_rate` and
`--config.tune.learning_rate`.
"""

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)

if __name__ == "__main__":
    cli.run(config_flag.program("learning_rate"))
