"""A finished run's network in one safetensors file, with all that is needed to use it again."""

import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import flax.traverse_util
import numpy as np

from tl_jax import heads, models
from tl_jax.chain import COLLECTIONS, Chain
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
    return base_chain.cut(cut).with_head(*heads.linear(classes, dropout=dropout))


def save(path: pathlib.Path, model: Model, *, base: str, cut: str) -> None:
    """Write the model; `base` and `cut` say how its chain is built again."""
    from safetensors.numpy import save_file

    flat = flax.traverse_util.flatten_dict(model.variables, sep="/")
    about = {
        "base": base,
        "cut": cut,
        "classes": model.classes,
        "preprocessing": dataclasses.asdict(model.preprocessing),
        "views": model.views,
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in flat.items()}
    partial = path.with_suffix(".partial")
    save_file(arrays, partial, {"tl_jax": json.dumps(about)})
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
        preprocessing = Preprocessing(**_tuples(about["preprocessing"]))
        classes, views = tuple(about["classes"]), about["views"]
        chain = models.family(about["base"]).build(about["base"])
        chain = with_head(chain, about["cut"], len(classes), dropout=0.0)
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is damaged or not a model of tl_jax: {error}") from error
    size = preprocessing.size
    expected = flax.traverse_util.flatten_dict(chain.shapes((1, size, size, 3))[0], sep="/")
    if {n: a.shape for n, a in flat.items()} != {n: a.shape for n, a in expected.items()}:
        raise UserError(f"{path} does not hold the parameters of {about['base']} cut at {about['cut']}")
    variables = {c: {} for c in COLLECTIONS} | flax.traverse_util.unflatten_dict(flat, sep="/")
    return Model(chain, variables, preprocessing, classes, views)


def _tuples(fields: dict) -> dict:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
