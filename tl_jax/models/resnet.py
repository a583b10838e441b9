"""ResNet v1 (He et al. 2015, arXiv:1512.03385) in torchvision's form: bottlenecks have their stride
in the 3x3 convolution instead of the first 1x1, and padding is symmetrical.
"""

import flax.linen as nn
import jax

from tl_jax.chain import Chain, Layer
from tl_jax.heads import Classifier
from tl_jax.models.layers import ConvNorm, GlobalPool, conv_norm_names, head_names
from tl_jax.preprocessing import Preprocessing

# name: (blocks in stages 1 to 4, whether they are bottlenecks): He et al., table 1
VARIANTS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}


class Stem(nn.Module):
    """7x7 convolution and 3x3 max pooling, each with stride 2."""

    @nn.compact
    def __call__(self, x):
        x = ConvNorm(64, 7, 2, padding=3, name="conv")(x)
        return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


class Block(nn.Module):
    """Residual block; where the number of channels changes, the shortcut is a 1x1 convolution."""

    width: int
    stride: int
    bottleneck: bool

    @nn.compact
    def __call__(self, x):
        # (features, kernel, stride, padding)
        if self.bottleneck:
            last = (4 * self.width, 1, 1, 0)
            convs = ((self.width, 1, 1, 0), (self.width, 3, self.stride, 1), last)
        else:
            convs = ((self.width, 3, self.stride, 1), (self.width, 3, 1, 1))
        y = x
        for i, conv in enumerate(convs, 1):
            activation = jax.nn.relu if i < len(convs) else None
            y = ConvNorm(*conv, activation=activation, name=f"conv{i}")(y)
        if x.shape[-1] != y.shape[-1]:
            x = ConvNorm(y.shape[-1], 1, self.stride, 0, activation=None, name="shortcut")(x)
        return jax.nn.relu(x + y)


def build(name: str, classes: int = 1000) -> Chain:
    """The chain `stem`, `stage1_block1`, ..., `pool`, `head`."""
    repeats, bottleneck = VARIANTS[name]
    blocks = [
        Layer(f"stage{s + 1}_block{b + 1}", Block(64 * 2**s, 2 if s and not b else 1, bottleneck))
        for s, n in enumerate(repeats)
        for b in range(n)
    ]
    return Chain(
        (
            Layer("stem", Stem()),
            *blocks,
            Layer("pool", GlobalPool()),
            Layer("head", Classifier(classes)),
        )
    )


def preprocessing(name: str) -> Preprocessing:
    """That of torchvision's V1 weights: the central 224 of 256, ImageNet's mean and deviation."""
    return Preprocessing(
        size=224,
        crop=0.875,
        interpolation="bilinear",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    )


def names_in_file(name: str) -> list[tuple[str, str]]:
    """(pattern, path) for torchvision's state dicts."""
    table = conv_norm_names("conv1", "bn1", "stem/conv") + head_names("fc")
    for s, n in enumerate(VARIANTS[name][0], 1):
        for b in range(n):
            block, path = rf"layer{s}\.{b}\.", f"stage{s}_block{b + 1}"
            for i in (1, 2, 3):
                table += conv_norm_names(f"{block}conv{i}", f"{block}bn{i}", f"{path}/conv{i}")
            shortcut = rf"{block}downsample\."
            table += conv_norm_names(f"{shortcut}0", f"{shortcut}1", f"{path}/shortcut")
    return table
