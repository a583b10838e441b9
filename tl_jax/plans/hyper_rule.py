"""BiT's rule for fine-tuning without a search: settings from the size of the data alone."""

import math
from typing import Any

from tl_jax.errors import takes_whole

SMALL_IMAGE = 96**2  # pixels; smaller images are trained on at 128 pixels a side
# By the training examples that it is for: when the rise ends, when the rate falls, when it ends
SCHEDULES = (
    (20_000, (100, 200, 300, 400, 500)),
    (500_000, (500, 3_000, 6_000, 9_000, 10_000)),
    (math.inf, (500, 6_000, 12_000, 18_000, 20_000)),
)
MIXED_FROM = 20_000  # training examples from which mixup helps
BATCH = 512


def hyper_rule(examples: int, size: tuple[int, int]) -> dict[str, Any]:
    """The settings of a transfer, plan `full`, by BiT's HyperRule (Kolesnikov et al. 2020,
    arXiv:1912.11370, section 3.3; google-research/big_transfer, bit_hyperrule.py).

    `examples`: in the training split; `size`: height and width of its images. The schedule's length
    is in steps there; here it is the number of epochs that makes at least as many. Crops are square
    windows of the image at full size, where the paper cuts 128 out of 160 pixels or 480 out of 512.
    """
    takes_whole(examples, "examples=", 1, 10**12)
    rise, *falls, end = next(steps for most, steps in SCHEDULES if examples < most)
    batch = min(BATCH, examples)
    side, window = (128, 128 / 160) if size[0] * size[1] < SMALL_IMAGE else (480, 480 / 512)
    area = round(window**2, 4)
    augment = f"crop({area}, {area}, 1.0)+flip"
    return {
        "size": side,
        "crop": 1.0,
        "batch_size": batch,
        "plan": "full",
        "head": "zero",
        "dropout": 0.0,
        "tune": {
            "epochs": math.ceil(end / (examples // batch)),
            "learning_rate": 0.003,
            "optimizer": "sgd(nesterov=False)",
            "schedule": f"step(at={tuple(fall / end for fall in falls)}, warmup={rise / end})",
            "weight_decay": 0.0,
            "clip": 0.0,
            "batch_norm": "batch",
            "augment": augment + ("+mixup(0.1)" if examples >= MIXED_FROM else ""),
            "best_by": "last",
        },
    }
