"""Defects of solar cells in electroluminescence images (ELPV), from EfficientNet-Lite0."""

from configs import defaults


def get_config():
    config = defaults.get_config()
    config.base.crop = 1.0
    config.task.name = "elpv"
    config.task.targets = "graded"
    config.task.val = 0.05
    config.task.test = 0.25

    config.plan.name = "head_then_fine_tune"
    config.plan.from_layer = "stage4_block1"
    config.plan.head.epochs = 5
    config.plan.head.learning_rate = 3e-3
    config.plan.tune.epochs = 12
    config.plan.tune.learning_rate = 1e-3
    config.plan.tune.schedule = "one_cycle"
    config.plan.tune.weight_decay = 1e-2
    config.plan.tune.batch_norm = "batch"
    config.plan.tune.views = "flips"
    config.plan.tune.best_by = "last"

    config.test_views = "flips"
    config.cache_dtype = "float16"
    return config
