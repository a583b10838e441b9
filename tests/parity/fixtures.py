"""Weights and inputs that are functions of a seed and a name, by the rule in README.md."""

import json
import pathlib
import zlib
from typing import Any, NamedTuple

import numpy as np


class Fixture(NamedTuple):
    meta: dict[str, Any]
    inputs: np.ndarray  # (2, H, W, 3)
    features: np.ndarray  # (2, D), the classifier's input
    logits: np.ndarray  # (2, 1000)


def load(name: str) -> Fixture:
    with np.load(pathlib.Path(__file__).with_name(f"{name}.npz"), allow_pickle=False) as arrays:
        meta = json.loads(str(arrays["meta"]))
        features, logits = arrays["features"], arrays["logits"]
    inputs = _generator(meta, "input").standard_normal(meta["input_shape"]).astype(np.float32)
    return Fixture(meta, inputs, features, logits)


def state_dict(meta: dict[str, Any]) -> dict[str, np.ndarray]:
    """The reference's weights by PyTorch's names."""
    arrays = {name: _weight(_generator(meta, name), name, s) for name, s in meta["entries"]}
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def _generator(meta: dict[str, Any], name: str) -> np.random.Generator:
    return np.random.default_rng([meta["seed"], zlib.crc32(name.encode())])


def _weight(rng: np.random.Generator, name: str, shape: list[int]):
    match name.rsplit(".", 1)[-1]:
        case "num_batches_tracked":
            return 0
        case "running_var":
            return 0.5 + rng.random(shape)
        case "running_mean" | "bias":
            return 0.1 * rng.standard_normal(shape)
        case _ if len(shape) <= 1:
            return 1 + 0.1 * rng.standard_normal(shape)
    return rng.standard_normal(shape) * np.sqrt(1.6 / np.prod(shape[1:]))
