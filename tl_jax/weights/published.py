"""Weights that their publishers offer under a name: what to fetch, its checksum, its accuracy."""

from typing import NamedTuple

from tl_jax.data.preprocessing import Preprocessing


class Published(NamedTuple):
    """One file of weights for ImageNet-1k."""

    # An address, `pip:<distribution>`, or a repository on the Hugging Face hub (`timm/<model>`)
    source: str
    # Hexadecimal: the SHA-256 or its beginning, or 32 digits of MD5. Empty: none is published, or
    # the source (pip, the hub) checks its own.
    checksum: str
    preprocessing: Preprocessing
    top1: float | None = None  # percent, of one central crop, as the publisher states it
    top5: float | None = None


def torchvision(
    file: str, digits: str, preprocessing: Preprocessing, top1: float, top5: float
) -> Published:
    """`<file>-<digits>.pth` of torchvision's, whose SHA-256 begins with the digits."""
    address = f"https://download.pytorch.org/models/{file}-{digits}.pth"
    return Published(address, digits, preprocessing, top1, top5)


def keras(
    path: str,
    md5: str,
    preprocessing: Preprocessing,
    top1: float | None,
    top5: float | None = None,
) -> Published:
    """The file at `path` below `keras-applications/`."""
    address = f"https://storage.googleapis.com/tensorflow/keras-applications/{path}"
    return Published(address, md5, preprocessing, top1, top5)


def timm(
    model: str, preprocessing: Preprocessing, top1: float, top5: float | None = None
) -> Published:
    """The repository `timm/<model>`, where `model` ends with its tag."""
    return Published(f"timm/{model}", "", preprocessing, top1, top5)
