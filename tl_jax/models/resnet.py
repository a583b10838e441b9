"""ResNet: v1 (He et al. 2015, arXiv:1512.03385) and wide (Zagoruyko & Komodakis 2016,
arXiv:1605.07146) as in torchvision and Keras, v2 (He et al. 2016, arXiv:1603.05027) as in Keras.

torchvision's bottlenecks have their stride in the 3x3 convolution instead of the first 1x1; Keras's
v1 has it where the paper does, but also biases in all convolutions and another epsilon.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp

from tl_jax import ops
from tl_jax.chain import depth
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.preprocessing import Preprocessing, caffe, imagenet, minus_one_to_one
from tl_jax.models.layers import Conv, ConvNorm, NormRelu, Stem, conv_norm, head, pool_and_head
from tl_jax.weights import published
from tl_jax.weights.convert import Rule

# name: (blocks in stages 1 to 4, kind of block, width of the 3x3 convolutions in stage 1):
# He et al., table 1; Zagoruyko & Komodakis, table 8
VARIANTS = {
    "resnet18": ((2, 2, 2, 2), "basic", 64),
    "resnet34": ((3, 4, 6, 3), "basic", 64),
    "resnet50": ((3, 4, 6, 3), "bottleneck", 64),
    "resnet101": ((3, 4, 23, 3), "bottleneck", 64),
    "resnet152": ((3, 8, 36, 3), "bottleneck", 64),
    "wide_resnet50_2": ((3, 4, 6, 3), "bottleneck", 128),
    "wide_resnet101_2": ((3, 4, 23, 3), "bottleneck", 128),
    "resnet50_v2": ((3, 4, 6, 3), "preactivated", 64),
    "resnet101_v2": ((3, 4, 23, 3), "preactivated", 64),
    "resnet152_v2": ((3, 8, 36, 3), "preactivated", 64),
}
KERAS_EPSILON = 1.001e-5

# name: (digits in the file's name, top-1, top-5) of V1 and V2, from torchvision 0.29.2
TORCHVISION = {
    "resnet18": [("f37072fd", 69.758, 89.078)],
    "resnet34": [("b627a593", 73.314, 91.420)],
    "resnet50": [("0676ba61", 76.130, 92.862), ("11ad3fa6", 80.858, 95.434)],
    "resnet101": [("63fe2227", 77.374, 93.546), ("cd907fc2", 81.886, 95.780)],
    "resnet152": [("394f9c45", 78.312, 94.046), ("f82ba261", 82.284, 96.002)],
    "wide_resnet50_2": [("95faca4d", 78.468, 94.086), ("9ba9bcbe", 81.602, 95.758)],
    "wide_resnet101_2": [("32ee1156", 78.848, 94.284), ("d733dc28", 82.510, 96.020)],
}
# name: (MD5, top-1), from Keras 3.15.1 and its table of applications
KERAS = {
    "resnet50": ("2cb95161c43110f7111970584f804107", 74.9),
    "resnet101": ("f1aeb4b969a6efcfb50fad2f0c20cfc5", 76.4),
    "resnet152": ("100835be76be38e30d865e96f2aaae62", 76.6),
    "resnet50_v2": ("3ef43a0b657b3be2300d5770ece849e0", None),
    "resnet101_v2": ("6343647c601c52e1368623803854d971", None),
    "resnet152_v2": ("a49b44d1979771252814e80f8ec446f9", None),
}


class Block(nn.Module):
    """Residual block, `basic` or bottleneck; where the number of channels changes, the shortcut is
    a 1x1 convolution.
    """

    width: int
    features: int
    stride: int
    form: str
    basic: bool
    drop_branch: float = 0.0  # see `chain.depth`

    @nn.compact
    def __call__(self, x):
        keras = self.form == "keras"
        epsilon = KERAS_EPSILON if keras else 1e-5
        conv = functools.partial(ConvNorm, epsilon=epsilon, bias=keras)
        if self.basic:  # (features, kernel, stride)
            convs = ((self.width, 3, self.stride), (self.width, 3, 1))
        else:
            first, second = (self.stride, 1) if keras else (1, self.stride)
            convs = ((self.width, 1, first), (self.width, 3, second), (self.features, 1, 1))
        y = x
        for i, (features, kernel, stride) in enumerate(convs[:-1], 1):
            y = conv(features, kernel, stride, kernel // 2, name=f"conv{i}")(y)
        if x.shape[-1] != self.features or self.stride != 1:
            x = conv(self.features, 1, self.stride, 0, activation=None, name="shortcut")(x)
        features, kernel, stride = convs[-1]
        last = conv(features, kernel, stride, kernel // 2, name=f"conv{len(convs)}")
        return last(y, x, depth.kept(self, x))


class StemV2(nn.Module):
    """The stem of v1 without norm and ReLU, so that the zeros of the pooling's padding count."""

    @nn.compact
    def __call__(self, x):
        x = Conv(64, 7, 2, 3, name="conv")(x)
        return ops.max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2)


class BlockV2(nn.Module):
    """Bottleneck with norm and ReLU before the convolutions ("pre-activation")."""

    width: int
    stride: int
    project: bool
    drop_branch: float = 0.0  # see `chain.depth`

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(ConvNorm, epsilon=KERAS_EPSILON)
        y = NormRelu(KERAS_EPSILON, name="preact")(x)
        if self.project:
            x = Conv(4 * self.width, 1, self.stride, 0, name="shortcut")(y)
        else:
            x = x[:, :: self.stride, :: self.stride]
        y = conv(self.width, 1, 1, 0, name="conv1")(y)
        y = conv(self.width, 3, self.stride, 1, name="conv2")(y)
        return Conv(4 * self.width, 1, 1, 0, name="conv3")(y, x, depth.kept(self, x))


def forms(name: str) -> tuple[str, ...]:
    exists = {"torchvision": name in TORCHVISION, "keras": name in KERAS}
    return tuple(form for form in exists if exists[form])


def build(name: str, form: str, classes: int = 1000) -> Network:
    """Return the chain `stem`, `stage1_block1`, ..., (v2: `top`,) `pool`, `head`."""
    v2 = VARIANTS[name][1] == "preactivated"
    keras = form == "keras"
    stem = StemV2() if v2 else Stem(64, KERAS_EPSILON if keras else 1e-5, bias=keras)
    top = (Layer("top", NormRelu(KERAS_EPSILON)),) if v2 else ()
    return Network(
        (
            Layer("stem", stem),
            *_blocks(name, form),
            *top,
            *pool_and_head(classes),
        )
    )


def _blocks(name: str, form: str) -> list[Layer]:
    repeats, kind, width = VARIANTS[name]
    blocks = []
    for stage, blocks_in_stage in enumerate(repeats):
        for b in range(blocks_in_stage):
            scale = 2**stage
            if kind == "preactivated":  # Keras strides in a stage's last block, but not in stage 4
                stride = 2 if b == blocks_in_stage - 1 and stage < 3 else 1
                block = BlockV2(width * scale, stride, project=b == 0)
            else:
                features = scale * (64 if kind == "basic" else 256)
                stride = 2 if stage and not b else 1
                block = Block(width * scale, features, stride, form, basic=kind == "basic")
            blocks.append(Layer(f"stage{stage + 1}_block{b + 1}", block))
    return blocks


def preprocessing(name: str, form: str) -> Preprocessing:
    if form == "keras":
        return minus_one_to_one(224) if name.endswith("_v2") else caffe(224)
    return imagenet(224, 256)


def rules(name: str, form: str) -> list[Rule]:
    return _keras_rules() if form == "keras" else _torchvision_rules()


def _torchvision_rules() -> list[Rule]:
    def part(stage, block, i):
        return f"stage{stage}_block{block + 1}/conv{i}"

    def shortcut(stage, block):
        return f"stage{stage}_block{block + 1}/shortcut"

    block = r"layer(\d)\.(\d+)\."
    return [
        *conv_norm("conv1", "bn1", "stem/conv"),
        *conv_norm(block + r"conv(\d)", block + r"bn(\d)", part),
        *conv_norm(block + r"downsample\.0", block + r"downsample\.1", shortcut),
        *head("fc"),
    ]


def _keras_rules() -> list[Rule]:
    def path(stage, block, i):
        return f"stage{stage - 1}_block{block}/" + (f"conv{i}" if i else "shortcut")

    block = r"conv(\d)_block(\d+)_"
    return [
        *conv_norm("conv1_conv", "conv1_bn", "stem/conv"),
        *conv_norm(block + r"(\d)_conv", block + r"(\d)_bn", path),
        Rule(block + "preact_bn", lambda s, b: f"stage{s - 1}_block{b}/preact/norm"),
        Rule("post_bn", "top/norm"),
        *head("predictions|probs|fc1000"),
    ]


def _published(name: str) -> dict[str, published.Published]:
    weights = {}
    for version, (digits, *accuracy) in enumerate(TORCHVISION.get(name, ()), 1):
        expected = imagenet(224, 232 if version == 2 else 256)
        key = f"torchvision:IMAGENET1K_V{version}"
        weights[key] = published.torchvision(name, digits, expected, *accuracy)
    if name in KERAS:
        file = f"resnet/{name.replace('_', '')}_weights_tf_dim_ordering_tf_kernels.h5"
        md5, top1 = KERAS[name]
        expected = preprocessing(name, "keras")
        weights["keras:imagenet"] = published.keras(file, md5, expected, top1)
    return weights


PUBLISHED = {name: _published(name) for name in VARIANTS}
