"""Layer transfer between random halves of ImageNet's classes, with AlexNet: the study of 2014.

    python -m experiments.layer_transfer --config=configs/layer_transfer_imagenet.py
    python -m experiments.layer_transfer --config=configs/layer_transfer_imagenet.py --check=500

We have not run it. TFDS must prepare ImageNet as array_record (if it has not, the program says
how), in version 5.0.0, because 5.1.0 has a test split without labels. Images are decoded each time
they are read. Trainings run one after the other, each on all devices and with checkpoints; finished
trainings are not repeated.

The second command compiles the steps for their real shapes, without data, and counts their
operations. On the CPU backend (2026-11-25, jax 0.10.2), in billions of floating-point operations
for a step of 256 images:

    layers frozen    0      1      2      3      4      5      6      7
                 976.3  835.4  678.7  557.9  443.0  377.5  349.0  339.2

A half has some 628,000 images in train: 90 epochs are 221,000 steps, so a training of all layers
takes 2.2e17 operations, and the study (4 seeds; 2 bases, and at seven n 2 treatments that train all
layers and 3 with n frozen layers) about 2.3e19. Decoding will limit its speed, not the accelerator.

Differences from 2014: AlexNet without groups and local response normalisation (Krizhevsky 2014), a
cosine schedule instead of three steps, Nesterov momentum, no augmentation, a central crop. Results
are those of the last epoch, on 2 % of train that no training has seen (`test`) and on the
validation split of 2012 (`val`, in the journal's cells).
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
    config.seeds = 4  # bases of each half, as in 2014
    config.budgets = (0,)
    config.epochs = (90,)
    config.train.learning_rate = 0.01
    config.train.clip = 0.0
    config.batch_size = 256
    config.precision = "bfloat16"
    config.together = False
    config.cache = ""
    return config
