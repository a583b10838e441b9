"""A base goes back to the library that its architecture is from: the way in, walked backwards.

A weight file of that library says how its arrays are called and laid out; the rules that read such
a file (`tl_jax.weights.convert`) put the base's own weights in the places of the file's.
"""

import json
import logging
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import flax.traverse_util
import numpy as np

from tl_jax import models
from tl_jax.base import sources
from tl_jax.base.architecture import Architecture
from tl_jax.errors import UserError
from tl_jax.weights import convert, files
from tl_jax.weights.convert import Found

if TYPE_CHECKING:
    from tl_jax.base.base import Base

logger = logging.getLogger(__name__)

COUNTER = "num_batches_tracked"  # of PyTorch's batch norm, which no step of ours counts


def written(
    base: "Base", names: str | pathlib.Path
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return a base's weights as a state dict of PyTorch's, and what the file says of itself:
    classes and preprocessing, as JSON.

    `names`, a file of PyTorch's weights of this architecture or the name of published ones as in
    `load_base` ('resnet18-f37072fd.pth', 'torchvision:IMAGENET1K_V1', 'timm:a1_in1k'), says how the
    arrays are called. The classifier may have other classes than the file's and the first layer
    other channels; a base that is cut below its classifier gives a file without one. Auxiliary
    heads of the file are left out.

    UserError for a base with other layers than the library's net has (another cut, head or width),
    one whose net is another although it has the same name (Keras's), and one whose parameters have
    no names of their own in the file (fastai's language models).
    """
    family = models.family(base.name)
    if hasattr(family, "tidied") or hasattr(family, "read"):
        raise UserError(f"{base.name} has parameters that its library keeps otherwise: no way back")
    source = sources.resolve(base.name, str(names))
    if files.is_export(source.path):
        raise UserError(f"{source.path} has tl_jax's own names: name a file of the other library's")
    state = files.read(source.path)
    form, found = _sorted(base, state, source.path)
    _require_whole(base, form)
    flat = _flat(base.variables)
    if nameless := [path for path in flat if path not in found.names]:
        raise UserError(
            f"{source.path} has no names for {convert.some(nameless)}; without a classifier it is "
            f"base.cut({base.bottleneck!r})"
        )
    kept = found._replace(names={path: n for path, n in found.names.items() if path in flat})
    arrays = convert.named(flat, kept, state, family.rules(base.name, form))
    if found.left_out:
        logger.warning("left out what the base has not, such as %s", found.left_out[0])
    counters = {n: a for n, a in state.items() if n.rpartition(".")[2] == COUNTER}
    counters = {n: a for n, a in counters.items() if n.replace(COUNTER, "running_var") in arrays}
    about = {"classes": base.classes, "preprocessing": base.preprocessing.described()}
    # In the file's order; `format` is what Hugging Face's libraries look for.
    ordered = {name: (arrays | counters)[name] for name in state if name in arrays | counters}
    return ordered, {"format": "pt", **{key: json.dumps(value) for key, value in about.items()}}


def _sorted(
    base: "Base", state: Mapping[str, np.ndarray], path: pathlib.Path
) -> tuple[str, Found]:
    """Return the form whose names the file has, of those that are the base's own net, and where
    its arrays go; UserError if it has no such names.
    """
    family = models.family(base.name)
    same = [form for form in family.forms(base.name) if form != "keras" and _same_net(base, form)]
    shapes = {name: np.broadcast_to(np.int8(0), array.shape) for name, array in state.items()}
    by_form = {f: convert.find(shapes, family.rules(base.name, f), keras=False) for f in same}
    best = max(by_form, key=lambda form: len(by_form[form].arrays), default="")
    if not best or not by_form[best].arrays:
        raise UserError(
            f"{path} does not have the names of this {base.name}, of the form "
            f"{base.architecture.form!r}: {_known(same)}"
        )
    if surplus := by_form[best].surplus:
        raise UserError(f"{path} is not of a {base.name} alone, it has {convert.some(surplus)}")
    return best, by_form[best]


def _known(forms: list[str]) -> str:
    if not forms:
        return "only PyTorch's names can be written, and this net is Keras's"
    return f"give a file of {' or '.join(forms)}"


def _same_net(base: "Base", form: str) -> bool:
    """Return whether the library's net of this form computes what the base's own form does."""
    ours, theirs = (
        models.family(base.name).build(base.name, one) for one in (base.architecture.form, form)
    )
    return ours.cut(ours.names[-2]) == theirs.cut(theirs.names[-2])


def _require_whole(base: "Base", form: str) -> None:
    """UserError unless the base has the layers of the library's net, with its own number of classes
    and channels, or all of them below the classifier.
    """
    own = base.architecture
    theirs = Architecture(base.name, form, own.classes, words=own.words, features=own.features)
    expected = _flat(theirs.chain().shapes(base.preprocessing.example)[0])
    flat = _flat(base.variables)
    if not base.classifies:
        expected = {path: one for path, one in expected.items() if path.split("/")[1] != "head"}
    lacks = [path for path in expected if path not in flat]
    other = [p for p, a in flat.items() if p not in expected or a.shape != expected[p].shape]
    said = (("it lacks", lacks), ("it has another", other))
    if complaint := "; ".join(f"{what} {convert.some(paths)}" for what, paths in said if paths):
        raise UserError(f"this {base.name} is no longer the net of {form}: {complaint}")


def _flat(variables: Any) -> dict[str, Any]:
    return dict(flax.traverse_util.flatten_dict(variables, sep="/"))
