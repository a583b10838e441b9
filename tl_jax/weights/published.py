"""Published weights: where to fetch them, their checksum and their stated accuracy."""

from typing import NamedTuple

from tl_jax.data.expects import Expected


class Published(NamedTuple):
    """One file of weights, trained on ImageNet-1k."""

    # An address, `pip:<distribution>`, or a repository on the Hugging Face hub (`timm/<model>`)
    source: str
    # Hexadecimal: the SHA-256 or its beginning, or 32 digits of MD5. Empty if none is published, or
    # if the source (pip, the hub) verifies its files itself.
    checksum: str
    preprocessing: Expected
    top1: float | None = None  # percent, with one central crop, as the publisher states
    top5: float | None = None


def torchvision(
    file: str, digits: str, preprocessing: Expected, top1: float, top5: float
) -> Published:
    """Return torchvision's `<file>-<digits>.pth`, whose SHA-256 begins with the digits."""
    address = f"https://download.pytorch.org/models/{file}-{digits}.pth"
    return Published(address, digits, preprocessing, top1, top5)


def keras(
    path: str,
    md5: str,
    preprocessing: Expected,
    top1: float | None,
    top5: float | None = None,
) -> Published:
    """Return Keras's file at `path` in `keras-applications/`."""
    address = f"https://storage.googleapis.com/tensorflow/keras-applications/{path}"
    return Published(address, md5, preprocessing, top1, top5)


def timm(
    model: str, preprocessing: Expected, top1: float, top5: float | None = None
) -> Published:
    """Return the repository `timm/<model>`, where `model` ends with its tag."""
    return Published(f"timm/{model}", "", preprocessing, top1, top5)
