"""Features that were made by hand, not learned: what a classifier without transfer has.

Raw pixels, and histograms of oriented gradients (Dalal & Triggs 2005, "Histograms of oriented
gradients for human detection") by scikit-image.
"""

from collections.abc import Callable

import numpy as np
import PIL.Image

from tl_jax.data.task import Task
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
        raise UserError("HOG needs scikit-image: pip install 'tl_jax[hog]'") from None
    small = image.convert("L").resize((HOG, HOG), PIL.Image.Resampling.BILINEAR)
    return of(np.asarray(small), 9, (8, 8), (2, 2)).astype(np.float32)


KINDS: dict[str, Callable[[PIL.Image.Image], np.ndarray]] = {"pixels": pixels, "hog": hog}


def features(task: Task, kind: str) -> np.ndarray:
    """Return the features (N, D) of every example of a task; UserError for an unknown kind."""
    if kind not in KINDS:
        raise unknown("features", kind, KINDS)
    return np.stack([KINDS[kind](task.image(index)) for index in range(len(task.ids))])
