"""The shift of output weights from classifying to detecting, given to classes without boxes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

HEAD, CLASSES, BOXES = "head", "classes_of", "boxes_of"  # `tl_jax.chain.detectors.Refined`


def nearest(kernel: np.ndarray, held: Sequence[int], others: Sequence[int], k: int) -> np.ndarray:
    """Return for each class held out the `k` of the `others` whose weights (D, C + 1) point most
    nearly in its direction: (len(held), k).
    """
    directions = kernel / np.maximum(np.linalg.norm(kernel, axis=0), 1e-12)
    cosines = directions[:, list(held)].T @ directions[:, list(others)]
    return np.asarray(others)[np.argsort(-cosines, axis=1, kind="stable")[:, :k]]


def shifted(before: Any, after: Any, held: Sequence[int], *, k: int) -> dict[str, Any]:
    """Return the variables `after` learning from boxes, in which each class `held` out has moved as
    the `k` nearest classes have on average since `before`, and has the mean of their boxes' weights
    (section 3.2, equation 3).
    """
    old, new = (np.asarray(each["params"][HEAD][CLASSES]["kernel"]) for each in (before, after))
    count = new.shape[1] - 1
    others = [number for number in range(count) if number not in held]
    near = nearest(old, held, others, min(k, len(others)))
    head = {name: dict(own) for name, own in after["params"][HEAD].items()}
    for leaf in ("kernel", "bias"):
        was, now = (np.asarray(each["params"][HEAD][CLASSES][leaf]) for each in (before, after))
        moved = now.copy()
        moved[..., list(held)] += (now - was)[..., near].mean(-1)
        boxes = np.asarray(head[BOXES][leaf])
        by_class = boxes.reshape(*boxes.shape[:-1], count, 4).copy()
        by_class[..., list(held), :] = by_class[..., near, :].mean(-2)
        head[CLASSES][leaf], head[BOXES][leaf] = moved, by_class.reshape(boxes.shape)
    return {**after, "params": {**after["params"], HEAD: head}}
