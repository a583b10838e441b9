"""Inception v3 (Szegedy et al. 2015, arXiv:1512.00567). The auxiliary classifier is left out.

torchvision and timm have one net, with the same names; its average pooling counts padding. Keras's
pooling does not, and Keras's norms have no scale.
"""

from collections.abc import Iterator

import flax.linen as nn

from tl_jax import ops
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.preprocessing import Preprocessing, imagenet, minus_one_to_one
from tl_jax.models.layers import ConvNorm, MaxPool, conv_norm, head, pool_and_head
from tl_jax.weights import published
from tl_jax.weights.convert import Rule

# Successive convolutions: (channels, kernel), or (channels, kernel, kernel) for two side by side
Convs = tuple[tuple, ...]
BranchTable = tuple[tuple[str, Convs], ...]  # (name of the branch, its convolutions)


def _inception_a(pool_channels: int) -> BranchTable:
    """Figure 5, but with a 5x5 convolution instead of the single 3x3 one."""
    return (
        ("branch1x1", ((64, 1),)),
        ("branch5x5", ((48, 1), (64, 5))),
        ("branch3x3dbl", ((64, 1), (96, 3), (96, 3))),
        ("branch_pool", ((pool_channels, 1),)),
    )


def _reduction_b() -> BranchTable:
    """The reduction from 35 x 35 to 17 x 17."""
    return (
        ("branch3x3", ((384, 3),)),
        ("branch3x3dbl", ((64, 1), (96, 3), (96, 3))),
    )


def _inception_c(n: int) -> BranchTable:
    """Figure 6, with `n` channels inside the 7x7 branches."""
    wide, tall = (1, 7), (7, 1)
    return (
        ("branch1x1", ((192, 1),)),
        ("branch7x7", ((n, 1), (n, wide), (192, tall))),
        ("branch7x7dbl", ((n, 1), (n, tall), (n, wide), (n, tall), (192, wide))),
        ("branch_pool", ((192, 1),)),
    )


def _reduction_d() -> BranchTable:
    """The reduction from 17 x 17 to 8 x 8."""
    return (
        ("branch3x3", ((192, 1), (320, 3))),
        ("branch7x7x3", ((192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3))),
    )


def _inception_e() -> BranchTable:
    """Figure 7."""
    fork = (384, (1, 3), (3, 1))
    return (
        ("branch1x1", ((320, 1),)),
        ("branch3x3", ((384, 1), fork)),
        ("branch3x3dbl", ((448, 1), (384, 3), fork)),
        ("branch_pool", ((192, 1),)),
    )


VARIANTS = {
    "inception_v3": {
        "mixed_5b": _inception_a(32),
        "mixed_5c": _inception_a(64),
        "mixed_5d": _inception_a(64),
        "mixed_6a": _reduction_b(),
        "mixed_6b": _inception_c(128),
        "mixed_6c": _inception_c(160),
        "mixed_6d": _inception_c(160),
        "mixed_6e": _inception_c(192),
        "mixed_7a": _reduction_d(),
        "mixed_7b": _inception_e(),
        "mixed_7c": _inception_e(),
    }
}
STEM = ("conv1a", "conv2a", "conv2b", "conv3b", "conv4a")


class Mixed(nn.Module):
    """Inception module: branches side by side; one branch begins with pooling.

    A reduction has no such branch: its branches end with stride 2, beside a max pooling.
    """

    branches: BranchTable
    form: str

    @nn.compact
    def __call__(self, x):
        reduction = "branch_pool" not in dict(self.branches)
        outputs = [self._branch(x, name, convs, reduction) for name, convs in self.branches]
        if reduction:
            outputs.append(ops.max_pool(x, 3, 2))
        return ops.concatenated(outputs)

    def _branch(self, x, name, convs, reduction):
        if name == "branch_pool":
            x = ops.avg_pool(x, 3, 1, 1, count_padding=self.form != "keras")
        names = _names(name, convs)
        for i, (channels, *kernels) in enumerate(convs, 1):
            end = (2, "VALID") if reduction and i == len(convs) else (1, "SAME")
            convolved = [_conv(self.form, channels, k, *end, next(names))(x) for k in kernels]
            x = ops.concatenated(convolved) if len(kernels) > 1 else convolved[0]
        return x


def _conv(form: str, channels: int, kernel, stride=1, padding="SAME", name=None) -> ConvNorm:
    scale = form != "keras"
    return ConvNorm(channels, kernel, stride, padding, epsilon=1e-3, scale=scale, name=name)


def _names(branch: str, convs: Convs) -> Iterator[str]:
    """Yield torchvision's names of a branch's convolutions, in the order of both libraries."""
    for i, (_, *kernels) in enumerate(convs, 1):
        number = f"_{i}" if len(convs) > 1 else ""
        yield from (branch + number + letter for letter in ("ab" if len(kernels) > 1 else [""]))


def forms(name: str) -> tuple[str, ...]:
    return ("torchvision", "keras")


def build(name: str, form: str, classes: int = 1000) -> Network:
    """Return the chain `conv1a`, `conv2a`, `conv2b`, `pool1`, `conv3b`, `conv4a`, `pool2`,
    `mixed_5b`, ..., `mixed_7c`, `pool`, `head`. `mixed_6a` and `mixed_7a` halve the map.
    """
    return Network(
        (
            Layer("conv1a", _conv(form, 32, 3, 2, "VALID")),
            Layer("conv2a", _conv(form, 32, 3, 1, "VALID")),
            Layer("conv2b", _conv(form, 64, 3)),
            Layer("pool1", MaxPool(3, 2)),
            Layer("conv3b", _conv(form, 80, 1)),
            Layer("conv4a", _conv(form, 192, 3, 1, "VALID")),
            Layer("pool2", MaxPool(3, 2)),
            *(Layer(n, Mixed(branches, form)) for n, branches in VARIANTS[name].items()),
            *pool_and_head(classes, dropout=0.0 if form == "keras" else 0.5),
        )
    )


def preprocessing(name: str, form: str) -> Preprocessing:
    # torchvision normalises by ImageNet's mean and undoes that in the net (`transform_input`).
    return minus_one_to_one(299, 299 / 342)


def rules(name: str, form: str) -> list[Rule]:
    return _keras_rules(name) if form == "keras" else _torchvision_rules()


def _torchvision_rules() -> list[Rule]:
    stem, mixed = r"Conv2d_(\d\w)_\dx\d\.", r"Mixed_(\d\w)\.(\w+)\."
    return [
        *conv_norm(stem + "conv", stem + "bn", r"conv\1"),
        *conv_norm(mixed + "conv", mixed + "bn", r"mixed_\1/\2"),
        Rule(r"AuxLogits\..+", None),
        *head("fc"),
    ]


def _keras_rules(name: str) -> list[Rule]:
    """Return rules for Keras's files, which number convolutions and norms by creation."""
    mixed = VARIANTS[name].items()
    inside = [f"{m}/{n}" for m, branches in mixed for branch in branches for n in _names(*branch)]
    rows = head("predictions")
    for i, path in enumerate([*STEM, *inside]):
        number = f"_{i}" if i else "(?:_0)?"
        rows += conv_norm(f"conv2d{number}", f"batch_normalization{number}", path)
    return rows


TIMM = minus_one_to_one(299, 299 / 341, "bicubic")  # 341 is 299 / 0.875, rounded down

PUBLISHED = {
    "inception_v3": {
        "torchvision:IMAGENET1K_V1": published.torchvision(
            "inception_v3_google", "0cc3c7bd", minus_one_to_one(299, 299 / 342), 77.294, 93.450
        ),
        "keras:imagenet": published.keras(
            "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
            "9a0d58056eeedaa3f26cb7ebd46da564",
            minus_one_to_one(299),
            77.9,
            93.7,
        ),
        "timm:tf_in1k": published.timm("inception_v3.tf_in1k", TIMM, 77.866),
        "timm:tv_in1k": published.timm("inception_v3.tv_in1k", TIMM, 77.472),
        "timm:gluon_in1k": published.timm(
            "inception_v3.gluon_in1k", imagenet(299, 341, "bicubic"), 78.806
        ),
    }
}
