"""A network in one safetensors file, with all that is needed to use it again."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.traverse_util
import numpy as np

from tl_jax.base.architecture import Architecture
from tl_jax.chain import answers
from tl_jax.chain.network import Network
from tl_jax.chain.variables import COLLECTIONS, fingerprint
from tl_jax.data import expects, views
from tl_jax.data.expects import Expected
from tl_jax.errors import UserError
from tl_jax.weights.safetensors_file import EXPORT, metadata
from tl_jax.whole import whole

NAME = "model.safetensors"  # of a finished run's file


class Model(NamedTuple):
    """A network ready for use."""

    architecture: Architecture
    variables: Any
    preprocessing: Expected
    classes: tuple[str, ...] = ()  # names, where they are known
    views: str = "none"  # over which its probabilities are to be averaged
    answers: str = "classes"  # what its outputs say (`tl_jax.chain.answers`)

    @property
    def chain(self) -> Network:
        return self.architecture.chain()


def save(path: pathlib.Path, model: Model) -> None:
    """Write the model; UserError if the disk is full."""
    about = {
        "architecture": dataclasses.asdict(model.architecture),
        "classes": model.classes,
        "preprocessing": dataclasses.asdict(model.preprocessing),
        "views": model.views,
        "answers": model.answers,
    }
    about["checksum"] = _checksum(about, model.variables)
    flat = flax.traverse_util.flatten_dict(model.variables, sep="/")
    put(path, flat, {EXPORT: json.dumps(about)})


def put(path: pathlib.Path, arrays: Mapping[str, Any], metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all; UserError if the disk is full."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: name a file in a folder that exists")
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    try:
        with whole(path) as partial:
            partial.touch()  # with the rights of this user's new files, which the library narrows
            rights = partial.stat().st_mode
            save_file(arrays, partial, metadata)
            partial.chmod(rights)
    except (OSError, SafetensorError) as error:  # the latter is what it makes of any OSError
        raise UserError(f"{path} cannot be written, is the disk full? ({error})") from error


def load(path: pathlib.Path) -> Model:
    """Read a model; UserError if the file is missing, damaged or not one of ours."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        when = "; a run writes it at its end" if path.name == NAME else ""
        raise UserError(f"no model there: {path} does not exist{when}")
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads((file.metadata() or {})[EXPORT])
            flat = {name: file.get_tensor(name) for name in file.keys()}
        return _model(about, flat)
    except (AttributeError, LookupError, RecursionError, SafetensorError, TypeError,
            ValueError) as error:  # fmt: skip
        why = next(iter(str(error).splitlines()), "")  # JAX explains itself on several lines
        raise UserError(f"{path} is damaged or not a model of tl_jax: {why}") from error


def header(path: pathlib.Path) -> tuple[Architecture, Expected]:
    """What a file says of its model, without a look at the arrays; UserError as of `load`."""
    try:
        about = json.loads(metadata(path)[EXPORT])
        return (
            Architecture(**about["architecture"]),
            expects.made(about["preprocessing"]),
        )
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged or not a model of tl_jax: {error}") from error


def _model(about: dict, flat: dict[str, np.ndarray]) -> Model:
    """The model, if what the file says of it and the arrays fit together; almost any error else."""
    architecture = Architecture(**about["architecture"])
    preprocessing = expects.made(about["preprocessing"])
    classes = tuple(map(str, about["classes"]))
    said = about.get("answers", "classes")  # which older files have not
    if said != "classes" and not classes:
        raise ValueError("its answers have no names")
    if classes and answers.make(said).outputs(len(classes)) != architecture.classes:
        raise ValueError(f"{len(classes)} names for {architecture.classes} outputs")
    views.numbers(about["views"])
    shapes, _ = architecture.chain().shapes(preprocessing.example)
    expected: dict[str, Any] = flax.traverse_util.flatten_dict(shapes, sep="/")
    if {n: (a.shape, a.dtype) for n, a in flat.items()} != {
        n: (a.shape, a.dtype) for n, a in expected.items()
    }:
        raise ValueError(f"its parameters are not those of {architecture}")
    # In forward order: safetensors sorts names.
    flat = {name: flat[name] for name in expected}
    variables = {c: {} for c in COLLECTIONS} | flax.traverse_util.unflatten_dict(flat, sep="/")
    if about.pop("checksum") != _checksum(about, variables):
        raise ValueError("its contents differ from their checksum")
    return Model(architecture, variables, preprocessing, classes, about["views"], said)


def _checksum(about: dict, variables: Any) -> str:
    text = json.dumps(about, sort_keys=True) + fingerprint(variables)
    return hashlib.sha256(text.encode()).hexdigest()
