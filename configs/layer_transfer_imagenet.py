"""Layer transfer between random halves of ImageNet's classes, with AlexNet: the study of 2014.

    python -m experiments.layer_transfer --config=configs/layer_transfer_imagenet.py
    python -m experiments.layer_transfer --config=configs/layer_transfer_imagenet.py --check=500

It has not been run. ImageNet is to be prepared by TFDS as array_record (the program says how if it
is not), in version 5.0.0, since 5.1.0 has a test split without labels. Images are decoded whenever
they are read; trainings run one after the other, each spread over all devices, with checkpoints,
and finished ones are not repeated.

The second line compiles the steps for their real shapes without data and counts them; on the CPU
backend, 2026-11-25, jax 0.10.2, in billions of floating-point operations a step of 256 images:

    layers frozen    0      1      2      3      4      5      6      7
                 976.3  835.4  678.7  557.9  443.0  377.5  349.0  339.2

A half has some 628,000 images in train: 90 epochs are 221,000 steps, so a training in which all
learns is 2.2e17 operations, and the study (4 seeds; 2 bases, 2 treatments at seven n in which all
learn, 3 in which n layers are frozen) about 2.3e19. Decoding will bound it, not the accelerator.

Other than in 2014: AlexNet of 2014 without groups and normalisation, a cosine instead of three
steps, Nesterov momentum, no augmentation, a central crop; figures are of the last epoch, on 2 % of
train that no training has seen (`test`) and on the validation split of 2012 (`val`, in the cells).
"""

import ml_collections

from configs import layer_transfer


def get_config():
    config = layer_transfer.get_config()
    config.groups = ml_collections.ConfigDict()
    config.base = "alexnet"
    config.task.name = "tfds:imagenet2012:5.0.0"
    config.task.test = 0.02
    config.task.per_class = 0
    config.arms = ("random",)
    config.seeds = 4  # bases of each half, as there
    config.budgets = (0,)
    config.epochs = (90,)
    config.train.learning_rate = 0.01
    config.train.clip = 0.0
    config.batch_size = 256
    config.precision = "bfloat16"
    config.together = False
    config.cache = ""
    return config
