"""The main job in a few minutes: a shorter plan than configs/elpv.py, for `make demo`.

    python -m experiments.transfer --config=configs/demo.py
"""

from configs import elpv


def get_config():
    config = elpv.get_config()
    config.plan.from_layer = "stage6_block1"
    config.plan.head.epochs = 5
    config.plan.tune.epochs = 6
    config.plan.tune.views = "flips"
    config.test_views = "flips"
    return config
