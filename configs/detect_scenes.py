"""Tux Paint's cut-out photographs in composed scenes (`composed:stamps`), found by Fast R-CNN.

    python -m experiments.detect --config=configs/detect_scenes.py

The proposals are those of selective search: pip install 'tl_jax[detection]'.
"""

from configs import detect


def get_config():
    config = detect.get_config().unlock()
    config.task.name = "composed:stamps"
    config.objective, config.head = "fast_rcnn", "linear"
    return config.lock()
