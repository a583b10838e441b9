"""Near duplicates: images that were saved anew, resized, brightened, or taken in a burst; texts
that were copied with changes.

Two thumbnails are compared by the distance of their pixels, centred and scaled to length 1, so that
brightness and contrast do not matter; two texts by the Hellinger distance of how often three
characters follow each other. What distance is small depends on the images: photographs of many
things are far apart, solar cells are not. So a pair counts if it is closer than chance, given how
densely other images lie around it. In a neighbourhood of dimension m the j-th nearest image is
at a distance in proportion to j^(1/m) (Levina & Bickel 2005, "Maximum likelihood estimation of
intrinsic dimension"); m is what the distances to the 5th and the 10th nearest image say, as a
median, which copies of up to four do not move. Then an image is within r times the distance to its
10th nearest with probability 9 r^m, and r is such that one such pair is expected in the whole task.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tl_jax import interrupt
from tl_jax.data.task import SPLITS, Task

NEIGHBOURS = 10
BLOCK = 512  # images that are compared with all at a time
FLAT = 1.0  # grey levels of deviation below which an image is one even area
SHARED = 0.75  # of two copied texts' trigrams, at the least
HASHED = 10  # bits: trigrams of characters share so many columns, 2 to the power of it


class Copies(NamedTuple):
    """P pairs that are closer than chance, the pairs across splits first."""

    pairs: np.ndarray  # (P, 2) examples
    distances: np.ndarray  # (P,) from 0 to 2
    across: np.ndarray  # (P,) whether the two are in different splits
    dimension: float  # m above
    ratio: float  # r above


def points(thumbnails: np.ndarray) -> np.ndarray:
    """Return thumbnails (N, S, S, 3) as float32 rows (N, D) of mean 0 and length 1.

    Where an image is one even area the length is less, so that noise is not blown up.
    """
    rows = np.asarray(thumbnails, np.float32).reshape(len(thumbnails), -1)
    rows = rows - rows.mean(1, keepdims=True)
    least = FLAT * np.sqrt(rows.shape[1])
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), least)


def points_of_texts(texts: Sequence[str]) -> np.ndarray:
    """Return texts as float32 rows (N, D) of length 1, roots of the shares of their trigrams.

    Trigrams are of the bytes of UTF-8, in lower case, with one space for any white space; hashing
    puts each into one of D columns (Weinberger et al. 2009, arXiv:0902.2206).
    """
    rows = np.empty((len(texts), 2**HASHED), np.float32)
    for row, text in zip(rows, texts, strict=True):
        plain = f" {' '.join(text.lower().split())}  ".encode(errors="replace")
        letters = np.frombuffer(plain, np.uint8).astype(np.uint32)
        trigrams = letters[:-2] << 16 | letters[1:-1] << 8 | letters[2:]
        columns = (trigrams * np.uint32(2654435761)) >> np.uint32(32 - HASHED)  # Knuth's factor
        row[:] = np.sqrt(np.bincount(columns, minlength=2**HASHED) / len(columns))
    return rows


def near(points: np.ndarray, task: Task) -> Copies:
    """Return the near-duplicates among a task's images or texts, which are these points (N, D).

    Each is paired with its nearest one in each split. The work grows with N^2: 10,000 images are a
    product of matrices of 10,000 x 768.
    """
    splits = split_numbers(task)
    used = np.flatnonzero(splits >= 0)
    rows, splits = points[used], splits[used]
    k = min(NEIGHBOURS, len(rows) - 1)
    around, nearest = _neighbours(rows, splits, k)
    dimension = _dimension(around)
    ratio = (1 / (len(rows) * max(k - 1, 1))) ** (1 / dimension)
    first, second = np.repeat(np.arange(len(rows)), nearest.shape[1]), nearest.ravel()
    first, second = first[second >= 0], second[second >= 0]
    distances = np.linalg.norm(rows[first] - rows[second], axis=1)
    close = distances <= ratio * around[first, -1]
    if task.texts:  # rare ones are nearer to some others than to most, and yet no copies
        close &= distances <= np.sqrt(2 - 2 * SHARED)
    pairs = np.sort(np.stack([first, second], 1)[close], axis=1)
    pairs, chosen = np.unique(pairs, axis=0, return_index=True)
    distances = distances[close][chosen]
    across = splits[pairs[:, 0]] != splits[pairs[:, 1]]
    order = np.lexsort([distances, ~across])
    return Copies(used[pairs[order]], distances[order], across[order], dimension, float(ratio))


def split_numbers(task: Task) -> np.ndarray:
    """Return the number (N,) of each example's split in `SPLITS`; -1 if it is in none."""
    numbers = np.full(len(task.ids), -1)
    for number, split in enumerate(SPLITS):
        numbers[task.splits[split]] = number
    return numbers


def _neighbours(rows: np.ndarray, splits: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return distances to the k nearest others, (N, k) ascending, and the nearest by split (N, 3).

    The nearest is -1 where the split has no other image.
    """
    around, nearest = np.empty((len(rows), k)), np.empty((len(rows), len(SPLITS)), np.int64)
    squares = (rows**2).sum(1)
    for first in range(0, len(rows), BLOCK):
        interrupt.check()
        own = np.arange(first, min(first + BLOCK, len(rows)))
        far = squares[own, None] + squares - 2 * rows[own] @ rows.T
        far[np.arange(len(own)), own] = np.inf
        least = np.sort(np.partition(far, k - 1, axis=1)[:, :k], axis=1)
        around[own] = np.sqrt(np.maximum(least, 0))
        for number in range(len(SPLITS)):
            there = np.where(splits == number, far, np.inf)
            best = there.argmin(1)
            found = np.isfinite(there[np.arange(len(own)), best])
            nearest[own, number] = np.where(found, best, -1)
    return around, nearest


def _dimension(around: np.ndarray) -> float:
    """Return the median local dimension for distances (N, k) to the nearest; at least 1."""
    k = around.shape[1]
    half, whole = around[:, (k - 1) // 2], around[:, -1]
    inside = half > 0
    if k < 2 or not inside.any():
        return 1.0
    growth = np.log(whole[inside] / half[inside])
    steps = np.log(k / ((k - 1) // 2 + 1))
    return float(max(1.0, steps / max(np.median(growth), 1e-6)))
