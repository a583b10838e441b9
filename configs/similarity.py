r"""Similarity of EfficientNet-Lite0's layers on ELPV: to one another, to Lite1's, to random ones.

    python -m experiments.transfer --config=configs/demo.py --config.size=112 \
        --workdir=runs/demo_112
    python -m experiments.similarity --config=configs/similarity.py --workdir=runs/similarity \
        --config.tuned=runs/demo_112/model.safetensors

It compares globally averaged features of all 19 layers below the classifier, on all 2,624 images at
112 pixels. Results, by CKA: Lite0 and Lite1, trained separately, have the same layers in nearly the
same order (for each of Lite0's layers, one in Lite1 has 0.96 or more). Only stem and stage 1 are
similar to those of the random base (0.97, 0.92); from stage 2 up nothing is above 0.29. After
fine-tuning from stage 6 up, the frozen layers are at 1 except for rounding, and 1 - CKA grows with
every layer: 0.07, 0.13, 0.19, 0.30 over stage 6, 0.50 in stage 7, 0.71 at the top.

Cost: 15 minutes on 2 CPU cores with three other jobs running; the first command takes 6 min 30 s.
Measured on 2026-11-25 with jax 0.10.2.
"""

import ml_collections

from configs import defaults


def get_config():
    config = defaults.subject()
    config.size = 112
    config.crop = 1.0
    config.task.name = "elpv"
    # The bases to compare with, by their names in the report
    config.others = ml_collections.ConfigDict()
    config.others.lite1 = ml_collections.ConfigDict(
        {"base": "efficientnet_lite1", "weights": "pip:efficientnet-lite1"}
    )
    config.others.random = ml_collections.ConfigDict(
        {"base": "efficientnet_lite0", "weights": "random:0"}
    )
    config.tuned = ""  # model.safetensors of a finished run from the same base; empty: none
    config.pool = "mean"  # or adaptive:<most features>
    config.batch = 256  # images in a minibatch of CKA
    return config.lock()
