"""By how much boxes cover each other."""

import numpy as np


def of_pairs(boxes: np.ndarray, others: np.ndarray, crowds: np.ndarray | None = None) -> np.ndarray:
    """Return (K, M) the area common to two boxes by that of both together, (K, 4) and (M, 4).

    Where `crowds` (M,) are True, it is by the area of the first box alone, which may be one of many
    in the crowd. Boxes are edges: x1, y1, x2, y2. In VOC's inclusive pixel numbers, whose widths
    are x2 - x1 + 1, the edges of a box are x1 - 1 and x2, so nothing is added here.
    """
    boxes, others = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    first = np.maximum(boxes[:, None, :2], others[None, :, :2])
    last = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(last - first, 0, None).prod(-1)
    own = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1)[:, None]
    both = own + np.clip(others[:, 2:] - others[:, :2], 0, None).prod(-1) - common
    if crowds is not None:
        both = np.where(crowds, own, both)
    return np.divide(common, both, out=np.zeros_like(common), where=both > 0)
