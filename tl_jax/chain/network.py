"""A network as a chain of named layers: the output of one is the whole input of the next.

Places in the chain are layer names. `stop=name` ends with that layer's output; `start=name` takes
`x` as that layer's output and goes on above it, so that `apply(v, apply(v, x, stop=n).output,
start=n)` is `apply(v, x)`.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import ops
from tl_jax.errors import UserError, unknown

Variables = Mapping[str, Mapping[str, Any]]
COLLECTIONS = ("params", "batch_stats")
MAX_PARAMETERS = 2**31


class Layer(NamedTuple):
    """One named element of a chain; `module` is a Linen module called with one array."""

    name: str
    module: nn.Module


class Applied(NamedTuple):
    """What `Chain.apply` gives."""

    output: jax.Array  # the last layer's output
    batch_stats: dict[str, Any]  # of every layer that has some, by layer, after this application
    taps: dict[str, jax.Array]  # the outputs asked for, by layer


@dataclasses.dataclass(frozen=True)
class Chain:
    """An ordered tuple of named layers."""

    layers: tuple[Layer, ...]

    def __post_init__(self):
        repeated = {n for n in self.names if self.names.count(n) > 1}
        if repeated:
            raise UserError(f"layer names must be unique in a chain; repeated: {sorted(repeated)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Layer names in forward order."""
        return tuple(layer.name for layer in self.layers)

    def index(self, name: str) -> int:
        """Position of the layer in forward order; UserError with the near miss if unknown."""
        if name not in self.names:
            raise unknown("layer", name, self.names)
        return self.names.index(name)

    def between(self, start: str | None, stop: str | None) -> tuple[Layer, ...]:
        """The layers above `start` up to and with `stop`; None is the chain's end on that side."""
        first = 0 if start is None else self.index(start) + 1
        last = len(self.layers) if stop is None else self.index(stop) + 1
        if last < first:
            raise UserError(f"layer {stop!r} comes before {start!r}: nothing is between them")
        return self.layers[first:last]

    def cut(self, name: str) -> "Chain":
        """The chain up to and with the layer `name`."""
        return Chain(self.between(None, name))

    def with_head(self, *head: Layer) -> "Chain":
        """The chain with the layers `head` on top."""
        return Chain(self.layers + head)

    def apply(
        self,
        variables: Variables,
        x: jax.Array,
        *,
        start: str | None = None,
        stop: str | None = None,
        train: bool | Collection[str] = False,
        batch_norm: bool | Collection[str] | None = None,
        taps: Collection[str] = (),
        rng: jax.Array | None = None,
    ) -> Applied:
        """Run the layers above `start` up to and with `stop` on `x` (N, ...).

        Layers in `train` (True: all) draw dropout masks from `rng`; layers in `batch_norm`
        (default: those in `train`) normalise by the batch and update their statistics. All others
        run in inference mode: nothing of them is mutable. Without `rng` there is no dropout.
        Asking for `taps` keeps those layers' outputs.
        """
        layers = self.between(start, stop)
        names = [layer.name for layer in layers]
        train = self._chosen(train)
        norm = train if batch_norm is None else self._chosen(batch_norm)
        for name in taps:
            if name not in names:
                raise unknown("layer among those applied", name, names)
        stats, kept = {}, {}
        for name, module in layers:
            own = {c: variables[c][name] for c in COLLECTIONS if name in variables.get(c, {})}
            rngs = {}
            if name in train and rng is not None:
                # By name, so that a layer draws the same masks wherever in the chain one starts.
                rngs["dropout"] = jax.random.fold_in(rng, zlib.crc32(name.encode()))
            if name in norm and "batch_stats" in own:
                x, changed = module.apply(own, x, rngs=rngs, mutable=["batch_stats"])
                stats[name] = changed["batch_stats"]
            else:
                x = module.apply(own, x, rngs=rngs)
                if "batch_stats" in own:
                    stats[name] = own["batch_stats"]
            if name in taps:
                kept[name] = ops.materialise(x)
        return Applied(x, stats, kept)

    def _chosen(self, layers: bool | Collection[str]) -> tuple[str, ...]:
        if isinstance(layers, bool):
            return self.names if layers else ()
        if isinstance(layers, str):
            layers = (layers,)
        for name in layers:
            self.index(name)
        return tuple(layers)

    def shapes(self, input_shape: Sequence[int]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Variables and layer outputs for inputs of `input_shape` (N, H, W, C), as shapes.

        Nothing is computed: leaves are `ShapeDtypeStruct`s. Returns ({collection: {layer: tree}},
        {layer: output}). UserError if the input is too small for a layer.
        """
        x = jax.ShapeDtypeStruct(tuple(input_shape), jnp.float32)
        variables: dict[str, Any] = {c: {} for c in COLLECTIONS}
        outputs = {}
        for name, module in self.layers:
            before = x.shape
            try:
                x, own = _traced(module, x.shape)
            except (TypeError, ValueError, ZeroDivisionError) as error:
                if isinstance(error, UserError) or min(before[1:]) >= 8:  # not for want of space
                    raise
                x = jax.ShapeDtypeStruct((0,), jnp.float32)
            if 0 in x.shape:
                height, width = input_shape[1:3]
                raise UserError(
                    f"inputs of {height} x {width} pixels are too small: nothing of them is left "
                    f"in layer {name!r}"
                )
            for collection, tree in own.items():
                variables[collection][name] = jax.tree.map(lambda leaf: leaf, tree)  # a copy
            outputs[name] = x
        return variables, outputs

    def init(
        self, seed: int, input_shape: Sequence[int], layers: Collection[str] | None = None
    ) -> dict[str, Any]:
        """Fresh float32 variables (numpy), a function of the seed and the parameter's name alone.

        Of `layers`, or of all.

        Convolutions: He et al. 2015, eq. 10 (standard deviation sqrt(2 / fan_in)); dense kernels:
        sqrt(1 / fan_in), or 0 in a module whose field `zero` is true; norms' scales and variances
        1; biases and means 0. Filled by numpy, because compiling JAX's random generator for each
        kernel shape takes tens of seconds.
        """
        abstract = select(self.shapes(input_shape)[0], self.names if layers is None else layers)
        flat = flax.traverse_util.flatten_dict(abstract, sep="/", keep_empty_nodes=True)
        sizes = {p: v.size for p, v in flat.items() if hasattr(v, "size")}
        if sum(sizes.values()) > MAX_PARAMETERS:
            largest = max(sizes, key=sizes.get)
            raise UserError(
                f"{sum(sizes.values()):,} parameters are too many, {sizes[largest]:,} of them "
                f"{largest}: pool before a dense layer, or take a smaller input"
            )
        empty = flax.traverse_util.empty_node

        def fill(path: str):
            return flat[path] if flat[path] is empty else _fresh(seed, path, flat[path].shape)

        with concurrent.futures.ThreadPoolExecutor() as threads:  # numpy lets them run at once
            found = threads.map(fill, flat)
        filled = dict(zip(flat, found, strict=True))
        for name in (name for name, module in self.layers if getattr(module, "zero", False)):
            own = (p for p in filled if p.startswith(f"params/{name}/"))
            filled |= {p: np.zeros_like(filled[p]) for p in own}
        return flax.traverse_util.unflatten_dict(filled, sep="/")


@functools.lru_cache(maxsize=2**10)  # nets repeat their layers, and are asked several times
def _traced(module: nn.Module, shape: tuple[int, ...]) -> tuple[Any, dict[str, Any]]:
    """A layer's output and variables for an input of `shape`, as shapes."""
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(module.init_with_output, jax.random.key(0), x)


def _fresh(seed: int, path: str, shape: tuple[int, ...]) -> np.ndarray:
    leaf = path.rsplit("/", 1)[-1]
    if leaf in ("bias", "mean"):
        return np.zeros(shape, np.float32)
    if leaf in ("scale", "var"):
        return np.ones(shape, np.float32)
    if leaf != "kernel":
        raise UserError(f"no rule to initialise the parameter {path!r} of shape {shape}")
    rng = np.random.default_rng([seed, zlib.crc32(path.encode())])
    deviation = np.sqrt((2 if len(shape) == 4 else 1) / np.prod(shape[:-1]))
    return (deviation * rng.standard_normal(shape)).astype(np.float32)


def select(variables: Any, layers: Sequence[str]) -> dict[str, Any]:
    """Of every collection, the part that belongs to the layers."""
    return {c: {n: variables[c][n] for n in layers if n in variables[c]} for c in COLLECTIONS}


def merged(variables: Any, others: Any) -> dict[str, Any]:
    """`variables` with those of the layers in `others` taken from there."""
    return {c: {**variables[c], **others[c]} for c in COLLECTIONS}


def forward(chain: Chain, variables: Variables, x: jax.Array, *, start=None, stop=None):
    """`chain.apply` in inference mode, compiled once per chain, place and shape."""
    return forward_program(chain, start, stop)(variables, x)


@functools.lru_cache(maxsize=32)
def forward_program(chain: Chain, start: str | None, stop: str | None) -> ops.Inference:
    """The function of variables and `x` that `forward` calls."""

    def apply(variables, x):
        return chain.apply(variables, x, start=start, stop=stop).output

    return ops.inference(apply)


def fingerprint(tree: Any) -> str:
    """A hash of every name, shape, type and byte in a tree of arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        digest.update(array.view(np.uint8))  # bfloat16 has no buffer of its own
    return digest.hexdigest()
