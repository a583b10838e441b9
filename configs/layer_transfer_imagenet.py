"""Layer transfer between halves of ImageNet."""

import ml_collections

from configs import layer_transfer


def get_config():
    config = layer_transfer.get_config()
    config.groups = ml_collections.ConfigDict()
    config.base = "alexnet"
    config.task.name = "tfds:imagenet2012"
    config.task.val = 0.02
    config.task.per_class = 0
    config.arms = ("random",)
    config.seeds = 4  # bases of each half, as there
    config.budgets = (0,)
    config.epochs = (90,)
    config.train.learning_rate = 0.01
    config.train.clip = 0.0
    config.batch_size = 256
    config.precision = "bfloat16"
    config.together = False
    config.cache = ""
    return config
