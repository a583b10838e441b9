"""Crowns of trees in aerial photographs (`packaged:tree_crowns`), found by FCOS.

    python -m experiments.detect --config=configs/detect_crowns.py
"""

from configs import detect


def get_config():
    config = detect.get_config().unlock()
    config.task.name = "packaged:tree_crowns"
    config.train_head.epochs = 30  # of 4 steps each
    return config.lock()
