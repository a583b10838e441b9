"""A reader of the weights in Keras's HDF5 files, without Keras.

There are two layouts: that of `.weights.h5` (keras/src/saving/saving_lib.py), and the older one of
other `.h5` files, whole models included (keras/src/legacy/saving/legacy_h5_format.py), both in
https://github.com/keras-team/keras
"""

import mmap
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from tl_jax.errors import UserError
from tl_jax.weights import hdf5
from tl_jax.weights.reading import AGAIN, reading

_DEEPEST = 32  # levels of groups
_RESAVE = "save the weights again with Keras"

# class: its variables in Keras's order
_VARIABLES = {
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "depthwise_conv2d": ("depthwise_kernel", "bias"),
}
# Keras 1's names of variables, as in `block1_conv1_W_1:0`; its running_std is a variance.
_OLD = re.compile(r".*_(W|b|gamma|beta|running_mean|running_std)(?:_[0-9]+)?")
_OLD_LEAVES = {
    "W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance",
}  # fmt: skip
_AUTOMATIC = re.compile(
    "(conv2d|depthwise_conv2d|separable_conv2d|batch_normalization|dense)(?:_([0-9]{1,9}))?"
)


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays, read-only, by name: `layer/kernel`, `layer/moving_mean`, ...

    Variables have their names in today's Keras. UserError if the file is not a whole and harmless
    file of Keras that has the layers' names.
    """
    path = Path(path)
    with reading(path), path.open("rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            arrays, room = {}, len(raw)
            for name, thing in _arrays(hdf5.root(raw)):
                if name in arrays:
                    raise UserError(f"has two arrays with the name {name!r:.80}; rename a layer")
                try:
                    arrays[name] = hdf5.array(thing, room)
                except UserError as error:
                    raise UserError(f"its array {name!r:.80} {error}") from None
                room -= arrays[name].nbytes
        if not arrays:
            raise UserError("holds no arrays; give a file of weights")
        return arrays


def renumbered(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the state with Keras's automatic names numbered from 0 in each class of layers.

    `conv2d_5/kernel:0`, `conv2d_7/kernel:0` become `conv2d_0/kernel`, `conv2d_1/kernel`: Keras
    counts the layers of all models in a process. Other names only lose a final `:0`.
    """
    modules = {}  # {class: {module: number}}
    for name in state:
        module = name.rpartition("/")[0]
        if match := _AUTOMATIC.fullmatch(module):
            modules.setdefault(match[1], {})[module] = int(match[2] or 0)
    new_names = {
        module: f"{kind}_{position}"
        for kind, numbers in modules.items()
        for position, module in enumerate(sorted(numbers, key=numbers.__getitem__))
    }
    renamed = {}
    for name, array in state.items():
        module, slash, leaf = name.removesuffix(":0").rpartition("/")
        name = f"{new_names.get(module, module)}{slash}{leaf}"
        if name in renamed:
            raise UserError(f"has two arrays with the name {name!r:.80}; rename one")
        renamed[name] = array
    return renamed


def _arrays(root: hdf5.Object) -> Iterator[tuple[str, hdf5.Object]]:
    members = dict(hdf5.members(root))
    root = members.get("model_weights", root)
    if {"layer_names", "layer_names0"} & hdf5.attributes(root).keys():
        return _legacy(root)
    if {"layers", "_layer_checkpoint_dependencies"} & members.keys():
        return _numbered(root)
    raise UserError("is an HDF5 file, but not one of Keras's weights; give a weight file of Keras")


def _legacy(root: hdf5.Object) -> Iterator[tuple[str, hdf5.Object]]:
    """Yield the arrays of the older layout: each layer is a group with `weight_names`.

    The names of layers may have slashes. The groups' names say what that attribute says, so it need
    not be read.
    """
    layers = {}
    for path, thing in _walk(root):
        if not thing.is_group:
            layer = next((p for p in path.parents if p in layers), None)
            if layer is None:
                raise UserError(f"its array {str(path)!r:.80} belongs to no layer; {_RESAVE}")
            layers[layer].append((path.relative_to(layer), thing))
        elif {"weight_names", "weight_names0"} & hdf5.attributes(thing).keys():
            layers[path] = []
    for layer, arrays in layers.items():
        leaves = [_leaf(path.name) for path, _ in arrays]
        # An array's path need not begin with the layer's name. If a layer is a whole model, the
        # path tells which of its layers has the array.
        nested = len(set(leaves)) < len(leaves)
        for (path, thing), leaf in zip(arrays, leaves, strict=True):
            yield f"{path.parent if nested else layer}/{leaf}", thing


def _leaf(name: str) -> str:
    leaf = name.split(":")[0]
    if match := _OLD.fullmatch(leaf):
        return _OLD_LEAVES.get(match[1], match[1])
    return leaf


def _numbered(root: hdf5.Object) -> Iterator[tuple[str, hdf5.Object]]:
    """Yield the arrays of `.weights.h5`: a layer's group is named after its class, and its member
    `vars` has arrays 0, 1, ...
    """
    for path, thing in _walk(root):
        if path.parts[0] == "optimizer":
            continue
        if thing.is_group and path.name == "vars":
            yield from _layer(thing, path)
        elif not thing.is_group and path.parent.name != "vars":
            raise UserError(f"its array {str(path)!r:.80} belongs to no layer; {_RESAVE}")


def _layer(group: hdf5.Object, path: PurePosixPath) -> Iterator[tuple[str, hdf5.Object]]:
    arrays = dict(hdf5.members(group))
    count = len(arrays)
    if not count:
        return
    kind = re.sub("_[0-9]+$", "", path.parent.name)
    leaves = _VARIABLES.get(kind, ())
    if kind == "batch_normalization":  # without `scale` it has no gamma, without `center` no beta
        leaves = leaves[-count:] if count > 1 else ()
    if count > len(leaves) or arrays.keys() != {str(i) for i in range(count)}:
        raise UserError(
            f"has {count} arrays in {str(path)!r:.80}, which cannot be named; known layers are "
            + ", ".join(_VARIABLES)
        )
    address = hdf5.attributes(group).get("name")
    if address is None:
        raise UserError(
            "does not have its layers' names: Keras before 3.6 did not save them; load the model "
            "in Keras and save it by model.save('name.h5')"
        )
    name = hdf5.text(group.file, address)
    if not name:
        raise UserError(f"its layer {str(path)!r:.80} has no plain name; {_RESAVE}")
    for i in range(count):
        yield f"{name}/{leaves[i]}", arrays[str(i)]


def _walk(root: hdf5.Object) -> Iterator[tuple[PurePosixPath, hdf5.Object]]:
    """Yield each group and array below `root` with its path; a group comes before its members."""
    groups = [(PurePosixPath(), root)]
    for folder, group in groups:
        for key, thing in hdf5.members(group):
            yield folder / key, thing
            if thing.is_group:
                groups.append((folder / key, thing))
                if len(folder.parts) == _DEEPEST:
                    raise UserError(f"has groups more than {_DEEPEST} deep; {AGAIN}")
