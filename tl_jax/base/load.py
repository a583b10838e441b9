"""Bases from weights: files that people have, published names, files of our own."""

import dataclasses
import inspect
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from tl_jax import models
from tl_jax.base import file, hub, sources
from tl_jax.base.architecture import Architecture
from tl_jax.base.base import Base
from tl_jax.base.recognise import recognised
from tl_jax.chain.places import IMAGE
from tl_jax.chain.variables import select
from tl_jax.data.expects import Expected
from tl_jax.data.files import path_of
from tl_jax.data.preprocessing import MAX_CHANNELS, Preprocessing
from tl_jax.data.texts.preprocessing import TextPreprocessing
from tl_jax.errors import UserError, takes, unknown
from tl_jax.weights import convert, files

logger = logging.getLogger(__name__)

WEIGHTS = "a file, or a name such as torchvision:IMAGENET1K_V1 or random:0"


def load_base(
    name: str | pathlib.Path, weights: str | pathlib.Path | None = None, *, form: str | None = None
) -> Base:
    """The architecture `name` (`tl_jax.models.names()`) with `weights`; or, without any, the base
    in the file or finished run at the path `name`, or on the Hugging Face hub as `hf:user/model`,
    which says what it is. `weights` are

    * a file: `.pth`, `.pt` or `.bin` (PyTorch), `.safetensors`, `.h5` (Keras), or what `Base.save`
      wrote, or the folder of a finished run; the names inside tell whose it is. Of a checkpoint
      with several nets of the kind, `last.pth#model_ema` is the one below that key or attribute.
      Of weights in several files, their index, `model.safetensors.index.json`;
    * `torchvision:IMAGENET1K_V1`, `keras:imagenet`, `timm:<tag>`: fetched once;
    * `pip:efficientnet-lite0`: a file that an installed package carries;
    * of `word_vectors`, a file of word2vec's, GloVe's or fastText's vectors;
    * `random:<seed>`, of a base that reads texts with the tokenizer of its first published weights;
      None is the first published ones, which `published_weights` names.

    Every array in the file and every parameter of the architecture must match, or a UserError lists
    both sides; only what a training script keeps beside a whole net (its loss, its optimizer) is
    left out, with a line in the log. The numbers of classes and of the images' channels are the
    file's own, and a file without a classifier gives a base that is cut below it. `form` says whose
    net it is where the names fit several. UserError, too, for weights that are not finite.

    >>> base = load_base("mobilenet_v2", "random:0")
    >>> base.name, base.bottleneck, base.layers[0], len(base.layers)
    ('mobilenet_v2', 'pool', 'stem', 21)
    """
    takes(_is_name(name), "load_base", "the name of an architecture, or the path of a file", name)
    takes(weights is None or _is_name(weights), "weights=", WEIGHTS, weights)
    if weights is None and str(name).startswith(hub.PREFIX):
        found = _from_file(hub.pulled(str(name)))
        return _require_form(dataclasses.replace(found, weights=str(name)), form)
    if weights is None and is_path(name):
        return _require_form(_from_file(pathlib.Path(name)), form)
    name = models.canonical(str(name))
    form = form if form is None else _form(name, form)
    weights = published_weights(name) if weights is None else str(weights)
    if weights.startswith("random:"):
        return _random(name, weights, form)
    source = sources.resolve(name, weights)
    if files.is_export(source.path):
        takes(not source.part, f"{source.path}, which holds one net,", "no '#'", source.part)
        base = _require_form(_exported(name, weights, source.path), form)
    else:
        state, preprocessing = _content(name, source)
        given = {"preprocessing": preprocessing, "part": source.part}
        try:
            base = from_state_dict(name, state, form=form or source.form, **given)
        except UserError as error:
            raise UserError(f"{source.path}: {error}") from None
    _require_finite(source.path, base.variables)
    return dataclasses.replace(base, weights=weights, digest=files.digest(source.path))


def _content(name: str, source: sources.Source) -> tuple[Mapping[str, np.ndarray], Expected | None]:
    """The arrays of a weight file, and the preprocessing that comes with them, if any does."""
    read = getattr(models.family(name), "read", None)
    return read(source.path) if read else (files.read(source.path), source.preprocessing)


def _is_name(value: object) -> bool:
    return isinstance(value, str | pathlib.PurePath) and str(value) != ""


def _form(name: str, form: str) -> str:
    """The form, if the architecture has it; UserError with the near miss if not."""
    forms = models.family(name).forms(name)
    if form not in forms:
        raise unknown(f"form of {name}", str(form), forms)
    return form


def _require_form(base: Base, form: str | None) -> Base:
    """The base, if it is of the form that was asked for; UserError if not."""
    if form is not None and _form(base.name, form) != base.architecture.form:
        raise UserError(
            f"{base.weights} is a {base.name} of the form {base.architecture.form!r}, "
            f"not {form!r}: leave form= out"
        )
    return base


def outline(name: str | pathlib.Path, weights: str | pathlib.Path | None = None) -> Base:
    """The base that `load_base` gives, with shapes for weights: enough for what its layers decide.

    Of a file no more than its header is read, so that one which ends below its classifier is not
    told from a whole one.
    """
    if weights is None and str(name).startswith(hub.PREFIX):
        name = hub.pulled(str(name))
    path = pathlib.Path(name if weights is None else weights).expanduser()
    path = path / file.NAME if path.is_dir() else path
    if files.is_export(path):
        architecture, preprocessing = file.header(path)
    elif weights is None and is_path(name):
        return _from_file(path)
    else:
        name = models.canonical(str(name))
        family = models.family(name)
        architecture = Architecture(name, family.forms(name)[0])
        if not str(weights).startswith("random:"):  # which are whole
            cut = models.usual_cut(name, architecture.chain())
            architecture = dataclasses.replace(architecture, cut=cut)
        preprocessing = family.preprocessing(name, architecture.form)
    shapes = architecture.chain().shapes(preprocessing.example)[0]
    return Base(architecture, "", shapes, preprocessing)


def published_weights(name: str) -> str:
    """The name of the first weights that the architecture has; UserError if it has none."""
    known = next(iter(models.published(name)), None)
    if known is None:
        raise UserError(
            f"no weights of {name} have a name: give a file, or random:0 for untrained ones"
        )
    return known


def is_path(name: str | pathlib.Path) -> bool:
    """Whether a base's name means a file or the folder of a run, not an architecture."""
    if isinstance(name, pathlib.Path) or "/" in name or name.endswith(".safetensors"):
        return True
    return os.path.exists(name) and not models.is_name(name)


def _from_file(path: pathlib.Path) -> Base:
    """The base in a file of ours, or of the finished run in that folder."""
    path = path_of(path)
    path = path / file.NAME if path.is_dir() else path
    if path.is_file() and path.name != file.NAME and not files.is_export(path):
        raise UserError(f"which architecture are these weights of? load_base('resnet50', '{path}')")
    model = file.load(path)
    _require_finite(path, model.variables)
    return dataclasses.replace(_base(model, str(path)), digest=files.digest(path))


def _base(model: file.Model, weights: str) -> Base:
    architecture, variables, preprocessing, classes, views, answers = model
    told = {"classes": classes, "views": views, "answers": answers}
    return Base(architecture, weights, variables, preprocessing, **told)


def _require_finite(path: pathlib.Path, variables) -> None:
    """UserError that names an array with a NaN or infinity.

    Behind a convolution that takes its ReLU along they would not be seen: oneDNN makes 0 of a NaN.
    """
    for place, array in jax.tree_util.tree_leaves_with_path(variables):
        if not np.isfinite(array).all():
            name = "/".join(key.key for key in place)
            raise UserError(f"{path}: the weights {name} are not finite")


def from_state_dict(
    name: str,
    state: Mapping[str, np.ndarray],
    *,
    form: str | None = None,
    preprocessing: Expected | None = None,
    part: str = "",
) -> Base:
    """The architecture `name` with arrays by the names that PyTorch's or Keras's nets have.

    The names tell the form, and the form the preprocessing, where they are not given. `part`: what
    stands in front of the names of the net wanted, where there are several.
    """
    name = models.canonical(name)
    state = getattr(models.family(name), "tidied", dict)(state)
    form, found = recognised(name, state, form and _form(name, form), part)
    words, features = _table_shape(name, found)
    architecture = Architecture(name, form, _classes(found), words=words, features=features)
    preprocessing = preprocessing or models.family(name).preprocessing(name, form)
    expected, outputs = architecture.chain().shapes(preprocessing.example)
    if isinstance(preprocessing, Preprocessing) and (channels := _other_channels(found, expected)):
        preprocessing = preprocessing.with_channels(channels)
        _tell_adapted(preprocessing)
        expected, outputs = architecture.chain().shapes(preprocessing.example)
    level = logging.WARNING if models.reads(name) == IMAGE else logging.DEBUG  # encoders have none
    if cut := _cut_below_classifier(found, expected, outputs, level=level):
        architecture = dataclasses.replace(architecture, cut=cut)
        expected = select(expected, architecture.chain().names)
    variables = convert.fill(found, expected)
    _require_words(preprocessing, architecture.words)
    return Base(architecture, "a state dict", variables, preprocessing)


def _random(name: str, weights: str, form: str | None) -> Base:
    seed = weights.removeprefix("random:")
    if not seed.isdecimal() or len(seed) > 40:  # Python reads no longer ones
        raise UserError(f"weights {weights!r:.80}: random: is followed by a seed, as in random:0")
    family = models.family(name)
    architecture = Architecture(name, form or family.forms(name)[0])
    expects = family.preprocessing(name, architecture.form)
    if isinstance(expects, TextPreprocessing) and models.published(name):
        expects = sources.resolve(name, published_weights(name)).preprocessing or expects
    base = Base(architecture, weights, {}, expects)
    return dataclasses.replace(base, variables=base.fresh(int(seed)))


def _exported(name: str, weights: str, path: pathlib.Path) -> Base:
    model = file.load(path)
    if model.architecture.name != name:
        raise UserError(f"{path} is a {model.architecture.name}, not a {name}")
    return _base(model, weights)


def _table_shape(name: str, found: convert.Found) -> tuple[int, int]:
    """How many words the table of a base that reads texts has, and of how many features, where the
    family takes any number of these; else 0.
    """
    family = models.family(name)
    table = found.arrays.get(f"params/{getattr(family, 'TABLE', '')}")
    if table is None or table.ndim != 2:
        return 0, 0
    any_width = "features" in inspect.signature(family.build).parameters
    return len(table), table.shape[1] if any_width else 0


def _require_words(expects: Expected, words: int) -> None:
    """UserError for a tokenizer with other words than the table of vectors has."""
    if not isinstance(expects, TextPreprocessing) or not expects.tokenizer or not words:
        return
    if (known := len(expects.words())) > words:
        raise UserError(
            f"the tokenizer beside the weights has {known} words, their table {words}; "
            "take the one that came with them"
        )


def _other_channels(found: convert.Found, expected: Any) -> int | None:
    """How many channels the first kernel of the file reads, if it is as expected but for that."""
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(expected["params"], sep="/")
    stem = next(path for path in flat if path.endswith("kernel"))
    ours: tuple[int, ...] = flat[stem].shape
    theirs = getattr(found.arrays.get(f"params/{stem}"), "shape", ())
    if theirs == ours or len(theirs) != 4 or (*theirs[:2], theirs[3]) != (*ours[:2], ours[3]):
        return None
    return theirs[2] if 1 <= theirs[2] <= MAX_CHANNELS else None


def _tell_adapted(preprocessing: Preprocessing) -> None:
    logger.warning(
        "the stem of these weights reads %d channels: pixels are normalised by mean %s and "
        "deviation %s, after the usual ones; replace base.preprocessing where theirs were others",
        preprocessing.channels, preprocessing.mean, preprocessing.std,
    )  # fmt: skip


def _cut_below_classifier(
    found: convert.Found, expected: Any, outputs: Any, *, level: int
) -> str | None:
    """The layer at which the net of a file without a classifier ends; None if it has one.

    That is logged at the `level`. Unknown names among the net's own may be a classifier's; beside
    an `encoder.` there stands what was put on top of it, such as a projector.
    """
    there = {path.split("/")[1] for path in found.arrays}
    layers = list(outputs)
    missing = [n for n in layers if n in expected["params"] and n not in there]
    if not there or not missing:
        return None
    above = [n for n in layers[layers.index(missing[0]) :] if n in expected["params"]]
    if above != missing or outputs[missing[0]].ndim != 2:
        return None
    if other := [*found.surplus, *found.aside]:
        raise UserError(
            f"all but the classifier is there, which has other names ({other[0]!r:.80}): "
            "remove it from the file to load the base without one"
        )
    cut = layers[layers.index(missing[0]) - 1]
    logger.log(level, "the weights have no %s: the base ends at %s", " and ".join(missing), cut)
    return cut


def _classes(found: convert.Found) -> int:
    head = found.arrays.get(convert.HEAD)
    return head.shape[-1] if head is not None and head.ndim == 2 else 1000
