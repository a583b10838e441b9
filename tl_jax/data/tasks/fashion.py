"""Fashion-MNIST: 70,000 grey images of 28 x 28 pixels of ten kinds of clothes, shoes and bags.

Xiao, Rasul & Vollgraf 2017, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", arXiv:1708.07747. Its four files, in the format of MNIST (LeCun's "idx"), come in
Debian's package dataset-fashion-mnist.
"""

import gzip
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tl_jax.data.files import path_of
from tl_jax.data.task import Task
from tl_jax.data.tasks.arrays import from_arrays
from tl_jax.errors import UserError

FOLDER = "/usr/share/datasets/fashion-mnist"
CLASSES = (
    *("T-shirt", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
SIDE = 28
FILES = {"train": "train", "test": "t10k"}  # our name of the split, and theirs
MOST = 1_000_000  # images: a file's own count decides how much memory is taken


def fashion_mnist(
    path: str | os.PathLike = FOLDER,
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
) -> Task:
    """The published train and test splits; `val` is taken out of train, and `test` must be left as
    it is.

    `path`: folder of the four files. UserError if one of them is missing or damaged.
    """
    parts = {split: _part(path_of(path), name) for split, name in FILES.items()}
    images, labels = (np.concatenate(both) for both in zip(*parts.values(), strict=True))
    first = len(parts["train"][1])
    given = {"train": np.arange(first), "test": np.arange(first, len(labels))}
    options = {"seed": seed, "val": val, "test": test, "per_class": per_class}
    return from_arrays("fashion_mnist", images, labels, classes=CLASSES, given=given, **options)


def _part(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) and labels (N,), uint8, of one split."""
    images = _idx(folder / f"{name}-images-idx3-ubyte.gz", (SIDE, SIDE))
    labels = _idx(folder / f"{name}-labels-idx1-ubyte.gz", ())
    if len(images) != len(labels):
        raise UserError(f"{folder}: {len(images)} images but {len(labels)} labels of {name}")
    return images, labels


def _idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """(N, *shape) uint8. What the header says is checked before any more is read.

    The header: two zeros, 8 for unsigned bytes, the number of dimensions, each as a big-endian
    32-bit number.
    """
    dimensions = 1 + len(shape)
    try:
        with gzip.open(path) as file:
            header = file.read(4 * (1 + dimensions)).ljust(4 * (1 + dimensions), b"\0")
            magic, count, *sides = np.frombuffer(header, ">u4").tolist()
            if magic != 0x0800 + dimensions or tuple(sides) != shape or not 0 < count <= MOST:
                raise UserError(
                    f"{path} is not what it should be: magic number {magic}, {count} entries of "
                    f"{_by(sides)}; expected {0x0800 + dimensions}, 1 to {MOST} of {_by(shape)}"
                )
            wanted = count * math.prod(shape)
            content = file.read(wanted + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path} is missing: install Debian's package dataset-fashion-mnist, or say where the "
            "files are with path=..., or take the same from TFDS as the task "
            "'tfds:fashion_mnist'"
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}); install it again") from error
    if len(content) != wanted:
        raise UserError(f"{path} is damaged: not the {wanted} bytes that it announces")
    return np.frombuffer(content, np.uint8).reshape(count, *shape)


def _by(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides)) + " bytes" if sides else "one byte"
