"""A small AlexNet on scikit-learn's digits, grown wider and deeper: Net2Net.

python -m experiments.grow --config=configs/grow_digits.py
"""

import ml_collections

from configs import defaults


def get_config():
    config = defaults.subject()
    config.base = "alexnet_small"
    config.weights = "random:0"  # of the seed, in fact: every teacher begins with fresh weights
    config.task.name = "digits"
    config.task.val = 0.2
    config.task.test = 0.25
    # Factors on the channels of a layer, or of a part of one such as stage1_block1/conv1
    config.wider = ml_collections.ConfigDict({"conv3": 2.0, "conv4": 2.0, "fc5": 2.0})
    config.deeper = ("conv3", "conv4", "fc5")  # layers that get one like them on top
    config.noise = 0.01  # on copies, by which they become different
    phase = {"epochs": 12, "learning_rate": 3e-3, "schedule": "constant", "batch_norm": "batch"}
    config.teacher = ml_collections.ConfigDict(phase)
    config.student = ml_collections.ConfigDict({k: v for k, v in phase.items() if "rate" not in k})
    config.share = 0.1  # of the teacher's rate, for networks that have grown (Chen et al., 3)
    config.batch_size = 64
    config.seeds = (0, 1, 2, 3, 4)
    return config.lock()
