"""Scikit-learn's handwritten digits on EfficientNet-Lite0, for trying things.

    python -m experiments.transfer --config=configs/digits.py

It takes half a minute.
"""

from configs import defaults


def get_config():
    config = defaults.get_config()
    config.size = 64
    config.crop = 1.0
    config.task.name = "digits"
    config.from_layer = "0.8"
    config.train_head.epochs = 3
    config.train_head.learning_rate = 1e-2
    config.tune.epochs = 3
    config.tune.learning_rate = 1e-3
    return config
