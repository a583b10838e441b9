"""Digits in composed scenes: what a pretrained base gives FCOS, small enough to try.

    python -m experiments.detectors --config=configs/detectors_small.py

Scenes of 64 pixels; the base is cut where a position is 8.
"""

from configs import detectors


def get_config():
    config = detectors.get_config().unlock()
    config.size = 64
    config.task.name = "composed:digits"
    config.task.count, config.task.size = 240, 64
    config.settings.cut = "stage3_block2"
    config.detectors.fcos.head = "fcos"
    del config.plans.fine_tuned
    config.least_steps = 100
    config.budgets = (16, 48, 140)
    return config.lock()
