"""Features in the plane, by libraries: t-SNE (scikit-learn) and UMAP (umap-learn)."""

import importlib.util
import warnings
from collections.abc import Callable

import numpy as np

from tl_jax.errors import UserError

KEPT = 50  # principal components of which neighbours are sought, as van der Maaten & Hinton 2008
FEWEST = 10  # images of which a map says anything


def tsne(features: np.ndarray, *, seed: int) -> np.ndarray:
    """(N, D) -> (N, 2) by t-SNE (van der Maaten & Hinton 2008) with a perplexity of at most 30."""
    from sklearn.manifold import TSNE

    reduced = _reduced(features, seed)
    perplexity = min(30, (len(reduced) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)


def umap(features: np.ndarray, *, seed: int) -> np.ndarray:
    """(N, D) -> (N, 2) by UMAP (McInnes et al. 2018, arXiv:1802.03426), 15 neighbours at most."""
    reduced = _reduced(features, seed)
    if importlib.util.find_spec("umap") is None:
        raise UserError(
            "UMAP needs umap-learn, which is not installed: pip install tl_jax[studies]"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        from umap import UMAP  # seconds to import, and at first to compile

    neighbours = min(15, len(reduced) - 1)
    return UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(reduced)


METHODS: dict[str, Callable] = {"tsne": tsne, "umap": umap}


def _reduced(features: np.ndarray, seed: int) -> np.ndarray:
    """(N, D) -> (N, at most KEPT) principal components."""
    from sklearn.decomposition import PCA

    if len(features) < FEWEST:
        raise UserError(
            f"a map of {len(features)} images says nothing: {FEWEST} or more are needed; "
            "leave the maps out with maps=()"
        )
    kept = min(KEPT, *features.shape)
    return PCA(kept, random_state=seed).fit_transform(np.asarray(features, np.float32))
