"""MobileNet v2 (Sandler et al. 2018, arXiv:1801.04381) in six widths.

Only widths above 1 widen the last convolution.
"""

import functools

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
from tl_jax.weights.convert import Rule, keras_depthwise

# name: width multiplier
VARIANTS = {
    "mobilenet_v2": 1.0,
    "mobilenet_v2_140": 1.4,
    "mobilenet_v2_130": 1.3,
    "mobilenet_v2_075": 0.75,
    "mobilenet_v2_050": 0.5,
    "mobilenet_v2_035": 0.35,
}
TIMM_NAMES = {
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v2_140": "mobilenetv2_140",
    "mobilenet_v2_050": "mobilenetv2_050",
}

# (expansion, channels, blocks, stride) of stages 1 to 7: Sandler et al., table 2
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

# name: (tag, top-1, top-5): timm's results/results-imagenet.csv
TIMM = {
    "mobilenet_v2": ("ra_in1k", 72.976, 91.010),
    "mobilenet_v2_140": ("ra_in1k", 76.520, 92.986),
    "mobilenet_v2_050": ("lamb_in1k", 65.950, 86.088),
}
# name: (top-1, top-5), from Keras's table of applications; of widths other than 1, from TensorFlow
# 2.4's documentation of `tf.keras.applications.mobilenet_v2`
KERAS = {
    "mobilenet_v2": (71.3, 90.1),
    "mobilenet_v2_140": (75.0, 92.5),
    "mobilenet_v2_130": (74.4, 92.1),
    "mobilenet_v2_075": (69.8, 89.6),
    "mobilenet_v2_050": (65.4, 86.4),
    "mobilenet_v2_035": (60.3, 82.9),
}


def _published(name: str) -> dict[str, published.Published]:
    weights = {}
    if name == "mobilenet_v2":  # torchvision 0.29.2
        weights["torchvision:IMAGENET1K_V1"] = published.torchvision(
            name, "b0353104", imagenet(224, 256), 71.878, 90.286
        )
        weights["torchvision:IMAGENET1K_V2"] = published.torchvision(
            name, "7ebf99e0", imagenet(224, 232), 72.154, 90.822
        )
    if name in TIMM:
        tag, *accuracy = TIMM[name]
        model = f"{TIMM_NAMES[name]}.{tag}"
        weights[f"timm:{tag}"] = published.timm(model, preprocessing(name, "timm"), *accuracy)
    file = f"mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{VARIANTS[name]}_224.h5"
    usual = preprocessing(name, "keras")
    return weights | {"keras:imagenet": published.keras(file, "", usual, *KERAS[name])}


def forms(name: str) -> tuple[str, ...]:
    """Return the forms; `torchvision` and `timm` are one network with different names."""
    return ("torchvision", "timm", "keras")


def build(name: str, form: str, classes: int = 1000) -> Network:
    """Return the chain `stem`, `stage1_block1`, ..., `stage7_block1`, `top`, `pool`, `head`."""
    width = VARIANTS[name]
    keras = form == "keras"
    epsilon = 1e-3 if keras else 1e-5
    conv = functools.partial(ConvNorm, epsilon=epsilon, activation=jax.nn.relu6)
    stem = round_channels(32 * width)
    stages = ((t, round_channels(c * width), n, s, 3) for t, c, n, s in STAGES)
    return Network(
        (
            Layer("stem", conv(stem, 3, 2, "SAME" if keras else 1)),
            *inverted_residuals(stages, stem, same=keras, epsilon=epsilon),
            Layer("top", conv(round_channels(1280 * max(1.0, width)))),
            *pool_and_head(classes, dropout=0.2 if form == "torchvision" else 0.0),
        )
    )


def preprocessing(name: str, form: str) -> Preprocessing:
    if form == "keras":
        return minus_one_to_one(224)
    return imagenet(224, 256, "bicubic" if form == "timm" else "bilinear")


def rules(name: str, form: str) -> list[Rule]:
    if form == "timm":
        return [*conv_norm("conv_head", "bn2", "top"), *timm_inverted_residuals()]
    return _keras_rules() if form == "keras" else _torchvision_rules()


def _block_names() -> list[str]:
    return [f"stage{s}_block{i + 1}" for s, (_, _, n, _) in enumerate(STAGES, 1) for i in range(n)]


def _torchvision_rules() -> list[Rule]:
    rules = conv_norm(r"features\.0\.0", r"features\.0\.1", "stem")
    for i, name in enumerate(_block_names(), 1):
        parts = ("expand", "depthwise") if i > 1 else ("depthwise",)
        prefix = rf"features\.{i}\.conv\."
        for n, part in enumerate(parts):
            rules += conv_norm(rf"{prefix}{n}\.0", rf"{prefix}{n}\.1", f"{name}/{part}")
        n = len(parts)
        rules += conv_norm(f"{prefix}{n}", f"{prefix}{n + 1}", f"{name}/project")
    last = rf"features\.{i + 1}\."
    return [*rules, *conv_norm(last + "0", last + "1", "top"), *head(r"classifier\.1")]


def _keras_rules() -> list[Rule]:
    """Return rules for the names that Keras gives today, and for those in its published files.

    It wrote those files before it renamed its layers, and reads them by order.
    """
    rules = conv_norm("Conv1", "bn_Conv1", "stem")
    for i, name in enumerate(_block_names()):
        current = f"block_{i}" if i else "expanded_conv"
        for part in ("expand", "depthwise", "project"):
            kernel = keras_depthwise if part == "depthwise" else None
            conv, norm = f"mobl{i}_conv_{i}_{part}", f"bn{i}_conv_{i}_bn_{part}"
            rules.append(Rule(f"{current}_{part}|{conv}", f"{name}/{part}", kernel))
            rules.append(Rule(f"{current}_{part}_BN|{norm}", f"{name}/{part}/norm"))
    return [*rules, *conv_norm("Conv_1", "Conv_1_bn", "top"), *head("predictions|Logits")]


PUBLISHED = {name: _published(name) for name in VARIANTS}
