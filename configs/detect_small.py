"""Scikit-learn's digits in composed scenes, found by FCOS on EfficientNet-Lite0: to try things.

    python -m experiments.detect --config=configs/detect_small.py
"""

from configs import detect


def get_config():
    config = detect.get_config().unlock()
    config.size = 96
    config.task.name, config.task.count, config.task.size = "composed:digits", 240, 96
    config.train_head.epochs = 6
    config.tune.epochs = 4
    return config.lock()
