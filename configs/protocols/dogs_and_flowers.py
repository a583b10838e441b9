r"""The lectures' example: dogs against flowers, with MobileNet.

    python -m experiments.prepare --config=configs/protocols/dogs_and_flowers.py
    python -m experiments.transfer --config=configs/protocols/dogs_and_flowers.py

A MobileNet that ImageNet taught gets a new head, which is trained on the frozen base; then
everything is unfrozen and trained at a very low rate. A class is a whole dataset: Stanford Dogs and
TensorFlow's flowers. The lecture gives no accuracy.
"""

from configs import defaults


def get_config():
    config = defaults.get_config()
    config.base = "mobilenet_v1"
    config.weights = "keras:imagenet"
    config.task.name = "joined:tfds:stanford_dogs+tfds:tf_flowers"
    config.task.per_class = 500
    config.plan = "head_then_fine_tune"
    config.from_layer = "0"
    config.train_head.epochs = 5
    config.tune.epochs = 5
    config.tune.learning_rate = 1e-5
    return config
