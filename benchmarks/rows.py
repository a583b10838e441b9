"""What is measured: the nets, their twins in PyTorch, and where their last stage begins."""

from typing import NamedTuple

from tl_jax.errors import unknown


class Net(NamedTuple):
    """A base here and the same net in PyTorch."""

    size: int  # of the input's side, in pixels
    last: str  # the layer with which the last stage begins
    library: str  # torchvision or timm
    model: str
    peer_last: tuple[str, ...]  # prefixes of the peer's modules from there up


NETS = {
    "vgg16": Net(
        224, "conv5_1", "torchvision", "vgg16",
        ("features.24", "features.26", "features.28", "classifier"),
    ),
    "resnet50": Net(224, "stage4_block1", "torchvision", "resnet50", ("layer4", "fc")),
    "mobilenet_v1": Net(
        224, "block12", "timm", "mobilenetv1_100", ("blocks.4", "conv_head", "classifier")
    ),
    "mobilenet_v2": Net(
        224, "stage7_block1", "torchvision", "mobilenet_v2",
        ("features.17", "features.18", "classifier"),
    ),
    "inception_v3": Net(299, "mixed_7a", "torchvision", "inception_v3", ("Mixed_7", "fc")),
    "densenet121": Net(
        224, "block4_layer1", "torchvision", "densenet121",
        ("features.denseblock4", "features.norm5", "classifier"),
    ),
    "efficientnet_lite0": Net(
        224, "stage7_block1", "timm", "efficientnet_lite0",
        ("blocks.6", "conv_head", "bn2", "classifier"),
    ),
}  # fmt: skip


def checked(names: list[str]) -> list[str]:
    """The names; UserError for one that is no net's."""
    for name in names:
        if name not in NETS:
            raise unknown("net", name, NETS)
    return names


TRAINED = ("none", "head", "last", "all")
PRECISIONS = ("float32", "bfloat16")  # of activations; bfloat16 is for accelerators
