"""Images of a gallery ranked by what a layer makes of them, and how good such rankings are."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import PIL.Image

from tl_jax.base.base import Base
from tl_jax.data.task import Task
from tl_jax.measure import retrieval
from tl_jax.measure.features import LayerFeatures
from tl_jax.studies.search import AT


class Comparison(NamedTuple):
    """How features are compared, besides by their cosine."""

    whiten: int = 0  # dimensions of PCA-whitening; 0: none
    expand: int = 0  # nearest images averaged with the query; 0: none

    def fit(self, rows: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Return a gallery's features (N, D) ready to compare (N, K), and what readies queries."""
        gallery = retrieval.unit(rows)
        if not self.whiten:
            return gallery, retrieval.unit
        fitted = retrieval.whitening(gallery, self.whiten)
        return (
            retrieval.whitened(gallery, fitted),
            lambda query: retrieval.whitened(retrieval.unit(query), fitted),
        )


def rank(
    base: Base,
    query: PIL.Image.Image,
    features: Mapping[str, LayerFeatures],
    comparison: Comparison,
    *,
    top: int,
) -> list[tuple[int, float]]:
    """Return number and similarity of the `top` images that are most like the query, best first.

    `features` are the gallery's, of one layer of the base.
    """
    ((layer, own),) = features.items()
    gallery, ready = comparison.fit(own.rows)
    seen = np.asarray(base(base.preprocessing(query), layer=layer))
    seen = seen.mean((1, 2)) if seen.ndim == 4 else seen
    (cosines,) = retrieval.similarities(
        queries=ready(seen), gallery=gallery, expand=comparison.expand
    )
    best = np.argsort(-cosines, kind="stable")[:top]
    return [(int(i), float(cosines[i])) for i in best]


def evaluate(
    images: Task, features: Mapping[str, LayerFeatures], comparison: Comparison
) -> dict[str, tuple[int, retrieval.Quality]]:
    """For each layer the number of features, and how well images of a class find each other."""
    found = {}
    for layer, own in features.items():
        gallery, _ = comparison.fit(own.rows)
        quality = retrieval.leave_one_out(gallery, images.labels, expand=comparison.expand, at=AT)
        found[layer] = gallery.shape[1], quality
    return found
