"""Rankings of a gallery's images or texts by the features of a layer, and their quality."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tl_jax.base.base import Base
from tl_jax.data.images import open_file
from tl_jax.data.task import Task
from tl_jax.data.tasks import folder, load_task
from tl_jax.data.texts.preprocessing import TextPreprocessing
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


def opened(base: Base, gallery: str, query: str | None) -> tuple[Task, Any]:
    """Return what is searched, and what is looked up, if anything: a folder of images and the image
    of that file; of a base that reads texts a task's texts and the query itself.
    """
    if isinstance(base.preprocessing, TextPreprocessing):
        return load_task(gallery), query
    images = folder.gallery(gallery)
    return images, None if query is None else open_file(query, images.grey_range)


def rank(
    base: Base,
    query: Any,
    features: Mapping[str, LayerFeatures],
    comparison: Comparison,
    *,
    top: int,
) -> list[tuple[int, float]]:
    """Return index and similarity of the `top` images or texts that are most like the query, best
    first.

    `features` are the gallery's features of one layer.
    """
    ((layer, of_gallery),) = features.items()
    gallery, transform = comparison.fit(of_gallery.rows)
    of_query = np.asarray(base.features(base.preprocessing(query), layer=layer))
    (cosines,) = retrieval.similarities(
        queries=transform(of_query), gallery=gallery, expand=comparison.expand
    )
    best = np.argsort(-cosines, kind="stable")[:top]
    return [(int(i), float(cosines[i])) for i in best]


def evaluate(
    images: Task, features: Mapping[str, LayerFeatures], comparison: Comparison
) -> dict[str, tuple[int, retrieval.Quality]]:
    """Return by layer the number of features, and how well those of a class find each other."""
    by_layer = {}
    for layer, of_layer in features.items():
        gallery, _ = comparison.fit(of_layer.rows)
        quality = retrieval.leave_one_out(gallery, images.labels, expand=comparison.expand, at=AT)
        by_layer[layer] = gallery.shape[1], quality
    return by_layer
