"""Similarity of EfficientNet-Lite0's layers on ELPV: to each other, to Lite1's, to random ones."""

import ml_collections

from configs import defaults


def get_config():
    config = defaults.subject()
    config.size = 112
    config.crop = 1.0
    config.task.name = "elpv"
    # The bases to compare with, by the names that the report is to give them
    config.others = ml_collections.ConfigDict()
    config.others.lite1 = ml_collections.ConfigDict(
        {"base": "efficientnet_lite1", "weights": "pip:efficientnet-lite1"}
    )
    config.others.random = ml_collections.ConfigDict(
        {"base": "efficientnet_lite0", "weights": "random:0"}
    )
    config.tuned = ""  # model.safetensors of a finished run of the base; empty: none
    config.pool = "mean"  # or adaptive:<most features>
    config.batch = 256  # images of a minibatch of CKA
    return config.lock()
