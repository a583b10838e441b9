"""The networks that are measured, the same ones in PyTorch, and where their last stages begin."""

from typing import NamedTuple

from tl_jax.errors import unknown


class Net(NamedTuple):
    """A base here and the same network in PyTorch."""

    size: int  # the input's side, in pixels
    last: str  # the first layer of the last stage
    library: str  # torchvision or timm
    model: str
    peer_last: tuple[str, ...]  # prefixes of PyTorch's modules from that layer up


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
    """Return the names; UserError, with the near miss, for an unknown one."""
    for name in names:
        if name not in NETS:
            raise unknown("net", name, NETS)
    return names


TRAINED = ("none", "head", "last", "all")


class Precision(NamedTuple):
    """Of a measurement: the type of the activations, and how a GPU multiplies them."""

    dtype: str
    products: str  # JAX's `jax_default_matmul_precision`; a CPU multiplies float32 as float32


# tf32 is for accelerators; bfloat16 too, and for CPUs that multiply such numbers
PRECISIONS = {
    "float32": Precision("float32", "highest"),
    "tf32": Precision("float32", "tensorfloat32"),
    "bfloat16": Precision("bfloat16", "default"),
}
