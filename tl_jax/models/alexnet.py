"""AlexNet without groups (Krizhevsky 2014, arXiv:1404.5997, "one weird trick"), as in torchvision.

The net of 2012 (Krizhevsky et al., NeurIPS) has convolutions in two groups, other widths and local
response normalisation.
"""

import jax

from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.preprocessing import Preprocessing, imagenet
from tl_jax.models.layers import Conv, FullyConnected, MaxPool, head
from tl_jax.weights import published
from tl_jax.weights.convert import Rule, dense_after

# name: (channels, kernel, stride, padding) of the five convolutions
VARIANTS = {
    "alexnet": ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
}
POOLED = (1, 2, 5)  # the numbers of the convolutions that max pooling follows
SIDE = 6  # of the maps below fc6, for inputs of 224 x 224

PUBLISHED = {
    "alexnet": {
        "torchvision:IMAGENET1K_V1": published.torchvision(
            "alexnet-owt", "7be5be79", imagenet(224, 256), 56.522, 79.066
        )
    }
}


def forms(name: str) -> tuple[str, ...]:
    return ("torchvision",)


def build(name: str, form: str, classes: int = 1000) -> Network:
    """Return the chain `conv1`, `pool1`, `conv2`, `pool2`, `conv3` to `conv5`, `pool5`, `fc6`,
    `fc7`, `head`.
    """
    layers = []
    for i, conv in enumerate(VARIANTS[name], 1):
        layers.append(Layer(f"conv{i}", Conv(*conv, activation=jax.nn.relu)))
        if i in POOLED:
            layers.append(Layer(f"pool{i}", MaxPool(3, 2)))
    return Network(
        (
            *layers,
            Layer("fc6", FullyConnected(4096, dropout=0.5, side=SIDE)),
            Layer("fc7", FullyConnected(4096, dropout=0.5)),
            Layer("head", Classifier(classes)),
        )
    )


def preprocessing(name: str, form: str) -> Preprocessing:
    return imagenet(224, 256)


def rules(name: str, form: str) -> list[Rule]:
    numbers = (0, 3, 6, 8, 10)  # torchvision counts ReLUs and poolings too
    return [
        *(Rule(rf"features\.{number}", f"conv{i}") for i, number in enumerate(numbers, 1)),
        Rule(r"classifier\.1", "fc6/Dense_0", dense_after(SIDE)),
        Rule(r"classifier\.4", "fc7/Dense_0"),
        *head(r"classifier\.6"),
    ]
