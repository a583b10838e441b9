r"""Kornblith et al. 2019 (arXiv:1805.08974): fine-tuning, with a grid of rates and weight decays.

    python -m experiments.prepare --config=configs/protocols/kornblith_fine_tune.py
    python -m experiments.scenarios --config=configs/protocols/kornblith_fine_tune.py

20,000 steps of batches of 256, SGD with Nesterov momentum 0.9, cosine schedule, random crops and
flips; 7 rates from 1e-4 to 1e-1, and 7 weight decays from 1e-6 to 1e-3 and none, divided by the
rate (as the appendix of SimCLR, arXiv:2002.05709, says, too). Validation chooses one of the 56,
and that one alone is tested; the 56 trainings are one cell, begun again if it is interrupted.
ResNet-50 should have, in percent (BYOL, arXiv:2006.07733, table 3, from SimCLR; * mean over
classes):

    --config.tasks.target.name=   accuracy     --config.tasks.target.name=   accuracy
    tfds:food101                  88.3         tfds:dtd                      74.6
    tfds:cifar10                  97.5         tfds:oxford_iiit_pet          92.1 *
    tfds:cifar100                 86.4         tfds:caltech101               93.3 *
    tfds:cars196                  92.1         tfds:oxford_flowers102        97.6 *
    tfds:sun397                   64.3

What differs: another training of ResNet-50; the best point is not trained again on train and
validation; batch norm's momentum is the network's own; accuracy is that of all examples.
"""

from configs import scenarios

RATES = tuple(10 ** (-4 + step / 2) for step in range(7))
DECAYS = (0.0, *(10 ** (-6 + step / 2) for step in range(7)))


def get_config():
    config = scenarios.get_config()
    config.tasks.target = {"name": "tfds:oxford_flowers102", "data_dir": "", "val": 0.1}
    config.bases.resnet50 = scenarios.base("resnet50", weights="torchvision:IMAGENET1K_V1")
    config.seeds = 1
    config.draws = 1
    config.least_steps = 20_000
    config.settings = {"batch_size": 256, "dropout": 0.0}
    config.settings.tune = {"epochs": 1, "optimizer": "sgd", "schedule": "cosine", "clip": 0.0}
    # 0.08: the crops of Szegedy et al. 2015, which both papers train with
    config.settings.tune.update({"batch_norm": "batch", "augment": "crop(0.08)+flip"})
    config.settings.tune.best_by = "last"
    grid = tuple(
        {"tune": {"learning_rate": rate, "weight_decay": decay / rate}}
        for rate in RATES
        for decay in DECAYS
    )
    config.plans.full = scenarios.plan("full", grid)
    config.reference = "full"
    return config.lock()
