"""Layer transfer between five digits and the other five."""

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
