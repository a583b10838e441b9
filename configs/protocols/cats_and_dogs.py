r"""The lectures' example: cats against dogs from 2,000 images, with VGG16, in seven steps.

    python -m experiments.prepare --config=configs/protocols/cats_and_dogs.py
    python -m experiments.transfer --config=configs/protocols/cats_and_dogs.py

1,000 training images of each class, ImageNet's VGG16, cut at the bottleneck (fc7, the layer before
the classifier), a new head trained on the frozen base, then the last block and what is above it
unfrozen at a very low rate. The lectures give no accuracy. VGG16 with two outputs has 134,268,738
parameters, one more than a lecture's slide says.

To be prepared, cats_vs_dogs needs TensorFlow.
"""

from configs import defaults


def get_config():
    config = defaults.get_config()
    config.base = "vgg16"
    config.weights = "torchvision:IMAGENET1K_V1"
    config.task.name = "tfds:cats_vs_dogs"
    config.task.per_class = 1000
    config.plan = "head_then_fine_tune"
    config.from_layer = "conv5_1"
    config.dropout = 0.5
    config.train_head.epochs = 10
    config.tune.epochs = 10
    config.tune.optimizer = "sgd"
    config.tune.learning_rate = 1e-4
    config.tune.views = "flip"
    return config
