r"""CNN-SVM and CNNaug-SVM on Oxford's flowers (Razavian et al. 2014, arXiv:1403.6382).

    python -m experiments.prepare --config=configs/protocols/flowers_svm.py
    run="python -m experiments.layer_probes --config=configs/protocols/flowers_svm.py"
    $run --workdir=runs/cnn_svm
    $run --workdir=runs/cnn_aug_svm --config.views=crops

A linear SVM on the 4096 features of the first fully connected layer, without fine-tuning and
without segmentation: 74.7 % mean accuracy over classes (CNN-SVM), and 86.8 % with features of 16
crops and rotations of each image (CNNaug-SVM). TFDS has the dataset's own splits, of 1,020, 1,020
and 6,149 images.

What differs: their network is OverFeat, and this one AlexNet; their features have length 1; their
16 views include rotations, and these are ten crops; accuracy is that of all images.
"""

from configs import layer_probes


def get_config():
    config = layer_probes.get_config().unlock()
    config.base = "alexnet"
    config.weights = "torchvision:IMAGENET1K_V1"
    config.crop = 0.0
    config.task.name = "tfds:oxford_flowers102"
    config.task.targets = ""
    config.layers = ("fc6",)
    config.probes = ("linear_svm",)
    config.budgets = (1.0,)
    config.seeds = (0,)
    return config.lock()
