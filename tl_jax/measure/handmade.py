"""Features that were made by hand, not learned: what a classifier without transfer has.

Raw pixels, and histograms of oriented gradients (Dalal & Triggs 2005, "Histograms of oriented
gradients for human detection") by scikit-image.
"""

import pathlib
from collections.abc import Callable

import numpy as np
import PIL.Image

from tl_jax.data.files import path_of
from tl_jax.data.images import seen
from tl_jax.data.task import Task
from tl_jax.engine import prefix, store
from tl_jax.errors import UserError, unknown

PIXELS, HOG = 32, 64  # sides to which images are resized


def pixels(image: PIL.Image.Image) -> np.ndarray:
    """Return 32 x 32 grey values from 0 to 1: (1024,)."""
    small = image.convert("L").resize((PIXELS, PIXELS), PIL.Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32).ravel() / 255


def hog(image: PIL.Image.Image) -> np.ndarray:
    """Return histograms of 9 orientations in cells of 8 x 8 pixels, normalised in blocks of 2 x 2
    cells, of the grey image at 64 x 64: (1764,).
    """
    try:
        from skimage.feature import hog as of
    except ImportError:
        raise UserError("HOG needs scikit-image: pip install 'tl_jax[studies]'") from None
    small = image.convert("L").resize((HOG, HOG), PIL.Image.Resampling.BILINEAR)
    return of(np.asarray(small), 9, (8, 8), (2, 2)).astype(np.float32)


KINDS: dict[str, Callable[[PIL.Image.Image], np.ndarray]] = {"pixels": pixels, "hog": hog}


def require(kind: str) -> None:
    """UserError for an unknown kind, and for one whose package is not installed."""
    if kind not in KINDS:
        raise unknown("features", kind, KINDS)
    KINDS[kind](PIL.Image.new("L", (1, 1)))  # imports what it needs


def features(task: Task, kind: str, *, cache: str | pathlib.Path | None = None) -> np.ndarray:
    """Return the features (N, D) of every example of a task, kept in the folder `cache` if there is
    one. UserError: see `require`.
    """
    require(kind)

    def compute(first: int, last: int) -> np.ndarray:
        return np.stack([KINDS[kind](seen(task.image(index))) for index in range(first, last)])

    if not cache:
        return compute(0, len(task.ids))
    key = prefix.cache_key("handmade", kind, task.fingerprint)
    shape = (len(task.ids), *compute(0, 1)[0].shape)
    kept = store.Store(path_of(cache) / key, shape, np.float32, f"{kind} features")
    store.require_room([kept.need()])
    return store.build(kept, compute, progress=prefix.bar(kept.what))
