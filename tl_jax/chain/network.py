"""A network as named layers: a base's chain, and other layers that read its places.

A place is the name of an input ("image", "tokens", "lstm1.state") or of a layer. Values are known
at some places; `net(known, wanted)` runs the layers between these and the places wanted. A layer
reads the one before it by default; a tail reads another place, and a bare parameter reads nothing.
"""

import collections
import dataclasses
import functools
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax import ops
from tl_jax.chain import variables as fresh
from tl_jax.chain.places import BEFORE, IMAGE, Known, Layer, Tie, Unreachable
from tl_jax.chain.variables import Variables, flat, nested, overlaid
from tl_jax.errors import UserError, takes_whole, unknown

MAX_SEED = 2**63 - 1


# Inputs as shapes: of images, of what the first layer reads, or by place.
Example = Sequence[int] | jax.ShapeDtypeStruct | Mapping[str, Any]


class Applied(NamedTuple):
    """The result of `Network.apply`."""

    output: Any  # the value at `stop`
    batch_stats: dict[str, Any]  # by layer, after this call; only of layers that ran and have some
    taps: dict[str, Any]  # the requested outputs, by layer


@dataclasses.dataclass(frozen=True)
class Network:
    """Layers in forward order, with unique names; `ties` compute parameters from parameters."""

    layers: tuple[Layer, ...]
    ties: tuple[Tie, ...] = ()

    def __post_init__(self):
        counts = collections.Counter(layer.name for layer in self.layers)
        if repeated := sorted(name for name, count in counts.items() if count > 1):
            raise UserError(f"layer names must be unique in a network; repeated: {repeated}")
        before = (IMAGE, *(layer.name for layer in self.layers))
        resolved = tuple(
            layer._replace(reads=tuple(last if place == BEFORE else place for place in reads))
            for last, layer in zip(before, self.layers, strict=False)
            for reads in [(BEFORE,) if layer.reads is None else layer.reads]
        )
        object.__setattr__(self, "layers", resolved)
        for number, layer in enumerate(resolved):
            if later := set(layer.places) & set(before[number + 1 :]):
                raise UserError(f"layer {layer.name!r} reads {later.pop()!r}, which comes after it")

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The layers' names in forward order."""
        return tuple(layer.name for layer in self.layers)

    @functools.cached_property
    def inputs(self) -> tuple[str, ...]:
        """The places that layers read and that are not layers."""
        read = dict.fromkeys(place for layer in self.layers for place in layer.places)
        return tuple(place for place in read if place not in self.names)

    @functools.cached_property
    def below(self) -> dict[str, frozenset[str]]:
        """For each layer, the places that its output depends on, with itself and its ties."""
        below: dict[str, frozenset[str]] = {}
        for layer in self.layers:
            tied = [name for tie in self.ties if tie.layer == layer.name for name in tie.needs]
            places = {layer.name, *layer.places, *tied}
            below[layer.name] = frozenset(places.union(*(below.get(p, ()) for p in layer.places)))
        return below

    def index(self, name: str) -> int:
        """Return the layer's position in forward order; UserError with the near miss if unknown."""
        if name not in self.names:
            raise unknown("layer", name, self.names, ordered=True)
        return self.names.index(name)

    def path(self, known: Collection[str], wanted: Iterable[str]) -> tuple[Layer, ...]:
        """Return the layers that compute `wanted` from the places `known`; or raise Unreachable."""
        layers, needed, todo = dict(zip(self.names, self.layers, strict=True)), set(), list(wanted)
        while todo:
            place = todo.pop()
            if place in known or place in needed:
                continue
            if place not in layers:
                raise Unreachable(place, known)
            needed.add(place)
            todo += layers[place].places
        return tuple(layer for layer in self.layers if layer.name in needed)

    def between(self, start: str | None, stop: str | None) -> tuple[Layer, ...]:
        """Return the layers above `start` up to and including `stop`.

        `start` None is the network's inputs, `stop` None its last layer. UserError for unknown
        layers, and if `stop` cannot be computed from `start`.
        """
        for name in (start, stop):
            if name is not None:
                self.index(name)
        known = self.inputs if start is None else (start,)
        try:
            return self.path(known, [stop or self.names[-1]])
        except Unreachable:
            raise UserError(
                f"layer {stop!r} comes before {start!r}: nothing is between them"
            ) from None

    def cut(self, name: str) -> "Network":
        """Return the network of the layers that the output of `name` depends on."""
        self.index(name)
        below = self.below[name]
        layers = tuple(layer for layer in self.layers if layer.name in below)
        return Network(layers, tuple(tie for tie in self.ties if tie.layer in below))

    def with_layers(self, *layers: Layer) -> "Network":
        """Return the network with these layers after its own: a head, or tails."""
        return Network(self.layers + layers, self.ties)

    def weights(self, layers: Iterable[str]) -> tuple[str, ...]:
        """Return these layers and those that their ties read, in forward order."""
        needed: set[str] = set()
        todo = set(layers)
        while todo:
            needed |= todo
            todo = {name for tie in self.ties if tie.layer in todo for name in tie.needs} - needed
        return tuple(name for name in self.names if name in needed)

    def combine(self, params: Mapping[str, Any], trained: Mapping[str, Any] = {}) -> dict[str, Any]:
        """Return the parameters to run with: `params`, overlaid by `trained`, then by the ties.

        They may have some layers only, if they have these layers' `weights`: ties of other layers
        are skipped.
        """
        combined = overlaid(params, trained)
        if not self.ties:
            return combined
        leaves = flat(combined)
        for tie in self.ties:
            if tie.layer in combined or (tie.whole and combined.keys() >= set(tie.needs)):
                leaves[tie.to] = tie.make(leaves)
        return nested(leaves)

    def apply(
        self,
        variables: Variables,
        x: Any,
        *,
        start: str | None = None,
        stop: str | None = None,
        train: bool | Collection[str] = False,
        batch_norm: bool | Collection[str] | None = None,
        taps: Collection[str] = (),
        rng: jax.Array | None = None,
    ) -> Applied:
        """Run the layers above `start` up to and including `stop` on `x` (N, ...), or on the values
        of several places, a `Known`.

        Layers in `train` (True: all) draw dropout masks from `rng`; layers in `batch_norm`
        (default: those in `train`) normalise by the batch and update their running statistics. All
        others run in inference mode, where nothing is mutable. Without `rng` there is no dropout.
        The result includes the outputs of the layers in `taps`.
        """
        layers = self.between(start, stop)
        names = [layer.name for layer in layers]
        train = self._layer_names(train)
        norm = train if batch_norm is None else self._layer_names(batch_norm)
        for name in taps:
            if name not in names:
                raise unknown("layer among those applied", name, names)
        stats = variables.get("batch_stats", {})
        params = variables.get("params", {})
        params = self.combine(params) if self.ties else params
        net = Net(self, params, stats, train=train, norm=norm, key=rng)
        known = x if isinstance(x, Known) else Known({start or self.inputs[0]: x})
        output, *tapped = net(known, (stop or self.names[-1], *taps))
        batch_stats = {name: net.stats[name] for name in names if name in net.stats}
        return Applied(output, batch_stats, dict(zip(taps, tapped, strict=True)))

    def _layer_names(self, layers: bool | Collection[str]) -> tuple[str, ...]:
        if isinstance(layers, bool):
            return self.names if layers else ()
        if isinstance(layers, str):
            layers = (layers,)
        for name in layers:
            self.index(name)
        return tuple(layers)

    def shapes(self, inputs: Example) -> tuple[dict, dict[str, Any]]:
        """Return variables and layer outputs, as shapes: see `tl_jax.chain.variables.shapes`.

        `inputs` is the shape (N, H, W, C) of float32 images, what the first layer reads as a
        `ShapeDtypeStruct`, or has arrays or shapes by place.
        """
        return fresh.shapes(self.layers, self.ties, self.input_shapes(inputs))

    def init(
        self,
        seed: int,
        inputs: Example,
        layers: Collection[str] | None = None,
    ) -> dict[str, Any]:
        """Return fresh float32 variables of `layers`, or all: see `tl_jax.chain.variables.init`."""
        takes_whole(seed, "a seed", 0, MAX_SEED)
        of = self.names if layers is None else layers
        return fresh.init(self.layers, self.ties, self.input_shapes(inputs), seed=seed, of=of)

    def input_shapes(self, inputs: Example) -> Mapping[str, Any]:
        """Return the shapes of the inputs by place; further ones as the modules that read them say
        (`further`, the shape of one example's by place).
        """
        if isinstance(inputs, Mapping):
            return inputs
        if not isinstance(inputs, jax.ShapeDtypeStruct):
            inputs = jax.ShapeDtypeStruct(tuple(inputs), jnp.float32)
        further = {
            place: jax.ShapeDtypeStruct((inputs.shape[0], *shape), jnp.float32)
            for layer in self.layers
            for place, shape in getattr(layer.module, "further", {}).items()
        }
        return {**further, self.inputs[0]: inputs}


class _Pass(NamedTuple):
    """Values of one pass through the network; it keeps `known` alive, so its id stays unique."""

    known: Mapping[str, Any]
    values: dict[str, Any]
    number: int


class Net:
    """A network with its weights bound, for one trace: all that an objective calls.

    `params` are the combined parameters, `stats` the running statistics by layer, which calls
    update. Layers in `train` draw dropout masks from `key`, and layers in `norm` normalise by the
    batch, but for the channels that `running`, a probability and a key, selects: see
    `ops.stochastic`. The backward pass runs layers again that match the pattern `remat`, "" being
    none, and keeps their outputs alone (Chen et al. 2016, arXiv:1604.06174). `views` has other
    weights by name, (params, stats) each. Of a known value, layers read `prepare(place, value)`:
    normalised pixels, in the run's precision.
    """

    def __init__(
        self,
        network: Network,
        params: Mapping[str, Any],
        stats: Mapping[str, Any],
        *,
        train: Collection[str] = (),
        norm: Collection[str] = (),
        running: tuple[float, jax.Array | None] = (0.0, None),
        key: jax.Array | None = None,
        remat: str = "",
        views: Mapping[str, tuple[Any, Any]] = {},
        prepare: Callable[[str, Any], Any] = lambda place, value: value,
    ):
        self.network, self.params, self.stats = network, params, dict(stats)
        self.train, self.norm, self.running, self.key = train, norm, running, key
        self.remat, self.views, self.prepare = remat, views, prepare
        self._passes: dict[tuple[int, bool], _Pass] = {}

    def __call__(self, known: Mapping[str, Any], wanted: str | Sequence[str], *, train=True) -> Any:
        """Return the value at the place `wanted`, or a tuple of the values at several places.

        A second call with the same `known` object continues the same pass: no layer runs twice,
        dropout masks are the same, statistics are updated once. Another `known` starts another
        pass, which draws other masks and starts from the last pass's statistics. With `train=False`
        layers run in inference mode and update no statistics. Unreachable if a place cannot be
        computed.
        """
        names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        new = _Pass(known, {}, len(self._passes))
        _, values, number = self._passes.setdefault((id(known), train), new)
        for layer in self.network.path({**known, **values}, names):
            read = [self._at(place, known, values) for place in layer.places]
            value = self.run(layer, read, train=train, number=number)
            values[layer.name] = ops.materialise(value) if layer.name in names else value
        results = tuple(self._at(name, known, values) for name in names)
        return results[0] if isinstance(wanted, str) else results

    def at(self, view: str) -> "Net":
        """Return the network with other weights: "anchor" (the run's first) or "average".

        It draws nothing at random and updates no statistics.
        """
        if view not in self.views:
            raise Unreachable(view, self.views)
        params, stats = self.views[view]
        return Net(
            self.network, params, {**self.stats, **stats}, norm=self.norm, prepare=self.prepare
        )

    def run(self, layer: Layer, read: Sequence[Any], *, train: bool, number: int) -> Any:
        """Return a layer's output for the values it reads; update its statistics if in `norm`."""
        name = layer.name
        variables = {"params": self.params.get(name, {})}
        if name in self.stats:
            variables["batch_stats"] = self.stats[name]
        rngs, p, mutable = {}, 0.0, []
        if train and name in self.train and self.key is not None:
            rngs["dropout"] = _key_of(name, number, self.key)
        if train and name in self.norm and name in self.stats:
            mutable = ["batch_stats"]
            p, key = self.running
            if p and key is not None:
                rngs["batch_norm"] = _key_of(name, number, key)

        def applied(variables, read, rngs):
            with ops.stochastic(p):
                return layer.module.apply(variables, *read, rngs=rngs, mutable=mutable)

        if train and self.remat and re.search(self.remat, name):
            applied = ops.remat(applied)
        value, updated = applied(variables, read, rngs)
        if mutable:
            self.stats[name] = updated["batch_stats"]
        return value

    def _at(self, place: str, known: Mapping[str, Any], values: dict[str, Any]) -> Any:
        if place not in values:
            values[place] = self.prepare(place, known[place])
        return values[place]


def _key_of(layer: str, number: int, key: jax.Array) -> jax.Array:
    """Return the key of a layer in a pass."""
    key = key if number == 0 else jax.random.fold_in(key, number)
    # The name decides, so a layer draws the same masks wherever in the chain a run starts.
    return jax.random.fold_in(key, zlib.crc32(layer.encode()))


class ShapeNet(Net):
    """A net that runs no layer: it returns zeros in the shape of a layer's output.

    With it, tracing an objective costs no more than the objective's own operations. `ran` collects
    the names of the layers that would have run.
    """

    def __init__(self, *args: Any, ran: dict[str, None], **options: Any):
        super().__init__(*args, **options)
        self.ran = ran

    def at(self, view: str) -> "ShapeNet":
        """Return the same net: other weights have the same shapes."""
        if view not in self.views:
            raise Unreachable(view, self.views)
        return ShapeNet(
            self.network, self.params, self.stats, prepare=self.prepare, ran=self.ran
        )

    def run(self, layer: Layer, read: Sequence[Any], *, train: bool, number: int) -> Any:
        """Return zeros in the shape of the layer's output."""
        self.ran[layer.name] = None
        variables = {"params": self.params.get(layer.name, {})}
        if layer.name in self.stats:
            variables["batch_stats"] = self.stats[layer.name]
        return fresh.zeros(layer.module, variables, read)


def chain(at: str | tuple[str, ...], **modules: nn.Module) -> tuple[Layer, ...]:
    """Return layers that each read the one before; the first reads the place or places `at`."""
    first = (at,) if isinstance(at, str) else at
    reads = [first, *((name,) for name in modules)]
    return tuple(
        Layer(name, module, places)
        for (name, module), places in zip(modules.items(), reads, strict=False)
    )
