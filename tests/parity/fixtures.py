"""Weights and inputs that are functions of a seed and a name, by the rule in README.md."""

import json
import pathlib
import re
import zlib
from typing import Any, NamedTuple

import numpy as np


class Fixture(NamedTuple):
    meta: dict[str, Any]
    inputs: np.ndarray  # (2, H, W, 3)
    features: np.ndarray  # (2, D), the classifier's input
    logits: np.ndarray  # (2, 1000)


def names() -> list[str]:
    """Of the fixtures with weights by the rule."""
    files = pathlib.Path(__file__).parent.glob("*.npz")
    return sorted(file.stem for file in files if "-real-" not in file.stem)


def meta(name: str) -> dict[str, Any]:
    """What a fixture says of itself, without its arrays."""
    with _opened(name) as arrays:
        return json.loads(str(arrays["meta"]))


def _opened(name: str):
    return np.load(pathlib.Path(__file__).with_name(f"{name}.npz"), allow_pickle=False)


def load(name: str) -> Fixture:
    with _opened(name) as arrays:
        meta = json.loads(str(arrays["meta"]))
        features, logits = arrays["features"], arrays["logits"]
    inputs = _generator(meta, "input").standard_normal(meta["input_shape"]).astype(np.float32)
    return Fixture(meta, inputs, features, logits)


def state_dict(meta: dict[str, Any]) -> dict[str, np.ndarray]:
    """The reference's weights by its own names."""
    arrays = {name: _weight(meta, name, shape) for name, shape in meta["entries"]}
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def _generator(meta: dict[str, Any], name: str) -> np.random.Generator:
    return np.random.default_rng([meta["seed"], zlib.crc32(name.encode())])


def _weight(meta: dict[str, Any], name: str, shape: list[int]):
    rng = _generator(meta, name)
    match re.split(r"[./]", name)[-1]:
        case "num_batches_tracked":
            return 0
        case "running_var" | "moving_variance":
            return 0.5 + rng.random(shape)
        case "running_mean" | "moving_mean" | "bias" | "beta":
            return 0.1 * rng.standard_normal(shape)
        case _ if len(shape) <= 1:
            return 1 + 0.1 * rng.standard_normal(shape)
        case "depthwise_kernel":
            inputs = shape[:2]
        case _:
            inputs = shape[1:] if meta.get("layout") != "keras" else shape[:-1]
    return rng.standard_normal(shape) * np.sqrt(1.6 / np.prod(inputs))
