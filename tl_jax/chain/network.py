"""A network as named layers: the chain that a base is, and whatever else reads its places.

A place is the name of an input ("image", "tokens", "lstm1.state") or of a layer. A value is known
at a place; `net(known, wanted)` runs the layers that lie between. A layer reads the one before it,
unless it says otherwise: a tail reads another place, a bare parameter reads nothing.
"""

import collections
import dataclasses
import functools
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax import ops
from tl_jax.chain import variables as fresh
from tl_jax.chain.places import IMAGE, Known, Layer, Tie, Unreachable
from tl_jax.chain.variables import Variables, overlaid
from tl_jax.errors import UserError, takes_whole, unknown

MAX_SEED = 2**63 - 1


class Applied(NamedTuple):
    """What `Network.apply` gives."""

    output: Any  # the value at `stop`
    batch_stats: dict[str, Any]  # of every layer run that has some, by layer, after this call
    taps: dict[str, Any]  # the outputs asked for, by layer


@dataclasses.dataclass(frozen=True)
class Network:
    """Layers in forward order, names unique; `ties` compute parameters from parameters."""

    layers: tuple[Layer, ...]
    ties: tuple[Tie, ...] = ()

    def __post_init__(self):
        counts = collections.Counter(layer.name for layer in self.layers)
        if repeated := sorted(name for name, count in counts.items() if count > 1):
            raise UserError(f"layer names must be unique in a network; repeated: {repeated}")
        before = (IMAGE, *(layer.name for layer in self.layers))
        resolved = tuple(
            layer if layer.reads is not None else layer._replace(reads=(last,))
            for last, layer in zip(before, self.layers, strict=False)
        )
        object.__setattr__(self, "layers", resolved)
        for number, layer in enumerate(resolved):
            if later := set(layer.places) & set(before[number + 1 :]):
                raise UserError(f"layer {layer.name!r} reads {later.pop()!r}, which comes after it")

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Layer names in forward order."""
        return tuple(layer.name for layer in self.layers)

    @functools.cached_property
    def inputs(self) -> tuple[str, ...]:
        """The places that are read and are no layer's."""
        read = dict.fromkeys(place for layer in self.layers for place in layer.places)
        return tuple(place for place in read if place not in self.names)

    @functools.cached_property
    def below(self) -> dict[str, frozenset[str]]:
        """By layer: itself and every place that its output is a function of, ties included."""
        found: dict[str, frozenset[str]] = {}
        for layer in self.layers:
            tied = [name for tie in self.ties if tie.layer == layer.name for name in tie.needs]
            places = {layer.name, *layer.places, *tied}
            found[layer.name] = frozenset(places.union(*(found.get(p, ()) for p in layer.places)))
        return found

    def index(self, name: str) -> int:
        """Position of the layer in forward order; UserError with the near miss if unknown."""
        if name not in self.names:
            raise unknown("layer", name, self.names, ordered=True)
        return self.names.index(name)

    def path(self, known: Collection[str], wanted: Iterable[str]) -> tuple[Layer, ...]:
        """The layers to run to get from the places known to those wanted; or Unreachable."""
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
        """The layers above `start` up to and with `stop`; None is the network's end on that side.

        UserError for unknown layers, and if `stop` cannot be computed from `start`.
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
        """The layers that the output of `name` is a function of."""
        self.index(name)
        kept = self.below[name]
        layers = tuple(layer for layer in self.layers if layer.name in kept)
        return Network(layers, tuple(tie for tie in self.ties if tie.layer in kept))

    def with_head(self, *head: Layer) -> "Network":
        """The network with the layers `head` on top, the first of them on its last layer."""
        return Network(self.layers + head, self.ties)

    def weights(self, layers: Iterable[str]) -> tuple[str, ...]:
        """These layers and those that their parameters are functions of, in forward order."""
        found: set[str] = set()
        todo = set(layers)
        while todo:
            found |= todo
            todo = {name for tie in self.ties if tie.layer in todo for name in tie.needs} - found
        return tuple(name for name in self.names if name in found)

    def combine(self, params: Mapping[str, Any], trained: Mapping[str, Any] = {}) -> dict[str, Any]:
        """The parameters to run with: `trained` leaves over the others, then the ties.

        They may be of some layers only, with those of `weights`: of others no tie is made.
        """
        combined = overlaid(params, trained)
        if not self.ties:
            return combined
        flat = fresh.flat(combined)
        for tie in self.ties:
            if tie.layer in combined or (tie.whole and combined.keys() >= set(tie.needs)):
                flat[tie.to] = tie.make(flat)
        return fresh.nested(flat)

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
        stats = variables.get("batch_stats", {})
        params = variables.get("params", {})
        params = self.combine(params) if self.ties else params
        net = Net(self, params, stats, train=train, norm=norm, key=rng)
        known = Known({start or self.inputs[0]: x})
        output, *kept = net(known, (stop or self.names[-1], *taps))
        run = {name: net.stats[name] for name in names if name in net.stats}
        return Applied(output, run, dict(zip(taps, kept, strict=True)))

    def _chosen(self, layers: bool | Collection[str]) -> tuple[str, ...]:
        if isinstance(layers, bool):
            return self.names if layers else ()
        if isinstance(layers, str):
            layers = (layers,)
        for name in layers:
            self.index(name)
        return tuple(layers)

    def shapes(self, inputs: Sequence[int] | Mapping[str, Any]) -> tuple[dict, dict[str, Any]]:
        """Variables and layer outputs, as shapes: see `tl_jax.chain.variables.shapes`.

        `inputs`: the shape (N, H, W, C) of float32 images, or arrays or shapes by place.
        """
        return fresh.shapes(self.layers, self.ties, self._given(inputs))

    def init(
        self,
        seed: int,
        inputs: Sequence[int] | Mapping[str, Any],
        layers: Collection[str] | None = None,
    ) -> dict[str, Any]:
        """Fresh float32 variables of `layers`, or of all: see `tl_jax.chain.variables.init`."""
        takes_whole(seed, "a seed", 0, MAX_SEED)
        of = self.names if layers is None else layers
        return fresh.init(self.layers, self.ties, self._given(inputs), seed=seed, of=of)

    def _given(self, inputs: Sequence[int] | Mapping[str, Any]) -> Mapping[str, Any]:
        if isinstance(inputs, Mapping):
            return inputs
        return {self.inputs[0]: jax.ShapeDtypeStruct(tuple(inputs), jnp.float32)}


class _Pass(NamedTuple):
    """Values of one pass through the network; `known` is held so that its identity stays its own.
    """

    known: Mapping[str, Any]
    values: dict[str, Any]
    number: int


class Net:
    """A network with its weights bound, for one trace: the only thing that an objective calls.

    `params` are the combined ones, `stats` the batch statistics by layer, which calls move.
    `train`: the layers that draw dropout masks, from `key`; `norm`: those that normalise by the
    batch. `views`: other weights by name, (params, stats) each. `prepare(place, value)` is what a
    layer reads of a known value: normalised pixels, the run's precision.
    """

    def __init__(
        self,
        network: Network,
        params: Mapping[str, Any],
        stats: Mapping[str, Any],
        *,
        train: Collection[str] = (),
        norm: Collection[str] = (),
        key: jax.Array | None = None,
        views: Mapping[str, tuple[Any, Any]] = {},
        prepare: Callable[[str, Any], Any] = lambda place, value: value,
    ):
        self.network, self.params, self.stats = network, params, dict(stats)
        self.train, self.norm, self.key = train, norm, key
        self.views, self.prepare = views, prepare
        self._passes: dict[tuple[int, bool], _Pass] = {}

    def __call__(self, known: Mapping[str, Any], wanted: str | Sequence[str], *, train=True) -> Any:
        """The value at the place `wanted`, or a tuple of the values at several.

        The same `known` object again goes on with the same pass: no layer runs twice, dropout masks
        are the same, statistics move once. Another `known` is another pass, which draws other masks
        and goes on from the statistics that the last one left. `train=False`: inference mode, no
        statistics are collected. Unreachable if a place cannot be computed.
        """
        names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        begun = _Pass(known, {}, len(self._passes))
        _, values, number = self._passes.setdefault((id(known), train), begun)
        for layer in self.network.path({**known, **values}, names):
            read = [self._at(place, known, values) for place in layer.places]
            value = self.run(layer, read, train=train, number=number)
            values[layer.name] = ops.materialise(value) if layer.name in names else value
        found = tuple(self._at(name, known, values) for name in names)
        return found[0] if isinstance(wanted, str) else found

    def at(self, view: str) -> "Net":
        """The network with other weights: "anchor" (the run's first) or "average".

        It draws no dropout masks, and its statistics are not collected.
        """
        if view not in self.views:
            raise Unreachable(view, self.views)
        params, stats = self.views[view]
        return Net(
            self.network, params, {**self.stats, **stats}, norm=self.norm, prepare=self.prepare
        )

    def run(self, layer: Layer, read: Sequence[Any], *, train: bool, number: int) -> Any:
        """The output of a layer for the values it reads; its statistics move if they may."""
        name, module, _ = layer
        own = {"params": self.params.get(name, {})}
        if name in self.stats:
            own["batch_stats"] = self.stats[name]
        rngs = {}
        if train and name in self.train and self.key is not None:
            key = self.key if number == 0 else jax.random.fold_in(self.key, number)
            # By name, so that a layer draws the same masks wherever in the chain one starts.
            rngs["dropout"] = jax.random.fold_in(key, zlib.crc32(name.encode()))
        if train and name in self.norm and name in self.stats:
            value, changed = module.apply(own, *read, rngs=rngs, mutable=["batch_stats"])
            self.stats[name] = changed["batch_stats"]
            return value
        return module.apply(own, *read, rngs=rngs)

    def _at(self, place: str, known: Mapping[str, Any], values: dict[str, Any]) -> Any:
        if place not in values:
            values[place] = self.prepare(place, known[place])
        return values[place]


class ShapeNet(Net):
    """A net that runs no layer: zeros of the right shape, of which each kind is traced once.

    For a trace of what an objective asks for, which then costs as little as its own operations.
    `ran` collects the names of the layers that would have run.
    """

    def __init__(self, *args: Any, ran: dict[str, None], **how: Any):
        super().__init__(*args, **how)
        self.ran = ran

    def at(self, view: str) -> "ShapeNet":
        """The same with other weights, which have the same shapes."""
        if view not in self.views:
            raise Unreachable(view, self.views)
        return ShapeNet(
            self.network, self.params, self.stats, prepare=self.prepare, ran=self.ran
        )

    def run(self, layer: Layer, read: Sequence[Any], *, train: bool, number: int) -> Any:
        """Zeros in the shape of the layer's output."""
        self.ran[layer.name] = None
        own = {"params": self.params.get(layer.name, {})}
        if layer.name in self.stats:
            own["batch_stats"] = self.stats[layer.name]
        return fresh.zeros(layer.module, own, read)


def chain(at: str | tuple[str, ...], **modules: nn.Module) -> tuple[Layer, ...]:
    """Layers of which each reads the one before it, and the first the place(s) `at`."""
    first = (at,) if isinstance(at, str) else at
    reads = [first, *((name,) for name in modules)]
    return tuple(
        Layer(name, module, places)
        for (name, module), places in zip(modules.items(), reads, strict=False)
    )
