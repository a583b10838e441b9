"""Tux Paint's cut-out photographs in composed scenes: what a pretrained base gives FCOS, and what
is left of it on drawings of the same classes.

    python -m experiments.detectors --config=configs/detectors_scenes.py

Fast R-CNN, beside it, takes the proposals of selective search: pip install 'tl_jax[detection]'.
"""

from configs import detectors


def get_config():
    config = detectors.get_config().unlock()
    config.size = 160
    config.task.name = "composed:stamps"
    config.task.count = 400
    config.detectors.fast_rcnn = {"objective": "fast_rcnn", "head": "linear"}
    config.shifts.drawings = {"name": "composed:stamps", "style": "drawing", "count": 400}
    config.budgets = (20, 60, 240)
    return config.lock()
