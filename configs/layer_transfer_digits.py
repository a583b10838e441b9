"""Layer transfer between five handwritten digits and the other five: a study to try things with.

    python -m experiments.layer_transfer --config=configs/layer_transfer_digits.py

81 trainings. What it gave, three seeds, 2026-11-25, jax 0.10.2: base B 98.7 %; AnB with five layers
frozen 4.9 points below it, with four or fewer about even; random filters 9.7 points below it with
five. Only "AnB falls with n" and "AnB is below BnB" are clear from three seeds and 225 test images.

Cost: 88 seconds on 2 otherwise idle CPU cores with nothing compiled before, most of it compiling.
"""

import ml_collections

from configs import layer_transfer


def get_config():
    config = layer_transfer.get_config()
    config.groups = ml_collections.ConfigDict()
    config.task.name = "digits"
    config.task.val = 0.1
    config.task.test = 0.25
    config.task.per_class = 100
    config.arms = ("random",)
    config.seeds = 3
    config.budgets = (0,)
    config.epochs = (8,)
    config.batch_size = 32
    return config
