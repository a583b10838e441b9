"""The study of configs/score_vs_accuracy.py on scikit-learn's digits, small enough to try."""

import ml_collections

from configs import score_vs_accuracy


def get_config():
    config = score_vs_accuracy.get_config()
    cuts = ("stage2_block2", "stage3_block2", "stage4_block1")
    with config.unlocked():
        config.bases = ml_collections.ConfigDict()
        for called, weights in (("lite0", "pip:efficientnet-lite0"), ("random", "random:0")):
            own = {"base": "efficientnet_lite0", "weights": weights, "cuts": cuts}
            config.bases[called] = ml_collections.ConfigDict(own)
    config.size = 32
    config.task.name = "digits"
    config.task.targets = ""
    config.task.per_class = 10
    config.from_layer = "stage2_block2"
    config.tune.epochs = 10
    config.resamples = 200
    return config
