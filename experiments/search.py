"""Search a folder for images like a photo, with the off-the-shelf features of a base.

    python -m experiments.search --base=efficientnet_lite0 --gallery=photos/ --query=photo.png
    python -m experiments.search --base=efficientnet_lite0 --gallery=photos/
    python -m experiments.search --base=minilm_l6 --gallery=text:mine.csv --query="I loved it."

The first prints a ranking (similarity and file) and draws it; --layer, --whiten and --expand change
the comparison. Without --query, a table shows how well images of a class (a sub-folder) find each
other, for each of --layer=a,b (default: all). A base that reads texts searches a task of texts.
"""

import pathlib
import sys

from absl import flags

from experiments import base_flags, cli
from experiments.base_flags import BASE, WEIGHTS
from tl_jax.errors import UserError

flags.adopt_module_key_flags(base_flags)
_GALLERY = flags.DEFINE_string("gallery", None, "Folder of images, or task of texts.")
_QUERY = flags.DEFINE_string("query", None, "Image to look up, or a text.")
_LAYER = flags.DEFINE_list("layer", None, "Layers; default: the bottleneck, or all for a table.")
_WHITEN = flags.DEFINE_integer("whiten", 0, "Dimensions of PCA-whitening; 0: none.")
_EXPAND = flags.DEFINE_integer("expand", 0, "Nearest images averaged with the query; 0: none.")
_TOP = flags.DEFINE_integer("top", 10, "Images to show.")
_SHEET = flags.DEFINE_string("sheet", "search.png", "Contact sheet to write.")
_CACHE = flags.DEFINE_string("cache", ".cache", "Folder for stored features; empty: none.")


def main(argv: list[str]) -> None:
    from tl_jax.base.load import load_base
    from tl_jax.measure.features import of_layers
    from tl_jax.runs.folder import keep_compiled
    from tl_jax.studies.search import page, study

    _check(argv)
    base = base_flags.resized(load_base(BASE.value, WEIGHTS.value))
    images, query = study.opened(base, _GALLERY.value, _QUERY.value)
    if images.skipped:
        said = f"{len(images.skipped)} files cannot be read and are left out, the first:"
        print(said, images.skipped[0], file=sys.stderr)
    if query is None and len(images.classes) < 2:
        raise UserError(
            "look up what? --query=photo.png, or a text; or a gallery with a sub-folder for each "
            f"class, unlike {_GALLERY.value}, to see how well they find each other"
        )
    keep_compiled(_CACHE.value)
    layers = _LAYER.value or (None if query is None else [base.bottleneck])
    features = of_layers(base, images, layers=layers, cache=_CACHE.value)
    comparison = study.Comparison(whiten=_WHITEN.value, expand=_EXPAND.value)
    if query is None:
        print(page.table(study.evaluate(images, features, comparison)))
        return
    ranking = study.rank(base, query, features, comparison, top=_TOP.value)
    print(page.lines(ranking, images, _GALLERY.value))
    if not images.texts:
        page.sheet(query, ranking, images).save(_SHEET.value, "PNG")
        print(f"drawn: {_SHEET.value}", file=sys.stderr)


def _check(argv: list[str]) -> None:
    """Raise UserError for flags that make no search, before anything is computed."""
    cli.no_arguments(argv)
    if not BASE.value or not _GALLERY.value:
        raise UserError("search what? --base=efficientnet_lite0 --gallery=photos/, for example")
    if _QUERY.value is None:
        return
    sheet = pathlib.Path(_SHEET.value)
    if sheet.suffix.lower() != ".png" or not sheet.parent.is_dir():
        raise UserError(f"--sheet={sheet}: name a .png in a folder that exists")
    if _LAYER.value and len(_LAYER.value) > 1:
        raise UserError(f"--layer={','.join(_LAYER.value)}: a query is looked up by one layer")
    if _TOP.value < 1:
        raise UserError(f"--top={_TOP.value}: take 1 or more")


if __name__ == "__main__":
    cli.run(main)
