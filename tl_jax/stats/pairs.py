"""How well images find their texts, and texts their images."""

from collections.abc import Sequence

import numpy as np

AT = (1, 5, 10)


def ranks(similarities: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the rank (Q,), from 1, of the first right answer of each query.

    similarities (Q, N) of queries and gallery; right: bool (Q, N), one or more in each row. Of
    equal similarities the wrong ones come first, so that a constant finds nothing.
    """
    best = np.where(right, similarities, -np.inf).max(1, keepdims=True)
    return 1 + ((similarities >= best) & ~right).sum(1)


def recalls(found: np.ndarray, at: Sequence[int] = AT) -> dict[str, float]:
    """Return the share of ranks (Q,) that are k or less, as "recall_at_k", and the median rank."""
    named = {f"recall_at_{k}": float((found <= k).mean()) for k in at}
    return named | {"median_rank": float(np.median(found))}


def chance(right: np.ndarray, at: Sequence[int] = AT) -> dict[str, float]:
    """Return the recalls that a random order of the gallery has on average: 1 minus the share of
    draws of k without a right one, for bool (Q, N).
    """
    from scipy import stats

    size, counts = right.shape[1], right.sum(1)
    return {
        f"recall_at_{k}": float(1 - stats.hypergeom.pmf(0, size, counts, min(k, size)).mean())
        for k in at
    }


def evaluate(image: np.ndarray, text: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """Return the recalls of images (N, D) by texts (N, K, D), "image_recall_at_1" and so on, and of
    texts by images, "text_recall_at_1", and what chance has.

    same (N, K): equal numbers for captions that are equal, -1 for none. An image is right for every
    text that one of its captions equals, and a text for every such image.
    """
    queries, gallery, right = laid_out(image, text, same)
    cosines = queries @ gallery.T
    found = {}
    for kind, values, fits in (("image", cosines, right), ("text", cosines.T, right.T)):
        own = recalls(ranks(values, fits))
        own |= {f"{name}_by_chance": value for name, value in chance(fits).items()}
        found |= {f"{kind}_{name}": value for name, value in own.items()}
    return found


def laid_out(
    image: np.ndarray, text: np.ndarray, same: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return texts (Q, D), images (N, D), and bool (Q, N) whether they belong together."""
    there = same >= 0
    texts, numbers = text[there], same[there]
    right = (numbers[:, None, None] == same[None]).any(2)
    return texts, image, right
