"""The study of configs/score_vs_accuracy.py on scikit-learn's digits, small enough for a try.

    python -m experiments.score_vs_accuracy --config=configs/score_vs_accuracy_digits.py

It has Lite0 with ImageNet's and with random weights, three low cuts, 32 pixels, 10 images of each
class. Six candidates are too few to tell scores apart: weighted tau with fine-tuned accuracy is
0.77 to 0.86 for all scores but class separation (0.06), with intervals down to -0.28. It takes 71 s
on 2 CPU cores with other jobs running (2026-11-25, jax 0.10.2).
"""

import ml_collections

from configs import score_vs_accuracy


def get_config():
    config = score_vs_accuracy.get_config()
    cuts = ("stage2_block2", "stage3_block2", "stage4_block1")
    with config.unlocked():
        config.bases = ml_collections.ConfigDict()
        for name, weights in (("lite0", "pip:efficientnet-lite0"), ("random", "random:0")):
            entry = {"base": "efficientnet_lite0", "weights": weights, "cuts": cuts}
            config.bases[name] = ml_collections.ConfigDict(entry)
    config.size = 32
    config.task.name = "digits"
    config.task.targets = ""
    config.task.per_class = 10
    config.seeds = (0,)
    config.from_layer = "stage2_block2"
    config.tune.epochs = 10
    config.resamples = 200
    return config
