"""Do transferability scores rank bases and cuts as fine-tuning does? ELPV, EfficientNet-Lite."""

import ml_collections

from configs import defaults


def get_config():
    config = defaults.subject()
    del config.base, config.weights  # there are several
    config.bases = ml_collections.ConfigDict()
    for called, base, weights, last in (
        ("lite0", "efficientnet_lite0", "pip:efficientnet-lite0", (2, 3, 3, 4)),
        ("lite1", "efficientnet_lite1", "pip:efficientnet-lite1", (3, 4, 4, 5)),
        ("lite2", "efficientnet_lite2", "pip:efficientnet-lite2", (3, 4, 4, 5)),
        ("random", "efficientnet_lite0", "random:0", (2, 3, 3, 4)),  # the negative control
    ):
        stages = tuple(f"stage{3 + i}_block{block}" for i, block in enumerate(last))
        own = {"base": base, "weights": weights, "cuts": (*stages, "pool")}
        config.bases[called] = ml_collections.ConfigDict(own)
    config.size = 96
    config.crop = 1.0
    config.task.name = "elpv"
    config.task.targets = "plain"
    config.task.val = 0.05
    config.task.test = 0.25
    config.task.per_class = 150
    config.seeds = (0,)  # of splits, heads and order

    settings = defaults.get_config().plan
    config.head = settings.head
    config.head.epochs = 40
    config.head.learning_rate = 1e-2
    config.from_layer = "stage3_block1"  # the lowest layer that is fine-tuned
    config.tune = settings.tune
    config.tune.epochs = 8
    config.tune.learning_rate = 1e-3
    config.tune.schedule = "one_cycle"
    config.tune.weight_decay = 1e-2
    config.tune.batch_norm = "batch"
    config.tune.best_by = "last"
    config.batch_size = 32
    config.resamples = 1000  # of the bootstrap
    return config.lock()
