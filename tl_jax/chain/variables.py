"""Variables of a network, {collection: {layer: tree}}: draw, select, merge, hash, infer shapes."""

import concurrent.futures
import functools
import hashlib
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.chain.places import Layer, Tie
from tl_jax.errors import UserError, unknown

Variables = Mapping[str, Mapping[str, Any]]
COLLECTIONS = ("params", "batch_stats")
MAX_PARAMETERS = 2**31


def select(variables: Any, layers: Collection[str]) -> dict[str, Any]:
    """Return the variables of these layers, from every collection."""
    return {c: {n: variables[c][n] for n in layers if n in variables[c]} for c in COLLECTIONS}


def merged(variables: Any, others: Any) -> dict[str, Any]:
    """Return `variables` with the leaves of `others` in place of its own."""
    return {c: overlaid(variables[c], others[c]) for c in COLLECTIONS}


def between(first: Any, last: Any, share: float) -> dict[str, Any]:
    """The variables `last`, or those a `share` of the way to them from their values in `first`."""
    if share == 1:
        return last
    ends = flat(first), flat(last)
    moved = {
        path: ends[0][path] + np.float32(share) * (leaf - ends[0][path])
        for path, leaf in ends[1].items()
        if hasattr(leaf, "shape")
    }
    return nested({**ends[1], **moved})


def overlaid(tree: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested dictionary `tree` with the leaves of `others` in place of its own."""
    return {**tree} | {
        name: overlaid(tree[name], value)
        if isinstance(value, Mapping) and isinstance(tree.get(name), Mapping)
        else value
        for name, value in others.items()
    }


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves by path, "layer/.../leaf"; empty dictionaries stay."""
    return flax.traverse_util.flatten_dict(tree, sep="/", keep_empty_nodes=True)


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested dictionary of leaves by path."""
    return flax.traverse_util.unflatten_dict(dict(leaves), sep="/")


def shapes(
    layers: Sequence[Layer], ties: Sequence[Tie], inputs: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return variables {collection: {layer: tree}} and outputs {layer: output}, as shapes.

    `inputs` has arrays or `ShapeDtypeStruct`s by place; the results' leaves are
    `ShapeDtypeStruct`s, and nothing is computed. UserError if images are too small for a layer.
    """
    variables: dict[str, Any] = {c: {} for c in COLLECTIONS}
    values = {name: jax.tree.map(_shape, value) for name, value in inputs.items()}
    for layer in layers:
        name = layer.name
        for place in layer.places:
            if place not in values:
                raise unknown(f"place that layer {name!r} reads", place, values)
        try:
            read = [values[place] for place in layer.places]
            value, created = _traced_in_space(layer.module, read)
        except _NoRoom:
            raise UserError(
                f"inputs of {_sides(inputs)} are too small: the output of layer {name!r} would be "
                "empty"
            ) from None
        for collection, tree in created.items():
            variables[collection][name] = jax.tree.map(lambda leaf: leaf, tree)  # a copy
        values[name] = value
    if tied := {tie.to for tie in ties if tie.whole}:
        leaves = flat(variables["params"])
        variables["params"] = nested({p: s for p, s in leaves.items() if p not in tied})
    return variables, {layer.name: values[layer.name] for layer in layers}


class _NoRoom(Exception):
    """An image has become too small for a layer."""


def _traced_in_space(module: nn.Module, read: list[Any]) -> tuple[Any, dict]:
    """Return output and variables of a layer, as shapes; _NoRoom if its output would be empty."""
    sides = read[0].shape[1:] if read and hasattr(read[0], "shape") else ()
    try:
        value, created = _traced(module, *_hashable(read))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        if isinstance(error, UserError) or not sides or min(sides) >= 8:  # not for lack of space
            raise
        raise _NoRoom from error
    if any(0 in leaf.shape for leaf in jax.tree.leaves(value)):
        raise _NoRoom
    return value, created


def _sides(inputs: Mapping[str, Any]) -> str:
    """Describe the sides of the first input, as in "28 x 28 pixels"."""
    height, *width = next(iter(inputs.values())).shape[1:3]
    return f"{height} x {width[0]} pixels" if width else f"length {height}"


def zeros(module: nn.Module, variables: Any, read: Sequence[Any]) -> Any:
    """Return zeros like a module's output for such variables and such values, which it reads."""
    if all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables)):
        value, _ = _traced(module, *_hashable([jax.tree.map(_shape, value) for value in read]))
    else:
        value = _applied(module, *_hashable([variables, *read]))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), value)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _hashable(values: Sequence[Any]) -> tuple[Any, tuple]:
    leaves, structure = jax.tree.flatten(list(values))
    return structure, tuple((leaf.shape, jnp.dtype(leaf.dtype)) for leaf in leaves)


@functools.lru_cache(maxsize=2**10)  # networks repeat layers, and each is traced several times
def _traced(module: nn.Module, structure: Any, leaves: tuple) -> tuple[Any, dict[str, Any]]:
    """Return a module's output and variables for inputs of such shapes, as shapes."""
    read = structure.unflatten(jax.ShapeDtypeStruct(*leaf) for leaf in leaves)
    with jax.enable_x64(False):  # whatever the program around it does, weights are float32
        return jax.eval_shape(module.init_with_output, jax.random.key(0), *read)


@functools.lru_cache(maxsize=2**10)
def _applied(module: nn.Module, structure: Any, leaves: tuple) -> Any:
    """Return a module's output for variables and inputs of such shapes, as shapes."""
    arguments = structure.unflatten(jax.ShapeDtypeStruct(*leaf) for leaf in leaves)
    return jax.eval_shape(module.apply, *arguments)


def init(
    layers: Sequence[Layer],
    ties: Sequence[Tie],
    inputs: Mapping[str, Any],
    *,
    seed: int,
    of: Collection[str],
) -> dict[str, Any]:
    """Return fresh float32 variables (numpy) of the layers in `of`, for inputs as in `shapes`.

    They depend on the seed and the parameter's name alone. Kernels of convolutions are drawn with
    a standard deviation of sqrt(2 / fan_in) (He et al. 2015, eq. 10), those of dense layers with
    sqrt(1 / fan_in), or are 0 in a module whose field `zero` is true. Scales and variances are 1,
    biases and means 0; the module initialises all other parameters. numpy draws them, because
    compiling JAX's random generator for each kernel shape takes tens of seconds. UserError for
    more than `MAX_PARAMETERS`.
    """
    everything, outputs = shapes(layers, ties, inputs)
    leaves = flat(select(everything, of))
    sizes = {p: v.size for p, v in leaves.items() if hasattr(v, "size")}
    if sum(sizes.values()) > MAX_PARAMETERS:
        largest = max(sizes, key=sizes.__getitem__)
        raise UserError(
            f"{sum(sizes.values()):,} parameters are too many, {sizes[largest]:,} of them "
            f"{largest}: pool before a dense layer, or take a smaller input"
        )
    by_name = {layer.name: layer for layer in layers}
    known = {**inputs, **outputs}
    others = functools.cache(lambda name: _by_module(by_name[name], seed, known))

    def by_module(path: str) -> Any:
        collection, name, *_ = path.split("/")
        return flat({collection: {name: others(name)[collection]}})[path]

    with concurrent.futures.ThreadPoolExecutor() as threads:  # numpy releases the GIL
        ruled = threads.map(functools.partial(_by_rule, seed), leaves, leaves.values())
        filled = dict(zip(leaves, ruled, strict=True))
    # In one thread: of two that compile the same program, one would read from JAX's cache on disk
    # what the other has written half.
    for path in [path for path, leaf in filled.items() if leaf is None]:
        filled[path] = by_module(path)
    for name in (n for n, module, _ in layers if getattr(module, "zero", False)):
        paths = (p for p in filled if p.startswith(f"params/{name}/"))
        filled |= {p: np.zeros_like(filled[p]) for p in paths}
    return {c: {} for c in COLLECTIONS} | nested(filled)


def redrawn(params: Any, seed: int) -> Any:
    """Draw parameters (numpy) anew: normal, with the mean and standard deviation of each array.

    A function of the seed, the parameters' names and those two numbers.
    """
    leaves = flat(params)
    drawn = {
        path: _generator(seed, path).normal(leaf.mean(), leaf.std(), leaf.shape).astype(leaf.dtype)
        for path, leaf in leaves.items()
        if hasattr(leaf, "shape")
    }
    return nested(leaves | drawn)


def _by_rule(seed: int, path: str, leaf: Any) -> Any:
    """Return a fresh leaf like this one by the rule for its name; None if no rule applies."""
    name = path.rsplit("/", 1)[-1]
    if leaf is flax.traverse_util.empty_node:
        return leaf
    if name in ("bias", "mean"):
        return np.zeros(leaf.shape, np.float32)
    if name in ("scale", "var"):
        return np.ones(leaf.shape, np.float32)
    if name != "kernel":
        return None
    deviation = np.sqrt((2 if len(leaf.shape) == 4 else 1) / np.prod(leaf.shape[:-1]))
    return (deviation * _generator(seed, path).standard_normal(leaf.shape)).astype(np.float32)


def _generator(seed: int, path: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(path.encode())])


def _by_module(layer: Layer, seed: int, known: Mapping[str, Any]) -> dict:
    """Return a layer's variables as its module initialises them; `known` has shapes by place."""
    shapes_read = [known[place] for place in layer.places]
    read = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes_read)
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(layer.name.encode()))
    drawn = jax.tree.map(np.asarray, _initialised(layer.module, key, *read))
    return jax.tree.map(lambda a: a.astype(np.float32), drawn)


@functools.partial(jax.jit, static_argnums=0)  # compiled once for layers that are alike
def _initialised(module: nn.Module, key: jax.Array, *read: Any) -> Any:
    return module.init(key, *read)


def fingerprint(tree: Any) -> str:
    """Return a hash of every name, shape, dtype and byte in a tree of arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        digest.update(array.view(np.uint8).data)  # bfloat16 arrays have no buffer interface
    return digest.hexdigest()
