"""Layer transfer on Fashion-MNIST."""

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

    # What A and B are: `random` halves of the classes, drawn by each seed; two groups as in
    # `clothes:shoes`; or `tasks`, the whole of config.source and of config.task
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
