"""Layer transfer from Fashion-MNIST to handwritten digits."""

import ml_collections

from configs import layer_transfer


def get_config():
    config = layer_transfer.get_config()
    config.groups = ml_collections.ConfigDict()
    config.source.name = "fashion_mnist"
    config.source.per_class = 300
    config.task.name = "digits"
    config.task.per_class = 100
    config.arms = ("tasks",)
    config.task.val = 0.1
    config.budgets = (0,)
    config.epochs = (8,)
    return config
