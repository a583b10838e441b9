r"""LP-FT (Kumar et al. 2022, arXiv:2202.10054): first the head, then all; and a shifted test.

    python -m experiments.prepare --config=configs/protocols/lp_ft.py
    python -m experiments.prepare --config=configs/protocols/cifar10_shifts.py
    run="python -m experiments.transfer --config=configs/protocols/lp_ft.py"
    $run --workdir=runs/lp_ft
    $run --workdir=runs/lp --config.plan=head_only
    $run --workdir=runs/ft --config.plan=full
    python -m experiments.judge --config=configs/protocols/cifar10_shifts.py \
        --runs=runs/lp_ft,runs/lp,runs/ft

CIFAR-10 from ResNet-50, judged on its own test split and, shifted, on STL-10 and CIFAR-10.1. In
percent, as means of three seeds (the paper's first version, with six shifts, ResNet-50):

             CIFAR-10   STL-10   CIFAR-10.1
    FT       97.3       82.4     92.3
    LP       91.8       85.1     82.7
    LP-FT    97.5       90.7     93.5

Batches of 64, SGD with momentum 0.9, a cosine of 20 epochs, no weight decay, images stretched to
224 pixels without augmentation (AnanyaKumar/transfer_learning, configs/adaptation). The paper tries
six rates for each method and chooses by accuracy on CIFAR-10; here choose one by validation, among
runs with other --config.tune.learning_rate=.

What differs: the paper's ResNet-50 was trained by MoCo-v2; its runs here are supervised. Its head
is a logistic regression, here it is trained with SGD.
"""

import ml_collections

from configs import defaults


def get_config():
    config = defaults.get_config().unlock()
    config.base = "resnet50"
    config.weights = "torchvision:IMAGENET1K_V1"
    config.crop = 1.0
    config.task.name = "tfds:cifar10"
    config.task.splits = ml_collections.ConfigDict(
        {"train": "train[:90%]", "val": "train[90%:]", "test": "test"}
    )
    config.plan = "head_then_fine_tune"
    config.from_layer = "stem"
    config.dropout = 0.0
    config.batch_size = 64
    for phase, epochs, rate in ((config.train_head, 20, 1e-2), (config.tune, 20, 1e-3)):
        phase.epochs = epochs
        phase.learning_rate = rate
        phase.optimizer = "sgd(nesterov=False)"
        phase.weight_decay = 0.0
        phase.clip = 0.0
    config.tune.batch_norm = "batch"
    return config.lock()
