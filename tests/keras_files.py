"""Files in Keras's layouts, written with h5py, and the line with which one is refused."""

import functools
from pathlib import Path

import h5py
import numpy as np
import pytest
import refusals

from tl_jax.weights.keras_file import read_state_dict

W = np.arange(6, dtype="<f4").reshape(2, 3)
Arrays = dict[str, np.ndarray]


def add_legacy(root: h5py.Group, layers: dict[str, Arrays], *, pieces: int = 0) -> None:
    """Layers with their arrays by path in the layer's group, as legacy_h5_format.py saves them."""

    def listed(group: h5py.Group, key: str, names: list[str]) -> None:
        names = [name.encode() for name in names]
        if not pieces:
            group.attrs[key] = names
        for i, part in enumerate(np.array_split(names, pieces) if pieces else ()):
            group.attrs[f"{key}{i}"] = part

    listed(root, "layer_names", list(layers))
    for layer, arrays in layers.items():
        listed(root.create_group(layer), "weight_names", list(arrays))
        for name, array in arrays.items():
            root[layer][name] = array


def add_numbered(root: h5py.Group, layers: dict[str, tuple[str, list[np.ndarray]]]) -> None:
    """Layers' names and arrays by path of the group, as saving_lib.py saves them."""
    for group, (name, arrays) in layers.items():
        variables = root.create_group(f"{group}/vars")
        variables.attrs["name"] = name
        for i, array in enumerate(arrays):
            variables[str(i)] = array


def legacy(path: Path, layers: dict[str, Arrays], **options) -> Path:
    with h5py.File(path, "w") as file:
        add_legacy(file, layers, **options)
    return path


def numbered(path: Path, layers: dict[str, tuple[str, list[np.ndarray]]]) -> Path:
    with h5py.File(path, "w") as file:
        add_numbered(file, layers)
    return path


def plain_legacy(path: Path) -> Path:
    return legacy(path, {"fc": {"fc/kernel:0": W, "fc/bias:0": W[0]}, "flatten": {}})


def plain_numbered(path: Path) -> Path:
    return numbered(path, {"layers/dense": ("fc", [W, W[0]]), "layers/flatten": ("flatten", [])})


both_layouts = pytest.mark.parametrize("write", [plain_legacy, plain_numbered])


def assert_same(read: Arrays, expected: Arrays) -> None:
    assert read.keys() == expected.keys()
    for name, array in read.items():
        np.testing.assert_array_equal(array, expected[name])
        assert array.dtype == expected[name].dtype


refused = functools.partial(refusals.refused, read_state_dict)
