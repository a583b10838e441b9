"""Inception v2, BN-Inception (Ioffe & Szegedy 2015, arXiv:1502.03167, figure 5).

It was trained in Caffe and ported to the library `pretrainedmodels`. Its convolutions have biases,
although norms follow.
"""

import functools

import flax.linen as nn

from tl_jax import ops
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.models.layers import ConvNorm, MaxPool, conv_norm, head, pool_and_head
from tl_jax.weights import published
from tl_jax.weights.convert import Rule

# name: channels of each module's 1x1, 3x3 reduce, 3x3, double 3x3 reduce, double 3x3 and pool proj.
# Modules without 1x1 and pool proj halve the map.
VARIANTS = {
    "inception_v2": {
        "3a": (64, 64, 64, 64, 96, 32),
        "3b": (64, 64, 96, 64, 96, 64),
        "3c": (0, 128, 160, 64, 96, 0),
        "4a": (224, 64, 96, 96, 128, 128),
        "4b": (192, 96, 128, 96, 128, 128),
        "4c": (160, 128, 160, 128, 160, 128),
        "4d": (96, 128, 192, 160, 192, 128),
        "4e": (0, 128, 192, 192, 256, 0),
        "5a": (352, 192, 320, 160, 224, 128),
        "5b": (352, 192, 320, 192, 224, 128),
    }
}

_conv = functools.partial(ConvNorm, bias=True)


class Mixed(nn.Module):
    """Inception module: 1x1, 3x3 and two 3x3 convolutions and pooling side by side."""

    channels: tuple[int, ...]
    max_pool: bool = False  # average pooling otherwise

    @nn.compact
    def __call__(self, x):
        one, reduce, three, reduce_double, double, projected = self.channels
        stride = 1 if one else 2
        branches = [_conv(one, name="1x1")(x)] if one else []
        y = _conv(reduce, name="3x3_reduce")(x)
        branches.append(_conv(three, 3, stride, 1, name="3x3")(y))
        y = _conv(reduce_double, name="double_3x3_reduce")(x)
        y = _conv(double, 3, 1, 1, name="double_3x3_1")(y)
        branches.append(_conv(double, 3, stride, 1, name="double_3x3_2")(y))
        if self.max_pool:
            # For even maps SAME equals Caffe's pooling: no padding, `ceil`. For odd maps, which
            # Caffe refuses, it gives the size of the convolutions' outputs.
            y = ops.max_pool(x, 3, stride, "SAME")
        else:
            y = ops.avg_pool(x, 3, 1, 1, count_padding=True)
        branches.append(_conv(projected, name="pool_proj")(y) if projected else y)
        return ops.concatenated(branches)


def forms(name: str) -> tuple[str, ...]:
    return ("pretrainedmodels",)


def build(name: str, form: str, classes: int = 1000) -> Network:
    """Return the chain `conv1`, `pool1`, `conv2_reduce`, `conv2`, `pool2`, `mixed_3a`, ...,
    `mixed_5b`, `pool`, `head`. `mixed_3c` and `mixed_4e` halve the map.
    """
    return Network(
        (
            Layer("conv1", _conv(64, 7, 2, 3)),
            Layer("pool1", MaxPool(3, 2, ceil=True)),
            Layer("conv2_reduce", _conv(64)),
            Layer("conv2", _conv(192, 3)),
            Layer("pool2", MaxPool(3, 2, ceil=True)),
            *(
                Layer(f"mixed_{n}", Mixed(channels, max_pool=n in ("3c", "4e", "5b")))
                for n, channels in VARIANTS[name].items()
            ),
            *pool_and_head(classes),
        )
    )


def preprocessing(name: str, form: str) -> Preprocessing:
    return Preprocessing(224, mean=(104.0, 117.0, 128.0), std=1.0, order="BGR")


def rules(name: str, form: str) -> list[Rule]:
    return [
        *conv_norm("conv1_7x7_s2", "conv1_7x7_s2_bn", "conv1"),
        *conv_norm("conv2_3x3_reduce", "conv2_3x3_reduce_bn", "conv2_reduce"),
        *conv_norm("conv2_3x3", "conv2_3x3_bn", "conv2"),
        Rule(r"inception_(\d\w)_(\w+)_bn", r"mixed_\1/\2/norm"),
        Rule(r"inception_(\d\w)_(\w+)", r"mixed_\1/\2"),
        *head("last_linear"),
    ]


PUBLISHED = {
    "inception_v2": {
        "pretrainedmodels:imagenet": published.Published(
            "http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth",
            "52deb4733",
            preprocessing("inception_v2", "pretrainedmodels"),
            73.524,
            91.562,
        ),
    }
}
