"""Layer transfer between five handwritten digits and the other five: a study for trying things.

    python -m experiments.layer_transfer --config=configs/layer_transfer_digits.py

Results of its 81 trainings with three seeds, 2026-11-25, jax 0.10.2: base B has 98.7 %; AnB is 4.9
points below it with five frozen layers, and about even with four or fewer; random filters are 9.7
points below it with five. Three seeds and 225 test images only show that AnB falls with n, and that
AnB is below BnB.

Cost: 88 seconds on 2 otherwise idle CPU cores without earlier compiled programs, most of it
compilation.
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
