"""A finished run's network in one safetensors file, with all that is needed to use it again."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import numpy as np

from tl_jax import heads, models
from tl_jax.base import fingerprint
from tl_jax.chain import COLLECTIONS, Chain
from tl_jax.data import views
from tl_jax.errors import UserError
from tl_jax.preprocessing import Preprocessing


class Model(NamedTuple):
    """A classifier ready for use."""

    chain: Chain
    variables: Any
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    views: str  # over which its probabilities are to be averaged


def with_head(base_chain: Chain, cut: str, classes: int, dropout: float) -> Chain:
    """The chain cut at a layer, with a fresh linear head on top."""
    if cut == base_chain.names[-1]:
        below = base_chain.names[-2]
        raise UserError(f"a cut at {cut!r} would keep the old classifier; cut below it: {below!r}")
    return base_chain.cut(cut).with_head(*heads.linear(classes, dropout=dropout))


def save(path: pathlib.Path, model: Model, *, base: str, cut: str) -> None:
    """Write the model; `base` and `cut` say how its chain is built again.

    UserError if the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    flat = flax.traverse_util.flatten_dict(model.variables, sep="/")
    about = {
        "base": base,
        "cut": cut,
        "classes": model.classes,
        "preprocessing": dataclasses.asdict(model.preprocessing),
        "views": model.views,
    }
    about["checksum"] = _checksum(about, model.variables)
    arrays = {name: np.ascontiguousarray(array) for name, array in flat.items()}
    partial = path.with_suffix(".partial")
    try:
        save_file(arrays, partial, {"tl_jax": json.dumps(about)})
    except SafetensorError as error:  # what it makes of any OSError
        partial.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written, is the disk full? ({error})") from error
    partial.replace(path)


def load(path: pathlib.Path) -> Model:
    """Read a model; UserError if the file is missing, damaged or not one of ours."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"no finished run there: {path} does not exist")
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads((file.metadata() or {})["tl_jax"])
            flat = {name: file.get_tensor(name) for name in file.keys()}
        return _model(about, flat)
    except (AttributeError, LookupError, RecursionError, SafetensorError, TypeError,
            ValueError) as error:  # fmt: skip
        why = next(iter(str(error).splitlines()), "")  # JAX explains itself on several lines
        raise UserError(f"{path} is damaged or not a model of tl_jax: {why}") from error


def _model(about: dict, flat: dict[str, np.ndarray]) -> Model:
    """The model, if what the file says of it and the arrays fit together; almost any error else."""
    preprocessing = Preprocessing(**_tuples(about["preprocessing"]))
    classes = tuple(map(str, about["classes"]))
    views.count(about["views"])
    chain = models.family(about["base"]).build(about["base"])
    chain = with_head(chain, about["cut"], len(classes), dropout=0.0)
    pixels = jax.ShapeDtypeStruct((1, preprocessing.size, preprocessing.size, 3), np.uint8)
    expected = chain.shapes(jax.eval_shape(preprocessing.normalise, pixels).shape)[0]
    expected = flax.traverse_util.flatten_dict(expected, sep="/")
    if {n: (a.shape, a.dtype) for n, a in flat.items()} != {
        n: (a.shape, a.dtype) for n, a in expected.items()
    }:
        raise ValueError(f"its parameters are not those of {about['base']} cut at {about['cut']}")
    variables = {c: {} for c in COLLECTIONS} | flax.traverse_util.unflatten_dict(flat, sep="/")
    if about.pop("checksum") != _checksum(about, variables):
        raise ValueError("its contents differ from their checksum")
    return Model(chain, variables, preprocessing, classes, about["views"])


def _checksum(about: dict, variables: Any) -> str:
    text = json.dumps(about, sort_keys=True) + fingerprint(variables)
    return hashlib.sha256(text.encode()).hexdigest()


def _tuples(fields: dict) -> dict:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
