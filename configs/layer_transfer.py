"""Layer transfer on Fashion-MNIST: random halves, and clothes against shoes and bags.

    python -m experiments.layer_transfer --config=configs/layer_transfer.py

It needs Debian's package dataset-fashion-mnist (or TFDS's: --config.task.name=tfds:fashion_mnist).
Results with five seeds and 300 training images of each class, 2026-11-25, jax 0.10.2: points of
test accuracy above or below base B, paired by seed, mean over seeds (docs/studies.md has more):

    random halves, base B 93.2 %
    n            1      2      3      4      5
    BnB       -0.4   -0.1   -0.3   -0.2   -0.3
    AnB       -0.4   -0.5   -0.6   -1.4   -5.7
    BnB+      -0.3   +0.2   -0.1   +0.3   +0.1
    AnB+      -0.3   -0.2   -0.1   -0.1   -0.2
    random    -1.0   -1.4   -1.5   -3.2  -10.2

    AnB from clothes to shoes and bags, base B 93.9 %
              +0.4   +0.2   +0.3   -0.6   -6.5
    AnB from shoes and bags to clothes, base B 76.8 %
              -0.2   -1.1   -1.6   -5.3  -12.3

Cost: 785 trainings in 23 min 53 s on 2 CPU cores, without earlier compiled programs. Another run,
which was stopped and resumed, gave the same 785 accuracies.

This file has every setting of the study; the other layer_transfer configs change some of them.
"""

import ml_collections

from configs import defaults


def get_config():
    config = defaults.subject()
    config.base = "alexnet_small"  # or any base of the zoo, with fresh weights
    config.size = 0
    config.task.name = "fashion_mnist"
    config.task.val = 0.02
    config.task.per_class = 300
    config.source = ml_collections.ConfigDict()
    config.source.name = ""  # task of base A, if not a part of config.task
    config.source.path = ""
    config.source.data_dir = ""
    config.source.per_class = 0

    # The tasks A and B: `random` halves of the classes, drawn anew by each seed; two groups, as in
    # `clothes:shoes_and_bags`; or `tasks`, the whole of config.source and of config.task
    config.arms = ("random", "clothes:shoes_and_bags", "shoes_and_bags:clothes")
    config.groups = ml_collections.ConfigDict()
    config.groups.clothes = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Shirt")
    config.groups.shoes_and_bags = ("Sandal", "Sneaker", "Bag", "Ankle boot")
    config.seeds = 5
    config.budgets = (0, 30)  # training examples of each of B's classes; 0: all
    config.epochs = (8, 24)  # for each budget
    config.layers = ()  # after which to cut; empty: every layer with parameters

    config.train = ml_collections.ConfigDict()
    config.train.learning_rate = 0.05
    config.train.weight_decay = 5e-4
    config.train.optimizer = "sgd"
    config.train.schedule = "cosine"
    config.train.clip = 1.0
    config.batch_size = 64
    config.precision = "float32"  # of activations, in streamed trainings
    config.together = True  # many trainings in one program, in memory; else one by one, streamed
    return config.lock()
