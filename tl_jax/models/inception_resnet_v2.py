"""Inception-ResNet-v2 (Szegedy et al. 2016, arXiv:1602.07261, section 3.2), with the stem and the
widths of the weights that its authors published, which are simpler than the paper's.

timm and Keras both have that net; Keras's norms have no scales.
"""

import functools
from collections.abc import Iterator

import flax.linen as nn
import jax

from tl_jax.chain import depth
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.preprocessing import Preprocessing, minus_one_to_one
from tl_jax.models.inception_v4 import (
    EPSILON,
    AvgPool,
    Branch,
    Branches,
    branch_path,
    side_by_side,
)
from tl_jax.models.layers import Conv, ConvNorm, MaxPool, conv_norm, head, pool_and_head
from tl_jax.weights import published
from tl_jax.weights.convert import Rule

VARIANTS = {"inception_resnet_v2": ()}
TIMM = minus_one_to_one(299, 0.8975, "bicubic")
KERAS = minus_one_to_one(299)


class Residual(nn.Module):
    """Add `scale` times a linear 1x1 convolution of the branches to x; apply a ReLU if `relu`."""

    branch: tuple[Branch, ...]
    scale: float
    relu: bool = True
    drop_branch: float = 0.0  # see `chain.depth`

    @nn.compact
    def __call__(self, x):
        y = side_by_side(self.branch, x)
        y = Conv(x.shape[-1], name="project")(y, None, depth.kept(self, x))
        x = x + self.scale * y
        return jax.nn.relu(x) if self.relu else x


def _stem(conv) -> list[Layer]:
    return [
        Layer("conv1a", conv(32, 3, 2, "VALID")),
        Layer("conv2a", conv(32, 3, 1, "VALID")),
        Layer("conv2b", conv(64, 3)),
        Layer("pool1", MaxPool(3, 2)),
        Layer("conv3b", conv(80)),
        Layer("conv4a", conv(192, 3, 1, "VALID")),
        Layer("pool2", MaxPool(3, 2)),
    ]


def _mixed_5b(conv) -> Branches:
    return Branches(
        (
            (conv(96),),
            (conv(48), conv(64, 5)),
            (conv(64), conv(96, 3), conv(96, 3)),
            (AvgPool(), conv(64)),
        )
    )


def _block35(conv, scale: float) -> Residual:
    """Figure 16."""
    branches = (conv(32),), (conv(32), conv(32, 3)), (conv(32), conv(48, 3), conv(64, 3))
    return Residual(branches, scale)


def _mixed_6a(conv) -> Branches:
    """Figure 7, with the widths of table 1."""
    return Branches(
        (
            (conv(384, 3, 2, "VALID"),),
            (conv(256), conv(256, 3), conv(384, 3, 2, "VALID")),
            (MaxPool(3, 2),),
        )
    )


def _block17(conv, scale: float) -> Residual:
    """Figure 17."""
    return Residual(((conv(192),), (conv(128), conv(160, (1, 7)), conv(192, (7, 1)))), scale)


def _mixed_7a(conv) -> Branches:
    """Figure 18."""
    return Branches(
        (
            (conv(256), conv(384, 3, 2, "VALID")),
            (conv(256), conv(288, 3, 2, "VALID")),
            (conv(256), conv(288, 3), conv(320, 3, 2, "VALID")),
            (MaxPool(3, 2),),
        )
    )


def _block8(conv, scale: float, relu: bool) -> Residual:
    """Figure 19."""
    branches = (conv(192),), (conv(192), conv(224, (1, 3)), conv(256, (3, 1)))
    return Residual(branches, scale, relu)


def _features(form: str) -> list[Layer]:
    conv = functools.partial(ConvNorm, epsilon=EPSILON, scale=form != "keras")
    last = 10  # of block8: neither scaled nor followed by a ReLU
    return [
        *_stem(conv),
        Layer("mixed_5b", _mixed_5b(conv)),
        *(Layer(f"block35_{i}", _block35(conv, 0.17)) for i in range(1, 11)),
        Layer("mixed_6a", _mixed_6a(conv)),
        *(Layer(f"block17_{i}", _block17(conv, 0.1)) for i in range(1, 21)),
        Layer("mixed_7a", _mixed_7a(conv)),
        *(Layer(f"block8_{i}", _block8(conv, 0.2, relu=True)) for i in range(1, last)),
        Layer(f"block8_{last}", _block8(conv, 1.0, relu=False)),
        Layer("conv7b", conv(1536)),
    ]


def forms(name: str) -> tuple[str, ...]:
    return ("timm", "keras")


def build(name: str, form: str, classes: int = 1000) -> Network:
    """Return the chain `conv1a`, ..., `conv4a`, `pool2`, `mixed_5b`, `block35_1`, ..., `mixed_6a`,
    `block17_1`, ..., `mixed_7a`, `block8_1`, ..., `conv7b`, `pool`, `head`.
    """
    return Network((*_features(form), *pool_and_head(classes)))


def preprocessing(name: str, form: str) -> Preprocessing:
    return KERAS if form == "keras" else TIMM


def rules(name: str, form: str) -> list[Rule]:
    return _keras_rules() if form == "keras" else _timm_rules()


def _timm_rules() -> list[Rule]:
    """Return rules for files of timm and of `pretrainedmodels` (classifier `last_linear`)."""
    block = r"(mixed_\d[ab]|repeat(?:_[12])?\.\d\d?|block8)"
    branch = block + r"\.branch(\d)(?:\.(\d))?\."

    def in_branch(block, *step):
        return branch_path(_block(block), *step)

    return [
        *conv_norm(r"conv2d_(\d[ab])\.conv", r"conv2d_(\d[ab])\.bn", lambda name: f"conv{name}"),
        *conv_norm(branch + "conv", branch + "bn", in_branch),
        Rule(block + r"\.conv2d", lambda block: f"{_block(block)}/project"),
        *head("classif|last_linear"),
    ]


def _block(name: str) -> str:
    """Return our name for the block that timm's files call `name`."""
    kinds = {"repeat": "block35", "repeat_1": "block17", "repeat_2": "block8"}
    if name == "block8":
        return "block8_10"
    kind, _, number = name.partition(".")
    return f"{kinds[kind]}_{int(number) + 1}" if number else kind


def _keras_rules() -> list[Rule]:
    """Return rules for Keras's files, which number most convolutions and norms by creation."""
    numbered = [
        rule
        for n, path in enumerate(_numbered_paths())
        for rule in conv_norm(f"conv2d_{n}", f"batch_normalization_{n}", path)
    ]
    return [
        *numbered,
        Rule(r"(block\d+_\d+)_conv", r"\1/project"),
        *conv_norm("conv_7b", "conv_7b_bn", "conv7b"),
        *head("predictions"),
    ]


def _numbered_paths() -> Iterator[str]:
    """Yield our paths of the convolutions that Keras only numbers, in its order."""
    for name, module, _ in _features("keras")[:-1]:
        if isinstance(module, ConvNorm):
            yield name
        for b, steps in enumerate(getattr(module, "branch", ())):
            for s, step in enumerate(steps):
                if isinstance(step, ConvNorm):
                    yield branch_path(name, b, s)


PUBLISHED = {
    "inception_resnet_v2": {
        "timm:tf_in1k": published.timm("inception_resnet_v2.tf_in1k", TIMM, 80.434, 95.312),
        "timm:tf_ens_adv_in1k": published.timm(
            "inception_resnet_v2.tf_ens_adv_in1k", TIMM, 79.978, 94.946
        ),
        "keras:imagenet": published.keras(
            "inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5",
            "e693bd0210a403b3192acc6073ad2e96",
            KERAS,
            80.3,
            95.3,
        ),
    }
}
