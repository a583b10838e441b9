"""Weights that their publishers offer under a name: what to fetch, its checksum, its accuracy."""

from typing import NamedTuple

from tl_jax.preprocessing import Preprocessing


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
