"""Layer transfer from Fashion-MNIST (300 images of each class) to handwritten digits (100 of each).

    python -m experiments.layer_transfer --config=configs/layer_transfer_fashion_to_digits.py

Results with five seeds, 2026-11-25, jax 0.10.2: test accuracy in percent and, in brackets, points
above or below base B, paired by seed:

    n         1            2            3            4            5
    base B   97.6
    BnB      96.7 (-0.9)  97.4 (-0.1)  97.4 (-0.1)  97.4 (-0.1)  97.3 (-0.2)
    AnB      97.2 (-0.4)  97.7 (+0.1)  97.7 (+0.1)  97.6 (+0.0)  90.2 (-7.3)
    BnB+     97.0 (-0.6)  97.7 (+0.1)  97.4 (-0.1)  98.1 (+0.6)  98.2 (+0.7)
    AnB+     97.5 (-0.1)  97.9 (+0.4)  98.3 (+0.7)  98.7 (+1.1)  97.9 (+0.3)
    random   96.7 (-0.8)  96.7 (-0.8)  95.4 (-2.1)  94.2 (-3.3)  82.9 (-14.7)

All four convolutions that learned clothes also serve for digits, unchanged; fc5 does not. AnB+ is
above BnB+ by 0.4 points on average over n (percentile bootstrap 0.1 to 0.6; -0.3 to 1.1 after
correction for overlapping splits, so one cannot tell: docs/studies.md).

Cost: 135 trainings, 274 seconds of CPU time; 8 min 18 s on 2 busy cores.
"""

import ml_collections

from configs import layer_transfer


def get_config():
    config = layer_transfer.get_config()
    config.groups = ml_collections.ConfigDict()
    config.source.name = "fashion_mnist"
    config.source.per_class = 300
    config.task.name = "digits"
    config.task.per_class = 100
    config.arms = ("tasks",)
    config.task.val = 0.1
    config.budgets = (0,)
    config.epochs = (8,)
    return config
