"""VGG (Simonyan & Zisserman 2014, arXiv:1409.1556), plain and with batch norm (`_bn`).

In every form the maps below fc6 are averaged to 7 x 7, as in torchvision, so that Keras's weights
accept any input size too; at 224 x 224 averaging changes nothing. (From 256 x 256 on, timm slides
fc6 over the maps instead.)
"""

import jax

from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.preprocessing import Preprocessing, caffe, imagenet
from tl_jax.models.layers import Conv, ConvNorm, FullyConnected, MaxPool, conv_norm, head
from tl_jax.weights import published
from tl_jax.weights.convert import Rule, dense_after

WIDTHS = (64, 128, 256, 512, 512)
# Convolutions in the stages: Simonyan & Zisserman, table 1, columns A, B, D, E
REPEATS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
# name: (convolutions in the stages, batch norm)
VARIANTS = {n + s: (r, bool(s)) for n, r in REPEATS.items() for s in ("", "_bn")}
SIDE = 7  # of the maps below fc6, for inputs of 224 x 224

# name: (digits in the file's name, top-1, top-5), from torchvision 0.29.2
TORCHVISION = {
    "vgg11": ("8a719046", 69.020, 88.628),
    "vgg13": ("19584684", 69.928, 89.246),
    "vgg16": ("397923af", 71.592, 90.382),
    "vgg19": ("dcbb9e9d", 72.376, 90.876),
    "vgg11_bn": ("6002323d", 70.370, 89.810),
    "vgg13_bn": ("abd245e5", 71.586, 90.374),
    "vgg16_bn": ("6c64b313", 73.360, 91.516),
    "vgg19_bn": ("c79401a0", 74.218, 91.842),
}
# name: (top-1, top-5) of the tag tv_in1k: timm's results/results-imagenet.csv
TIMM = {
    "vgg11": (69.022, 88.624),
    "vgg13": (69.932, 89.250),
    "vgg16": (71.592, 90.384),
    "vgg19": (72.378, 90.874),
    "vgg11_bn": (70.382, 89.808),
    "vgg13_bn": (71.588, 90.378),
    "vgg16_bn": (73.370, 91.514),
    "vgg19_bn": (74.216, 91.844),
}
# name: (MD5, top-1, top-5), from Keras 3.15.1 and its table of applications
KERAS = {
    "vgg16": ("64373286793e3c8b2b4e3219cbf3544b", 71.3, 90.1),
    "vgg19": ("cbe5617147190e668d6c5d5026f83318", 71.3, 90.0),
}


def _published(name: str) -> dict[str, published.Published]:
    digits, *accuracy = TORCHVISION[name]
    usual = imagenet(224, 256)
    weights = {
        "torchvision:IMAGENET1K_V1": published.torchvision(name, digits, usual, *accuracy),
        "timm:tv_in1k": published.timm(f"{name}.tv_in1k", usual, *TIMM[name]),
    }
    if name in KERAS:
        md5, *accuracy = KERAS[name]
        file = f"{name}/{name}_weights_tf_dim_ordering_tf_kernels.h5"
        weights["keras:imagenet"] = published.keras(file, md5, caffe(224), *accuracy)
    return weights


PUBLISHED = {name: _published(name) for name in VARIANTS}


def forms(name: str) -> tuple[str, ...]:
    """Return the forms; `torchvision` and `timm` are one network with different names."""
    return ("torchvision", "timm", *(("keras",) if name in KERAS else ()))


def features(name: str) -> list[Layer]:
    """Return the layers `conv1_1`, ..., `pool1`, `conv2_1`, ..., `pool5`."""
    layers = []
    repeats, norm = VARIANTS[name]
    for stage, (width, convs) in enumerate(zip(WIDTHS, repeats, strict=True), 1):
        conv = ConvNorm(width, 3, bias=True) if norm else Conv(width, 3, activation=jax.nn.relu)
        layers += [Layer(f"conv{stage}_{i}", conv) for i in range(1, convs + 1)]
        layers.append(Layer(f"pool{stage}", MaxPool(2, 2)))
    return layers


def build(name: str, form: str, classes: int = 1000) -> Network:
    """Return the chain `conv1_1`, ..., `pool1`, ..., `pool5`, `fc6`, `fc7`, `head`."""
    return Network(
        (
            *features(name),
            Layer("fc6", FullyConnected(4096, side=SIDE)),
            Layer("fc7", FullyConnected(4096, dropout=0.5)),
            Layer("head", Classifier(classes, dropout=0.5)),
        )
    )


def preprocessing(name: str, form: str) -> Preprocessing:
    return caffe(224) if form == "keras" else imagenet(224, 256)


def rules(name: str, form: str) -> list[Rule]:
    if form == "keras":
        return [
            Rule(r"block(\d)_conv(\d)", r"conv\1_\2"),
            Rule("fc1", "fc6/Dense_0"),
            Rule("fc2", "fc7/Dense_0"),
            *head("predictions"),
        ]
    fc6, fc7, classifier = r"classifier\.0", r"classifier\.3", r"classifier\.6"
    if form == "timm":
        fc6, fc7, classifier = r"pre_logits\.fc1", r"pre_logits\.fc2", r"head\.fc"
    return [
        *_feature_rules(name),
        Rule(fc6, "fc6/Dense_0", dense_after(SIDE)),
        Rule(fc7, "fc7/Dense_0", dense_after(1)),  # in timm it is a 1x1 convolution
        *head(classifier),
    ]


def _feature_rules(name: str) -> list[Rule]:
    """Return rules for `features.<i>`, where i counts norms, ReLUs and poolings too."""
    rows, i = [], 0
    norm = VARIANTS[name][1]
    for layer in features(name):
        if layer.name.startswith("pool"):
            i += 1
        elif norm:
            rows += conv_norm(rf"features\.{i}", rf"features\.{i + 1}", layer.name)
            i += 3
        else:
            rows.append(Rule(rf"features\.{i}", layer.name))
            i += 2
    return rows
