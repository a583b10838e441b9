"""Search a folder of images for those like a photo, with a base's features as they are.

    python -m experiments.search --base=efficientnet_lite0 --gallery=photos/ --query=photo.png
    python -m experiments.search --base=efficientnet_lite0 --gallery=photos/

The first prints a ranking (similarity and file) and draws it; --layer, --whiten, --expand change
how. Without --query every image is looked up among the others, and a table says how well those of
its class, which is its sub-folder, were found: a row for each of --layer=a,b (default: all).
--weights defaults to the first ones that have a name.
"""

import pathlib
import sys

from absl import flags

from experiments import base_flags, cli
from experiments.base_flags import BASE, INPUT, WEIGHTS

flags.adopt_module_key_flags(base_flags)
_GALLERY = flags.DEFINE_string("gallery", None, "Folder of the images to be searched.")
_QUERY = flags.DEFINE_string("query", None, "Image to be looked up.")
_LAYER = flags.DEFINE_list("layer", None, "Layers; default: the bottleneck, of a table all.")
_WHITEN = flags.DEFINE_integer("whiten", 0, "Dimensions of PCA-whitening; 0: none.")
_EXPAND = flags.DEFINE_integer("expand", 0, "Nearest images averaged with the query; 0: none.")
_TOP = flags.DEFINE_integer("top", 10, "Images to be shown.")
_SHEET = flags.DEFINE_string("sheet", "search.png", "Contact sheet to be written.")
_CACHE = flags.DEFINE_string("cache", ".cache", "Folder of what is computed once.")

AT = (1, 5, 10)


def main(argv: list[str]) -> None:
    import jax

    from tl_jax.data.tasks.folder import gallery
    from tl_jax.errors import UserError
    from tl_jax.measure.features import of_layers

    cli.no_arguments(argv)
    if not BASE.value or not _GALLERY.value:
        raise UserError("search what? --base=efficientnet_lite0 --gallery=photos/, for example")
    if _QUERY.value is not None:
        query = _opened()
    base, images = _base(), gallery(_GALLERY.value)
    if images.skipped:
        print(f"{len(images.skipped)} left out, the first: {images.skipped[0]}", file=sys.stderr)
    layers = _LAYER.value or (None if _QUERY.value is None else [base.bottleneck])
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(_CACHE.value) / "compiled"))
    found = of_layers(base, images, layers=layers, cache=pathlib.Path(_CACHE.value))
    if _QUERY.value is None:
        _evaluate(images, found)
    else:
        _search(base, images, found, query)


def _opened():
    """The query; what else a search needs is checked here too, before anything is computed."""
    from tl_jax.data.images import open_image
    from tl_jax.errors import UserError

    sheet = pathlib.Path(_SHEET.value)
    if sheet.suffix.lower() != ".png" or not sheet.parent.is_dir():
        raise UserError(f"--sheet={sheet}: name a .png in a folder that is there")
    if _LAYER.value and len(_LAYER.value) > 1:
        raise UserError(f"--layer={','.join(_LAYER.value)}: a query is looked up by one layer")
    if _TOP.value < 1:
        raise UserError(f"--top={_TOP.value}: 1 at least")
    if not pathlib.Path(
        _QUERY.value
    ).is_file():  # nothing there, or a pipe, which one would wait on
        raise UserError(f"no such image: {_QUERY.value}")
    return open_image(_QUERY.value)


def _base():
    from tl_jax import models
    from tl_jax.base.load import load_base
    from tl_jax.errors import UserError

    weights = WEIGHTS.value or next(iter(models.published(BASE.value)), None)
    if weights is None:
        raise UserError(f"no weights of {BASE.value} have a name: give --weights=FILE")
    return load_base(BASE.value, weights).resized(INPUT.value)


def _ready(rows):
    """The gallery's features (N, D) as they are compared, and what does the same to a query's."""
    from tl_jax.measure import retrieval

    gallery = retrieval.unit(rows)
    if not _WHITEN.value:
        return gallery, retrieval.unit
    fitted = retrieval.whitening(gallery, _WHITEN.value)
    return (
        retrieval.whitened(gallery, fitted),
        lambda query: retrieval.whitened(retrieval.unit(query), fitted),
    )


def _search(base, images, found, query) -> None:
    """Print the ranking, draw it."""
    import numpy as np

    from tl_jax.measure import retrieval
    from tl_jax.report import pictures
    from tl_jax.report.text import visible

    ((layer, features),) = found.items()
    gallery, same = _ready(features.rows)
    seen = np.asarray(base(base.preprocessing(query), layer=layer))
    seen = seen.mean((1, 2)) if seen.ndim == 4 else seen
    (cosines,) = retrieval.similarities(queries=same(seen), gallery=gallery, expand=_EXPAND.value)
    best = np.argsort(-cosines, kind="stable")[: _TOP.value]
    root = pathlib.Path(_GALLERY.value)
    for i in best:
        print(f"{cosines[i]:.4f}\t{visible(str(root / images.ids[i]))}")
    labels = [f"{n}   {cosines[i]:.3f}\n{visible(images.ids[i])}" for n, i in enumerate(best, 1)]
    sheet = pictures.contact_sheet(query, [images.open(i) for i in best], labels)
    sheet.save(_SHEET.value, "PNG")
    print(f"drawn: {_SHEET.value}", file=sys.stderr)


def _evaluate(images, found) -> None:
    """Print how well the images of a class find each other, by layer."""
    from tl_jax.errors import UserError
    from tl_jax.measure import retrieval

    if len(images.classes) < 2:
        raise UserError(
            f"which image? --query=photo.png; or a gallery with a sub-folder for each class, "
            f"unlike {_GALLERY.value}, to be told how well they are found"
        )
    recalls = "".join(f"{f'recall@{k}':>11}" for k in AT)
    lines = [f"{'layer':<20}{'features':>9}{'mAP':>9}{recalls}"]
    for name, features in found.items():
        gallery, _ = _ready(features.rows)
        q = retrieval.leave_one_out(gallery, images.labels, expand=_EXPAND.value, at=AT)
        recalls = "".join(f"{100 * x:9.1f} %" for x in q.recall.values())
        average = f"{100 * q.average_precision:7.1f} %"
        lines.append(f"{name:<20}{gallery.shape[1]:>9}{average}{recalls}")
    print("\n".join(lines))


if __name__ == "__main__":
    cli.run(main)
