"""A base for configs/scenarios_fashion.py: the small AlexNet, trained on some classes of
Fashion-MNIST from fresh weights.

    python -m experiments.transfer --config=configs/fashion_base.py --workdir=runs/fashion_shoes \
        --config.task.only="('Sandal', 'Sneaker', 'Bag', 'Ankle boot')"
"""

from configs import defaults


def get_config():
    config = defaults.get_config()
    config.base = "alexnet_small"
    config.weights = "random:0"
    config.task.name = "fashion_mnist"
    config.plan = "from_scratch"
    config.batch_size = 64
    config.tune.epochs = 8
    config.tune.optimizer = "sgd"
    config.tune.learning_rate = 0.05
    config.tune.weight_decay = 5e-4
    return config
