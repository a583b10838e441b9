"""A task: a dataset made ready for transfer."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import PIL.Image

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Task:
    """N examples with C classes, split into `train`, `val` and `test`.

    What the loss is trained on (`targets`, `weights`) and what is measured (`labels`; and for
    confidence-weighted accuracy `graded_labels`, `graded_weights`) are separate: raters' doubt can
    enter either.
    """

    name: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]  # (N,) file name or row of each example
    open: Callable[[int], PIL.Image.Image]  # example index -> image of mode L or RGB; thread-safe
    labels: np.ndarray  # (N,) int32: what accuracy, F1 and AUC count
    targets: np.ndarray  # (N, C) float32, rows sum to 1: what the loss is trained towards
    weights: np.ndarray  # (N,) float32: each example's weight in the loss
    graded_labels: np.ndarray  # (N,) int32: what weighted accuracy counts ...
    graded_weights: np.ndarray  # (N,) float32: ... with this weight
    splits: Mapping[str, np.ndarray]  # "train" / "val" / "test": sorted int64 indices, disjoint
    fingerprint: str  # hash of the N images' bytes and ids, for caches of what is computed of them
    channels: int = 3  # 1 where every image is grey
    skipped: tuple[str, ...] = ()  # files left out because they cannot be read
    published: tuple[dict, ...] = ()  # {"what", "metric", "figure", "source"}: others' results
