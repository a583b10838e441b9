"""MobileNet v3 (Howard et al. 2019, arXiv:1905.02244)."""

import functools

import jax

from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.preprocessing import Preprocessing, imagenet, minus_one_to_one
from tl_jax.models.layers import (
    ConvNorm,
    FullyConnected,
    GlobalPool,
    InvertedResidual,
    conv_norm,
    head,
    timm_inverted_residuals,
)
from tl_jax.weights import published
from tl_jax.weights.convert import Rule, dense_after, dense_of_conv, keras_depthwise

# name: ((channels, kernel, stride, squeeze-and-excitation, hard swish, expanded channels of each
# block) of the stages, features of the layer `fc`): Howard et al., tables 1 and 2
VARIANTS = {
    "mobilenet_v3_large": (
        (
            (16, 3, 1, False, False, (16,)),
            (24, 3, 2, False, False, (64, 72)),
            (40, 5, 2, True, False, (72, 120, 120)),
            (80, 3, 2, False, True, (240, 200, 184, 184)),
            (112, 3, 1, True, True, (480, 672)),
            (160, 5, 2, True, True, (672, 960, 960)),
        ),
        1280,
    ),
    "mobilenet_v3_small": (
        (
            (16, 3, 2, True, False, (16,)),
            (24, 3, 2, False, False, (72, 88)),
            (40, 5, 2, True, True, (96, 240, 240)),
            (48, 5, 1, True, True, (120, 144)),
            (96, 5, 2, True, True, (288, 576, 576)),
        ),
        1024,
    ),
}
TIMM_NAMES = {
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
}

# name: (form and tag of weights in timm, top-1, top-5): timm's results/results-imagenet.csv
TIMM = {
    "mobilenet_v3_large": (
        ("timm", "ra_in1k", 75.766, 92.538),
        ("timm_tf", "in1k", 75.516, 92.594),
    ),
    "mobilenet_v3_small": (
        ("timm", "lamb_in1k", 67.656, 87.636),
        ("timm_tf", "in1k", 67.918, 87.674),
    ),
}
# name: (MD5, top-1): Keras 3.15.1
KERAS = {
    "mobilenet_v3_large": ("59e551e166be033d707958cf9e29a6a7", 75.6),
    "mobilenet_v3_small": ("8768d4c2e7dee89b9d02b2d03d65d862", 68.1),
}
# name: (digits in the file's name, side before the crop, top-1, top-5): torchvision 0.29.2
TORCHVISION = {
    "mobilenet_v3_large": (("8738ca79", 256, 74.042, 91.340), ("5c1a4163", 232, 75.274, 92.566)),
    "mobilenet_v3_small": (("047dcff4", 256, 67.668, 87.402),),
}


def _published(name: str) -> dict[str, published.Published]:
    weights = {}
    for version, (digits, resize, *accuracy) in enumerate(TORCHVISION[name], 1):
        weights[f"torchvision:IMAGENET1K_V{version}"] = published.torchvision(
            name, digits, imagenet(224, resize), *accuracy
        )
    for form, tag, *accuracy in TIMM[name]:
        model = "tf_" * (form == "timm_tf") + TIMM_NAMES[name]
        key = f"timm:{tag}" if form == "timm" else f"timm:{model}.{tag}"
        expected = preprocessing(name, form)
        weights[key] = published.timm(f"{model}.{tag}", expected, *accuracy)
    md5, top1 = KERAS[name]
    file, expected = f"mobilenet_v3/weights_{name}_224_1.0_float.h5", preprocessing(name, "keras")
    return weights | {"keras:imagenet": published.keras(file, md5, expected, top1)}


def forms(name: str) -> tuple[str, ...]:
    """Return the forms; `timm_tf` (timm's `tf_...`) is Keras's network with timm's names."""
    return ("torchvision", "timm", "timm_tf", "keras")


def build(name: str, form: str, classes: int = 1000) -> Network:
    """Return the chain `stem`, `stage1_block1`, ..., `top`, `pool`, `fc`, `head`."""
    stages, features = VARIANTS[name]
    same = form in ("timm_tf", "keras")
    epsilon = 1e-5 if form == "timm" else 1e-3
    conv = functools.partial(ConvNorm, epsilon=epsilon, activation=jax.nn.hard_swish)
    blocks = []
    for stage, (channels, kernel, stride, squeeze, swish, widths) in enumerate(stages, 1):
        activation = jax.nn.hard_swish if swish else jax.nn.relu
        for i, width in enumerate(widths):
            block = InvertedResidual(
                width, channels, kernel, 1 if i else stride, same, epsilon, activation, squeeze
            )
            blocks.append(Layer(f"stage{stage}_block{i + 1}", block))
    return Network(
        (
            Layer("stem", conv(16, 3, 2, "SAME" if same else 1)),
            *blocks,
            Layer("top", conv(6 * channels)),
            Layer("pool", GlobalPool()),
            Layer("fc", FullyConnected(features, activation=jax.nn.hard_swish)),
            Layer("head", Classifier(classes, dropout=0.2)),
        )
    )


def preprocessing(name: str, form: str) -> Preprocessing:
    """Return the preprocessing, which in Keras is the network's first layer."""
    if form in ("timm_tf", "keras"):
        return minus_one_to_one(224)
    return imagenet(224, 256, "bicubic" if form == "timm" else "bilinear")


def rules(name: str, form: str) -> list[Rule]:
    stages, _ = VARIANTS[name]
    if form == "torchvision":
        return _torchvision_rules(stages)
    if form == "keras":
        return _keras_rules(stages)
    last = rf"blocks\.{len(stages)}\.0\."
    return [
        *conv_norm(last + "conv", last + "bn1", "top"),
        *timm_inverted_residuals(),
        Rule("conv_head", "fc/Dense_0", dense_after(1)),
    ]


def _blocks(stages) -> list[tuple[str, bool, bool]]:
    """Return (name, whether it expands, whether it has squeeze-and-excitation) of each block."""
    return [
        (f"stage{s}_block{i + 1}", s > 1, squeeze)
        for s, (_, _, _, squeeze, _, widths) in enumerate(stages, 1)
        for i in range(len(widths))
    ]


def _torchvision_rules(stages) -> list[Rule]:
    rules = conv_norm(r"features\.0\.0", r"features\.0\.1", "stem")
    for i, (name, expands, squeeze) in enumerate(_blocks(stages), 1):
        parts = ["expand"] * expands + ["depthwise"] + ["squeeze"] * squeeze + ["project"]
        for n, part in enumerate(parts):
            prefix = rf"features\.{i}\.block\.{n}\."
            if part == "squeeze":
                rules.append(Rule(prefix + "fc1", f"{name}/squeeze/reduce"))
                rules.append(Rule(prefix + "fc2", f"{name}/squeeze/expand"))
            else:
                rules += conv_norm(prefix + "0", prefix + "1", f"{name}/{part}")
    last = rf"features\.{i + 1}\."
    return [
        *rules,
        *conv_norm(last + "0", last + "1", "top"),
        Rule(r"classifier\.0", "fc/Dense_0"),
        *head(r"classifier\.3"),
    ]


def _keras_rules(stages) -> list[Rule]:
    """Return rules for Keras's names of today (`conv_bn`) and its old ones (`Conv/BatchNorm`)."""
    norm = "(?:_bn|/BatchNorm)"
    rules = conv_norm("(?i:conv)", f"(?i:conv){norm}", "stem")
    for i, (name, _, _) in enumerate(_blocks(stages)):
        prefix = f"expanded_conv_{i}[_/]" if i else "expanded_conv[_/]"
        for part in ("expand", "depthwise", "project"):
            kernel = keras_depthwise if part == "depthwise" else None
            rules.append(Rule(prefix + part, f"{name}/{part}", kernel))
            rules.append(Rule(prefix + part + norm, f"{name}/{part}/norm"))
        squeeze = prefix + "squeeze_excite[_/](?i:conv)"
        rules.append(Rule(squeeze, f"{name}/squeeze/reduce"))
        rules.append(Rule(squeeze + "_1", f"{name}/squeeze/expand"))
    return [
        *rules,
        *conv_norm("(?i:conv)_1", f"(?i:conv)_1{norm}", "top"),
        Rule("(?i:conv)_2", "fc/Dense_0", dense_of_conv),
        Rule("(?i:logits)", "head/Dense_0", dense_of_conv),
    ]


PUBLISHED = {name: _published(name) for name in VARIANTS}
