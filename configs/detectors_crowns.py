"""Tree crowns in aerial photographs: what a pretrained base gives FCOS, at budgets of tiles.

    python -m experiments.detectors --config=configs/detectors_crowns.py
"""

from configs import detectors


def get_config():
    config = detectors.get_config().unlock()
    config.task.name = "packaged:tree_crowns"
    return config.lock()
