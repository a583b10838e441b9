"""Rankings of a gallery's images by the features of a layer, and their quality."""

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
    """How features are transformed before their cosines are compared."""

    whiten: int = 0  # dimensions of PCA-whitening; 0: none
    expand: int = 0  # nearest images averaged with the query; 0: none

    def fit(self, rows: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Return the gallery (N, D) transformed to (N, K), and the transformation of queries."""
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
    """Return index and similarity of the `top` images that are most like the query, best first.

    `features` are the gallery's features of one layer.
    """
    ((layer, of_gallery),) = features.items()
    gallery, transform = comparison.fit(of_gallery.rows)
    of_query = np.asarray(base(base.of_images(query), layer=layer))
    of_query = of_query.mean((1, 2)) if of_query.ndim == 4 else of_query
    (cosines,) = retrieval.similarities(
        queries=transform(of_query), gallery=gallery, expand=comparison.expand
    )
    best = np.argsort(-cosines, kind="stable")[:top]
    return [(int(i), float(cosines[i])) for i in best]


def evaluate(
    images: Task, features: Mapping[str, LayerFeatures], comparison: Comparison
) -> dict[str, tuple[int, retrieval.Quality]]:
    """Return by layer the number of features, and how well images of a class find each other."""
    by_layer = {}
    for layer, of_layer in features.items():
        gallery, _ = comparison.fit(of_layer.rows)
        quality = retrieval.leave_one_out(gallery, images.labels, expand=comparison.expand, at=AT)
        by_layer[layer] = gallery.shape[1], quality
    return by_layer
