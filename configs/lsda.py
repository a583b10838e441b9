"""Digits in composed scenes, half of which have no boxes: LSDA on EfficientNet-Lite0.

    python -m experiments.lsda --config=configs/lsda.py

First a Fast R-CNN learns from the classes in whole images; then from the boxes of the other
classes. Both train the head alone.
"""

from configs import defaults, detect


def get_config():
    config = defaults.subject().unlock()
    run = detect.get_config()
    config.size, config.task = 96, run.task.unlock()
    config.task.name = "composed:digits"
    config.task.count, config.task.size, config.task.most = 300, 96, 1
    config.held_out = tuple("13579")
    config.nearest = 3
    config.objective = "fast_rcnn(proposals='windows(sides=(0.25, 0.45), ratios=(0.6, 1))')"
    config.settings = {"cut": run.cut, "batch_size": 16, "dropout": 0.0, "plan": "head_only"}
    config.classify = {"train_head": {"epochs": 12, "learning_rate": 3e-3, "best_by": "last"}}
    config.detect = {"train_head": {"epochs": 8, "learning_rate": 1e-3, "best_by": "last"}}
    config.seeds = (0, 1, 2)
    return config.lock()
