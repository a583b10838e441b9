"""What a detector finds in one photograph."""

from typing import NamedTuple

import numpy as np


class Found(NamedTuple):
    """The objects that a detector finds in a photograph, the surest first."""

    boxes: np.ndarray  # (n, 4) x1, y1, x2, y2 in pixels of the photograph
    scores: np.ndarray  # (n,)
    classes: np.ndarray  # (n,) numbers of the base's classes
