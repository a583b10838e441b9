r"""Kornblith et al. 2019 (arXiv:1805.08974): logistic regression on penultimate features.

    python -m experiments.prepare --config=configs/protocols/kornblith_probe.py
    python -m experiments.layer_probes --config=configs/protocols/kornblith_probe.py

Features of a central crop of 224 pixels, multinomial logistic regression with 45 penalties from
1e-6 to 1e5 evenly by their logarithm, chosen on validation, then refitted on train and validation
(appendix A.3). ResNet-50 should have, in percent (BYOL, arXiv:2006.07733, table 3, which took them
from SimCLR, arXiv:2002.05709; * mean over classes):

    --config.task.name=    accuracy          --config.task.name=     accuracy
    tfds:food101           72.3              tfds:dtd                74.9
    tfds:cifar10           93.6              tfds:oxford_iiit_pet    91.5 *
    tfds:cifar100          78.3              tfds:caltech101         94.5 *
    tfds:cars196           66.7              tfds:oxford_flowers102  94.7 *
    tfds:sun397            61.9

What differs: those features come from another training of ResNet-50 on ImageNet; the penalty is
chosen by loss, not by accuracy; accuracy here is that of all examples, not the mean over classes;
validation is taken out of train where TFDS has none.
"""

from configs import layer_probes


def get_config():
    config = layer_probes.get_config().unlock()
    config.base = "resnet50"
    config.weights = "torchvision:IMAGENET1K_V1"
    config.crop = 0.0  # the weights' own: 224 of 256 pixels
    config.task.name = "tfds:oxford_flowers102"
    config.task.targets = ""
    config.task.val = 0.1
    config.layers = ("pool",)
    config.probes = ("logistic",)
    config.budgets = (1.0,)
    config.seeds = (0,)
    return config.lock()
