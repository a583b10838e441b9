"""Tux Paint's cut-out photographs in composed scenes: what a pretrained base gives FCOS, and what
is left of it on drawings of the same classes.

    python -m experiments.detectors --config=configs/detectors_scenes.py

Claim: from a pretrained base mAP is 13.5 (FCOS) and 23.7 (Fast R-CNN), from scratch 1.7 and 4.2, at
277 labelled scenes of 128 pixels (--config.size=128 --config.least_steps=150, five seeds); all
verdicts are *helps*. Measured on 2026-11-29 with jax 0.10.2 (docs/detection.md).

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
