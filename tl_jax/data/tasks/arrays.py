"""Tasks from arrays in memory, and what a task without raters' doubt has for labels."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tl_jax.data import bands, duplicates
from tl_jax.data.files import listed
from tl_jax.data.images import fingerprint, image_of
from tl_jax.data.splits import divide
from tl_jax.data.task import Task
from tl_jax.errors import UserError

NUMBERS = "names, numbers = np.unique(labels, return_inverse=True) numbers them"


def unweighted(labels: np.ndarray | Sequence[int], num_classes: int) -> dict[str, np.ndarray]:
    """The truth of a Task whose N labels are certain: one-hot targets, every weight 1."""
    numbers, ones = np.asarray(labels, np.int32), np.ones(len(labels), np.float32)
    return {
        "labels": numbers,
        "targets": np.eye(num_classes, dtype=np.float32)[numbers],
        "weights": ones,
        "graded_labels": numbers,
        "graded_weights": ones,
    }


def from_arrays(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    classes: Sequence[str] | None = None,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    given: Mapping[str, np.ndarray] | None = None,
) -> Task:
    """A task of images (N, H, W) or (N, H, W, bands), uint8, and labels (N,), 0 to C-1.

    `classes` are the C names, the labels' own digits if not given; every class needs examples.
    `given`: the rows of the data's own splits, 'train' and perhaps others, if it has any.
    UserError for any other type or shape.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    _check(images, labels)
    found = np.unique(labels)
    count = len(found) if classes is None else len(classes)
    if count < 2 or not np.array_equal(found, np.arange(count)):
        of = "" if classes is None else f" for the {count} classes {listed(classes)}"
        raise UserError(
            "labels must be 0 to C-1 with at least 2 classes, all with examples; got "
            f"{len(found)} different labels up to {labels.max()}{of}; {NUMBERS}"
        )
    classes = [str(name) for name in (found if classes is None else classes)]
    if twice := sorted({name for name in classes if classes.count(name) > 1}):
        raise UserError(f"classes have different names; repeated: {listed(twice)}")
    images = images[..., None] if images.ndim == 3 else images
    count = images.shape[-1]
    ids = tuple(str(row) for row in range(len(images)))
    shape = repr(images.shape[1 : 3 if count == 1 else 4]).encode()
    names = np.asarray(classes)[labels]
    given = {"train": np.arange(len(labels))} if given is None else given
    splits = divide(given, names, seed=seed, val=val, test=test, per_class=per_class)
    digests = [hashlib.sha256(shape + image.tobytes()).digest() for image in images]
    duplicates.warn(name, digests, splits)
    return Task(
        name=name,
        classes=tuple(classes),
        ids=ids,
        open=lambda index: image_of(images[index]),
        truth=unweighted(labels, len(classes)),
        splits=splits,
        fingerprint=fingerprint(ids, digests),
        channels=count,
    )


def _check(images: np.ndarray, labels: np.ndarray) -> None:
    shape = images.shape
    if images.dtype != np.uint8:
        raise UserError(f"images must be uint8, 0 to 255; got {images.dtype}: scale and convert")
    if len(shape) not in (3, 4) or 0 in shape:
        raise UserError(
            f"images must be (N, H, W) or (N, H, W, bands), none of them 0; got {shape}"
        )
    try:
        bands.require(shape[1:])
    except ValueError as error:
        raise UserError(f"images {shape}: {error}") from error
    if labels.shape != shape[:1]:
        raise UserError(f"labels must be one for each of {shape[0]} images; got {labels.shape}")
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise UserError(
            f"labels must be whole numbers from 0 on; got {labels.dtype}, {labels[:3]}..; {NUMBERS}"
        )


def digits(*, seed: int, val: float = 0.1, test: float = 0.25, per_class: int = 0) -> Task:
    """scikit-learn's handwritten digits: 1797 grey images of 8 x 8, 0..16 scaled to 0..255."""
    from sklearn.datasets import load_digits  # seconds to import

    loaded: Any = load_digits(return_X_y=True)
    pixels, labels = loaded
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    options = {"seed": seed, "val": val, "test": test, "per_class": per_class}
    return from_arrays("digits", images, labels, **options)
