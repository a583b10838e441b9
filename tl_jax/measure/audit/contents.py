"""One pass over a task's images or texts, and the balance of its classes."""

import hashlib
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import PIL.Image

from tl_jax import interrupt, progress
from tl_jax.data.images import bands_of, file_kind, seen, size_of
from tl_jax.data.task import Task
from tl_jax.measure.audit import copies

SIDE = 16  # pixels of a thumbnail


class Contents(NamedTuple):
    """What one pass over the N images or texts of a task saw."""

    sizes: dict[str, np.ndarray]  # (N,) "width" and "height" in pixels, "words" and "characters"
    kinds: tuple[str, ...]  # (N,) format and mode of the file, "JPEG RGB"; without files the mode
    points: np.ndarray  # (N, D) float32, whose distances tell near copies: see `copies`
    digests: tuple[bytes, ...]  # (N,) SHA-256 of the decoded pixels, or of the text


class Balance(NamedTuple):
    """Examples by class."""

    counts: dict[str, np.ndarray]  # split: (C,)
    imbalance: float  # examples of the largest class for each one of the smallest
    effective_classes: float  # exp of the entropy of the classes' shares: C if all are equal


def contents(task: Task) -> Contents:
    """Look at every image of the task, or text, once."""
    return of_texts(task.texts) if task.texts else _of_images(task)


def of_texts(texts: Sequence[str]) -> Contents:
    """Look at texts, which are of no kinds."""
    sizes = {"words": [len(text.split()) for text in texts], "characters": list(map(len, texts))}
    digests = tuple(hashlib.sha256(text.encode()).digest() for text in texts)
    counted = {side: np.array(lengths) for side, lengths in sizes.items()}
    return Contents(counted, (), copies.points_of_texts(texts), digests)


def _of_images(task: Task) -> Contents:
    """Decode every image once, in threads."""

    def look(index: int) -> tuple[tuple[int, int], str, np.ndarray, bytes]:
        image = task.image(index)
        size, count = size_of(image), bands_of(image)
        kind = {1: "L", 3: "RGB"}.get(count, f"{count} bands")
        content = hashlib.sha256(repr((size, kind)).encode() + image.tobytes())
        if task.folder:
            kind = " ".join(file_kind(pathlib.Path(task.folder, (task.wholes or task.ids)[index])))
        return size, kind, thumbnail(seen(image)), content.digest()

    rows, count, pool = [], len(task.ids), ThreadPoolExecutor()
    try:
        looks = pool.map(look, range(count))
        for row in progress.over(looks, "images", total=count, unit="images"):
            interrupt.check()
            rows.append(row)
    finally:  # no `with`: left by a signal, it would wait until every image is read
        pool.shutdown(cancel_futures=True)
    sizes, kinds, thumbnails, digests = zip(*rows, strict=True)
    sides = dict(zip(("width", "height"), np.array(sizes).T, strict=True))
    return Contents(sides, kinds, copies.points(np.stack(thumbnails)), digests)


def thumbnail(image: PIL.Image.Image) -> np.ndarray:
    """Return the whole image as RGB (SIDE, SIDE, 3) uint8, whatever its proportions."""
    box = PIL.Image.Resampling.BOX
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), box, reducing_gap=2.0))


def balance(task: Task) -> Balance:
    """Return the counts of the task's classes and how even they are, over all splits."""
    classes = len(task.classes)
    counts = {
        split: np.bincount(task.labels[rows], minlength=classes)
        for split, rows in task.splits.items()
    }
    total = np.sum(list(counts.values()), axis=0)
    shares = total[total > 0] / total.sum()
    entropy = -(shares * np.log(shares)).sum()
    least = total.min()
    return Balance(counts, float(total.max() / least) if least else np.inf, float(np.exp(entropy)))
