r"""BiT's HyperRule (Kolesnikov et al. 2020, arXiv:1912.11370): settings by the size of the data.

    python -m experiments.prepare --config=configs/protocols/bit.py
    python -m experiments.transfer --config=configs/protocols/bit.py

`tl_jax.plans.hyper_rule` says resolution, length, schedule and mixup for CIFAR-10: 49,000 images of
32 pixels. BiT-M R50x1, trained on ImageNet-21k, has 97.2 to 97.4 % on CIFAR-10 and 86.4 to 86.6 %
on CIFAR-100 with all examples (google-research/big_transfer, README). For CIFAR-100 add
--config.task.name=tfds:cifar100.

What differs: this ResNet-50 knows ImageNet-1k alone and has batch norm, where BiT's has group norm
and standardised weights, so expect less.
"""

import ml_collections

from configs import defaults
from tl_jax.plans.hyper_rule import hyper_rule


def get_config():
    config = defaults.get_config().unlock()
    config.base = "resnet50"
    config.weights = "torchvision:IMAGENET1K_V1"
    config.task.name = "tfds:cifar10"
    config.task.splits = ml_collections.ConfigDict(
        {"train": "train[:98%]", "val": "train[98%:]", "test": "test"}
    )
    config.update(hyper_rule(49_000, (32, 32)))
    return config.lock()
