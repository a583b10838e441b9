"""Maps of features into the plane by libraries: t-SNE (scikit-learn) and UMAP (umap-learn)."""

import importlib.util
import warnings
from collections.abc import Callable

import numpy as np

from tl_jax.errors import UserError

KEPT = 50  # principal components for the search of neighbours; van der Maaten & Hinton 2008
FEWEST = 10  # images that a map needs


def tsne(features: np.ndarray, *, seed: int) -> np.ndarray:
    """Map (N, D) to (N, 2) by t-SNE (van der Maaten & Hinton 2008), perplexity at most 30."""
    from sklearn.manifold import TSNE

    reduced = _reduced(features, seed)
    perplexity = min(30, (len(reduced) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)


def umap(features: np.ndarray, *, seed: int) -> np.ndarray:
    """Map (N, D) to (N, 2) by UMAP (McInnes et al. 2018, arXiv:1802.03426), 15 neighbours."""
    reduced = _reduced(features, seed)
    if importlib.util.find_spec("umap") is None:
        raise UserError(
            "UMAP needs umap-learn, which is not installed: pip install tl_jax[studies]"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        from umap import UMAP  # takes seconds to import, and to compile at the first use

    neighbours = min(15, len(reduced) - 1)
    return UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(reduced)


METHODS: dict[str, Callable] = {"tsne": tsne, "umap": umap}


def _reduced(features: np.ndarray, seed: int) -> np.ndarray:
    """Reduce (N, D) to at most `KEPT` principal components."""
    from sklearn.decomposition import PCA

    if len(features) < FEWEST:
        raise UserError(
            f"a map needs {FEWEST} images or more; got {len(features)}: leave the maps out with "
            "maps=()"
        )
    components = min(KEPT, *features.shape)
    return PCA(components, random_state=seed).fit_transform(np.asarray(features, np.float32))
