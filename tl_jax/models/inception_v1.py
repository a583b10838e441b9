"""Inception v1, GoogLeNet (Szegedy et al. 2014, arXiv:1409.4842), as torchvision has it: with batch
norm instead of local response normalisation and with 3x3 instead of 5x5 convolutions
(https://github.com/pytorch/vision/issues/906). The auxiliary classifiers are left out.
"""

import functools

import flax.linen as nn

from tl_jax import ops
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.preprocessing import Preprocessing, minus_one_to_one
from tl_jax.models.layers import ConvNorm, MaxPool, conv_norm, head, pool_and_head
from tl_jax.weights import published
from tl_jax.weights.convert import Rule

# name: channels of each module's 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5 and pool proj: table 1
VARIANTS = {
    "inception_v1": {
        "3a": (64, 96, 128, 16, 32, 32),
        "3b": (128, 128, 192, 32, 96, 64),
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
        "5a": (256, 160, 320, 32, 128, 128),
        "5b": (384, 192, 384, 48, 128, 128),
    }
}

_conv = functools.partial(ConvNorm, epsilon=1e-3)


class Mixed(nn.Module):
    """Inception module: 1x1, 3x3 and "5x5" convolutions and max pooling side by side."""

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        one, reduce3, three, reduce5, five, projected = self.channels
        branch1 = _conv(one, name="1x1")(x)
        branch2 = _conv(reduce3, name="3x3_reduce")(x)
        branch2 = _conv(three, 3, name="3x3")(branch2)
        branch3 = _conv(reduce5, name="5x5_reduce")(x)
        branch3 = _conv(five, 3, name="5x5")(branch3)
        branch4 = _conv(projected, name="pool_proj")(ops.max_pool(x, 3, 1, 1))
        return ops.concatenated((branch1, branch2, branch3, branch4))


def forms(name: str) -> tuple[str, ...]:
    return ("torchvision",)


def build(name: str, form: str, classes: int = 1000) -> Network:
    """Return the chain `conv1`, `pool1`, `conv2`, `conv3`, `pool2`, `mixed_3a`, ..., `mixed_5b`,
    `pool`, `head`.

    `pool3` comes before `mixed_4a`, `pool4` before `mixed_5a`.
    """
    mixed = {n: Layer(f"mixed_{n}", Mixed(c)) for n, c in VARIANTS[name].items()}
    return Network(
        (
            Layer("conv1", _conv(64, 7, 2, 3)),
            Layer("pool1", MaxPool(3, 2, ceil=True)),
            Layer("conv2", _conv(64)),
            Layer("conv3", _conv(192, 3)),
            Layer("pool2", MaxPool(3, 2, ceil=True)),
            *(mixed[n] for n in ("3a", "3b")),
            Layer("pool3", MaxPool(3, 2, ceil=True)),
            *(mixed[n] for n in ("4a", "4b", "4c", "4d", "4e")),
            Layer("pool4", MaxPool(2, 2, ceil=True)),
            *(mixed[n] for n in ("5a", "5b")),
            *pool_and_head(classes, dropout=0.2),
        )
    )


def preprocessing(name: str, form: str) -> Preprocessing:
    # torchvision normalises by ImageNet's mean and undoes that in the net (`transform_input`).
    return minus_one_to_one(224)


def rules(name: str, form: str) -> list[Rule]:
    parts = {
        r"1": "1x1",
        r"2\.0": "3x3_reduce",
        r"2\.1": "3x3",
        r"3\.0": "5x5_reduce",
        r"3\.1": "5x5",
        r"4\.1": "pool_proj",
    }
    rows = [*conv_norm(r"(conv\d)\.conv", r"(conv\d)\.bn", r"\1"), Rule(r"aux\d\..+", None)]
    for branch, part in parts.items():
        module = rf"inception(\d\w)\.branch{branch}\."
        rows += conv_norm(module + "conv", module + "bn", rf"mixed_\1/{part}")
    return rows + head("fc")


PUBLISHED = {
    "inception_v1": {
        "torchvision:IMAGENET1K_V1": published.torchvision(
            "googlenet", "1378be20", minus_one_to_one(224), 69.778, 89.530
        ),
    }
}
