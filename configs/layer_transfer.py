"""Layer transfer on Fashion-MNIST: random halves, and clothes against shoes and bags.

    python -m experiments.layer_transfer --config=configs/layer_transfer.py

The study needs Debian's package dataset-fashion-mnist (or --config.task.name=tfds:fashion_mnist,
prepared). These are the results of five seeds with 300 training images a class (2026-11-25, jax
0.10.2), in points of test accuracy below or above base B, paired by seed, as means over the seeds
(docs/studies.md says more):

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

Cost: 785 trainings in 23 min 53 s on 2 CPU cores, with nothing compiled before. Another run, which
was stopped and resumed, gave the same 785 accuracies.

Every setting of the study is here; the other layer_transfer configs change what they need.
"""

import ml_collections

from configs import defaults


def get_config():
    config = defaults.subject()
    config.base = "alexnet_small"  # or any of the zoo, from fresh weights
    config.size = 0
    config.task.name = "fashion_mnist"
    config.task.val = 0.02
    config.task.per_class = 300
    config.source = ml_collections.ConfigDict()
    config.source.name = ""  # task of base A, if not a part of the same
    config.source.path = ""
    config.source.data_dir = ""
    config.source.per_class = 0
    # Bases A that are there already, by name: weights as `load_base` takes, {seed} is the seed's
    # number ("runs/simclr/{seed}")
    config.bases = ml_collections.ConfigDict()

    # What A and B are: `random` halves of the classes, drawn by each seed; two groups as in
    # `clothes:shoes`; `tasks`, the whole of config.source and of config.task; or a name of
    # config.bases: that base, and the whole of config.task
    config.arms = ("random", "clothes:shoes_and_bags", "shoes_and_bags:clothes")
    config.groups = ml_collections.ConfigDict()
    config.groups.clothes = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Shirt")
    config.groups.shoes_and_bags = ("Sandal", "Sneaker", "Bag", "Ankle boot")
    config.seeds = 5
    config.budgets = (0, 30)  # training examples of each of B's classes; 0: all of them
    config.epochs = (8, 24)  # at each budget
    config.layers = ()  # at which to cut; empty: at every layer with parameters

    config.train = ml_collections.ConfigDict()
    config.train.learning_rate = 0.05
    config.train.weight_decay = 5e-4
    config.train.optimizer = "sgd"
    config.train.schedule = "cosine"
    config.train.clip = 1.0
    config.batch_size = 64
    config.precision = "float32"  # of activations, where they are streamed
    config.together = True  # trainings in memory, many in one program; else one by one, streamed
    return config.lock()
