"""DenseNet (Huang et al. 2017, arXiv:1608.06993), the variants "BC" for ImageNet.

Each dense layer is a layer of the chain: it appends its new channels to its input.
"""

import flax.linen as nn

from tl_jax import ops
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.preprocessing import Preprocessing, imagenet
from tl_jax.models.layers import Conv, ConvNorm, NormRelu, Stem, conv_norm, head, pool_and_head
from tl_jax.weights import published
from tl_jax.weights.convert import Rule

# name: (dense layers in blocks 1 to 4, growth rate): Huang et al., table 1; 161 is torchvision's
VARIANTS = {
    "densenet121": ((6, 12, 24, 16), 32),
    "densenet161": ((6, 12, 36, 24), 48),
    "densenet169": ((6, 12, 32, 32), 32),
    "densenet201": ((6, 12, 48, 32), 32),
}

# name: (digits in the file's name, top-1, top-5), from torchvision 0.29.2
TORCHVISION = {
    "densenet121": ("a639ec97", 74.434, 91.972),
    "densenet161": ("8d451a50", 77.138, 93.560),
    "densenet169": ("b2777c0a", 75.600, 92.806),
    "densenet201": ("c1103571", 76.896, 93.370),
}
# name: (top-1, top-5) of the tag tv_in1k: timm's results/results-imagenet.csv
TIMM = {
    "densenet121": (74.764, 92.154),
    "densenet161": (77.358, 93.642),
    "densenet169": (75.900, 93.028),
    "densenet201": (77.286, 93.480),
}
# name: (MD5, top-1), from Keras 3.15.1 and its table of applications
KERAS = {
    "densenet121": ("9d60b8095a5708f2dcce2bca79d332c7", 75.0),
    "densenet169": ("d699b8f76981ab1b30698df4c175e90b", 76.2),
    "densenet201": ("1ceb130c1ea1b78c3bf6114dbdfd8807", 77.3),
}


def _published(name: str) -> dict[str, published.Published]:
    digits, *accuracy = TORCHVISION[name]
    usual, bicubic = imagenet(224, 256), imagenet(224, 256, "bicubic")
    weights = {
        "torchvision:IMAGENET1K_V1": published.torchvision(name, digits, usual, *accuracy),
        "timm:tv_in1k": published.timm(f"{name}.tv_in1k", bicubic, *TIMM[name]),
    }
    if name in KERAS:
        file = f"densenet/{name}_weights_tf_dim_ordering_tf_kernels.h5"
        md5, top1 = KERAS[name]
        weights["keras:imagenet"] = published.keras(file, md5, usual, top1)
    return weights


PUBLISHED = {name: _published(name) for name in VARIANTS}


class DenseLayer(nn.Module):
    """Append `growth` channels, computed from the input: (N, H, W, C) to (N, H, W, C + growth)."""

    growth: int
    epsilon: float

    @nn.compact
    def __call__(self, x):
        y = NormRelu(self.epsilon, name="preact")(x)
        y = ConvNorm(4 * self.growth, epsilon=self.epsilon, name="conv1")(y)
        y = Conv(self.growth, 3, bias=False, name="conv2")(y)
        return ops.concatenated([x, y])


class Transition(nn.Module):
    """Halve channels and sides between two blocks, rounded down."""

    epsilon: float

    @nn.compact
    def __call__(self, x):
        y = NormRelu(self.epsilon, name="preact")(x)
        y = Conv(x.shape[-1] // 2, bias=False, name="conv")(y)
        return ops.avg_pool(y, 2, 2)


def forms(name: str) -> tuple[str, ...]:
    """Return the forms; timm uses torchvision's structure and names."""
    return ("torchvision", "keras") if name in KERAS else ("torchvision",)


def build(name: str, form: str, classes: int = 1000) -> Network:
    """Return the chain `stem`, `block1_layer1`, ..., `transition1`, ..., `block4_layer16`, `top`,
    `pool`, `head`.
    """
    repeats, growth = VARIANTS[name]
    epsilon = 1.001e-5 if form == "keras" else 1e-5
    layers = [Layer("stem", Stem(2 * growth, epsilon))]
    for block, count in enumerate(repeats, 1):
        if block > 1:
            layers.append(Layer(f"transition{block - 1}", Transition(epsilon)))
        dense = DenseLayer(growth, epsilon)
        layers += [Layer(f"block{block}_layer{i}", dense) for i in range(1, count + 1)]
    return Network((*layers, Layer("top", NormRelu(epsilon)), *pool_and_head(classes)))


def preprocessing(name: str, form: str) -> Preprocessing:
    return imagenet(224, 256)


def rules(name: str, form: str) -> list[Rule]:
    return _keras_rules() if form == "keras" else _torchvision_rules()


def _torchvision_rules() -> list[Rule]:
    # Published files have `norm.1`; files that torchvision saves today have `norm1`.
    dense, prefix = r"features\.denseblock(\d)\.denselayer(\d+)\.", r"block\1_layer\2/"
    transition = r"features\.transition(\d)\."
    return [
        *conv_norm(r"features\.conv0", r"features\.norm0", "stem/conv"),
        Rule(dense + r"norm\.?1", prefix + "preact/norm"),
        *conv_norm(dense + r"conv\.?1", dense + r"norm\.?2", prefix + "conv1"),
        Rule(dense + r"conv\.?2", prefix + "conv2"),
        Rule(transition + "norm", r"transition\1/preact/norm"),
        Rule(transition + "conv", r"transition\1/conv"),
        Rule(r"features\.norm5", "top/norm"),
        *head("classifier"),
    ]


def _keras_rules() -> list[Rule]:
    # Keras counts the stem as the first block. In the published files the stem's layers are
    # `conv1/conv` and `conv1/bn`, and the classifier is `fc1000`.
    def part(suffix):
        return lambda block, layer: f"block{block - 1}_layer{layer}/{suffix}"

    def transition(suffix):
        return lambda block: f"transition{block - 1}/{suffix}"

    dense = r"conv(\d)_block(\d+)_"
    return [
        *conv_norm("conv1[/_]conv", "conv1[/_]bn", "stem/conv"),
        Rule(dense + "0_bn", part("preact/norm")),
        *conv_norm(dense + "1_conv", dense + "1_bn", part("conv1")),
        Rule(dense + "2_conv", part("conv2")),
        Rule(r"pool(\d)_bn", transition("preact/norm")),
        Rule(r"pool(\d)_conv", transition("conv")),
        Rule("bn", "top/norm"),
        *head("predictions|fc1000"),
    ]
