"""The channels along the axes of traced values, and what each operation does with them.

An operation joins the channels that it matches: a scale with the convolution before it, the two
sides of a sum, a kernel's inputs with the channels that they read. Where it mixes channels in
another way than a product does, or is not known here, their number is `fixed`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

# Primitives that compute each element from those at the same position; of `LINEAR` ones a factor
# in a parameter is a factor in the result
LINEAR = {"mul", "neg", "convert_element_type", "copy", "stop_gradient"}
ELEMENTWISE = LINEAR | {
    "add", "add_any", "sub", "div", "max", "min", "abs", "square", "integer_pow", "pow", "exp",
    "log", "sqrt", "rsqrt", "logistic", "tanh", "erf", "select_n", "clamp", "ge", "gt", "le", "lt",
    "eq", "ne", "sign", "floor",
}  # fmt: skip
CALLED = ("jaxpr", "call_jaxpr")  # parameters of an equation that hold the function it calls


class Axis(NamedTuple):
    """The channels (n,) along an axis, and which axis of which parameter it is, if of one alone."""

    channels: np.ndarray
    leaf: tuple[str, int] | None = None


class Value(NamedTuple):
    """A traced value: its axes, None for batch and space; whether it depends on the data."""

    axes: tuple[Axis | None, ...]
    data: bool = True


@dataclasses.dataclass
class Channels:
    """What a network does with channels, each a number."""

    parents: list[int] = dataclasses.field(default_factory=list)
    fixed: dict[int, str] = dataclasses.field(default_factory=dict)  # why there can be no more
    divided: set[tuple[str, int]] = dataclasses.field(default_factory=set)  # (parameter, axis)
    leaves: dict[str, tuple[np.ndarray, ...]] = dataclasses.field(default_factory=dict)
    outputs: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # by path of a module
    features: dict[str, int] = dataclasses.field(default_factory=dict)  # of modules, by path
    operations: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # by layer

    def new(self, count: int) -> np.ndarray:
        """Return numbers of channels that there were not."""
        first = len(self.parents)
        self.parents += range(first, first + count)
        return np.arange(first, first + count)

    def find(self, channels: np.ndarray) -> np.ndarray:
        """Return one number for all channels that were joined."""
        parents = np.array(self.parents, int)
        while not np.array_equal(up := parents[channels], channels):
            channels = up
        return channels

    def join(self, one: np.ndarray, other: np.ndarray) -> None:
        """Make the channels the same, pair by pair."""
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            while self.parents[a] != a:
                self.parents[a] = a = self.parents[self.parents[a]]
            while self.parents[b] != b:
                self.parents[b] = b = self.parents[self.parents[b]]
            self.parents[max(a, b)] = min(a, b)

    def fix(self, axis: Axis | None, why: str) -> None:
        """There can be no more of these channels."""
        if axis is not None:
            self.fixed |= dict.fromkeys(axis.channels.tolist(), why)

    def why_fixed(self, channels: np.ndarray) -> str | None:
        """Return why there can be no more of these channels, or None."""
        roots = self.find(np.array(list(self.fixed), int)).tolist()
        reasons = dict(zip(roots, self.fixed.values(), strict=True))
        mine = (reasons.get(root) for root in self.find(channels).tolist())
        return next((why for why in mine if why), None)


class Walk:
    """A walk over the jaxpr of a layer: it joins the channels that the operations match."""

    def __init__(self, found: Channels, layer: str):
        self.found, self.layer = found, layer
        self.operations: list[str] = []  # in their order

    def __call__(self, jaxpr: Any, given: Sequence[Value]) -> list[Value]:
        """Return the values of a jaxpr's results."""
        known = dict(zip(jaxpr.invars, given, strict=True))

        def value(atom) -> Value:
            if hasattr(atom, "val") or atom not in known:  # literals and constants
                return Value((None,) * len(atom.aval.shape), data=False)
            return known[atom]

        for eqn in jaxpr.eqns:
            read, name = [value(atom) for atom in eqn.invars], eqn.primitive.name
            called, read = _called(eqn, read)
            if called is not None:
                results = self(called, read)
            else:
                self.operations.append(name)
                rule = "reduce_window" if name.startswith("reduce_window") else name
                rule = "elementwise" if name in ELEMENTWISE else rule
                results = RULES.get(rule, Walk.unknown)(self, eqn, read)
                results = results if isinstance(results, list) else [results]
            known |= zip(eqn.outvars, results, strict=True)
        return [value(atom) for atom in jaxpr.outvars]

    def fix(self, axis: Axis | None, what: str) -> None:
        self.found.fix(axis, f"go through {what} in {self.layer!r}, which depends on their number")

    def matched(self, axes: Sequence[Axis | None], *, linear: bool = False) -> Axis | None:
        """Return the axis of values that an operation combines position by position."""
        own = [axis for axis in axes if axis is not None]
        if not own:
            return None
        for other in own[1:]:
            self.found.join(own[0].channels, other.channels)
        return own[0] if linear and len(own) == 1 else Axis(own[0].channels)

    def unknown(self, eqn, read):
        for value in read:
            for axis in value.axes:
                self.fix(axis, eqn.primitive.name)
        data = any(value.data for value in read)
        return [Value((None,) * len(getattr(v.aval, "shape", ())), data) for v in eqn.outvars]

    def elementwise(self, eqn, read):
        rank, linear = len(eqn.outvars[0].aval.shape), eqn.primitive.name in LINEAR
        full = [value for value in read if len(value.axes) == rank]
        axes = [self.matched([v.axes[d] for v in full], linear=linear) for d in range(rank)]
        return Value(tuple(axes), any(value.data for value in read))

    def contract(self, one: Value, a: int, other: Value, b: int, what: str) -> None:
        """Join the channels that a product sums over; the parameter's are to be divided."""
        parameter, read = one.axes[a], other.axes[b]
        if one.data:
            parameter, read = read, parameter
        if one.data != other.data and parameter and read and parameter.leaf:
            self.found.join(parameter.channels, read.channels)
            self.found.divided.add(parameter.leaf)
        else:
            for axis in (parameter, read):
                self.fix(axis, what)

    def conv(self, eqn, read):
        x, kernel = read
        n, p = eqn.params["dimension_numbers"], eqn.params
        out, inputs = kernel.axes[n.rhs_spec[0]], kernel.axes[n.rhs_spec[1]]
        groups, sizes = p["feature_group_count"], [atom.aval.shape for atom in eqn.invars]
        if groups == 1:
            self.contract(x, n.lhs_spec[1], kernel, n.rhs_spec[1], "a convolution")
            channels = out and Axis(out.channels)
        elif sizes[0][n.lhs_spec[1]] == groups == sizes[1][n.rhs_spec[0]]:  # depthwise
            channels = self.matched([x.axes[n.lhs_spec[1]], out])
        else:
            for axis in (x.axes[n.lhs_spec[1]], inputs, out):
                self.fix(axis, "a grouped convolution")
            channels = None
        axes: list[Axis | None] = [None] * len(n.out_spec)
        axes[n.out_spec[1]] = channels
        return Value(tuple(axes))

    def dot(self, eqn, read):
        x, y = read
        (left, right), (batch, other_batch) = eqn.params["dimension_numbers"]
        for a, b in zip(left, right, strict=True):
            self.contract(x, a, y, b, "a product")
        axes = [
            self.matched([x.axes[a], y.axes[b]]) for a, b in zip(batch, other_batch, strict=True)
        ]
        for value, used in ((x, {*left, *batch}), (y, {*right, *other_batch})):
            free = (axis for d, axis in enumerate(value.axes) if d not in used)
            axes += [axis and Axis(axis.channels) for axis in free]
        return Value(tuple(axes), x.data or y.data)

    def concatenate(self, eqn, read):
        along, axes = eqn.params["dimension"], []
        for d in range(len(read[0].axes)):
            parts = [value.axes[d] for value in read]
            if d != along:
                axes.append(self.matched(parts))
            elif all(part is None for part in parts):
                axes.append(None)
            else:
                sizes = [atom.aval.shape[d] for atom in eqn.invars]
                axes.append(Axis(np.concatenate([
                    part.channels if part else self._fresh(size)
                    for part, size in zip(parts, sizes, strict=True)
                ])))  # fmt: skip
        return Value(tuple(axes), any(value.data for value in read))

    def _fresh(self, size: int) -> np.ndarray:
        channels = self.found.new(size)
        self.fix(Axis(channels), "concatenate")
        return channels

    def split(self, eqn, read):
        (value,), along, results, first = read, eqn.params["axis"], [], 0
        for size in eqn.params["sizes"]:
            axes, whole = list(value.axes), value.axes[along]
            if whole:
                axes[along] = Axis(whole.channels[first : first + size])
            results.append(Value(tuple(axes), value.data))
            first += size
        return results

    def slice(self, eqn, read):
        p, (value,) = eqn.params, read
        strides = p["strides"] or (1,) * len(value.axes)
        cuts = map(slice, p["start_indices"], p["limit_indices"], strides)
        axes = [a and Axis(a.channels[cut]) for a, cut in zip(value.axes, cuts, strict=True)]
        return Value(tuple(axes), value.data)

    def pad(self, eqn, read):
        axes = []
        for axis, config in zip(read[0].axes, eqn.params["padding_config"], strict=True):
            if any(config):
                self.fix(axis, "pad")
            axes.append(None if any(config) else axis)
        return Value(tuple(axes), read[0].data)

    def window(self, eqn, read):
        axes = []
        for axis, size in zip(read[0].axes, eqn.params["window_dimensions"], strict=True):
            if size != 1:
                self.fix(axis, "pooling over channels")
            axes.append(axis if size == 1 else None)
        return Value(tuple(axes), read[0].data)

    def extreme(self, eqn, read):
        """The greatest of more copies is the same."""
        kept = (axis for d, axis in enumerate(read[0].axes) if d not in eqn.params["axes"])
        return Value(tuple(kept), read[0].data)

    def total(self, eqn, read):
        for d in eqn.params["axes"]:
            self.fix(read[0].axes[d], "a sum over channels")
        return self.extreme(eqn, read)

    def broadcast(self, eqn, read):
        shape, value = eqn.params["shape"], read[0]
        axes: list[Axis | None] = [None] * len(shape)
        before = eqn.invars[0].aval.shape
        for axis, size, d in zip(
            value.axes, before, eqn.params["broadcast_dimensions"], strict=True
        ):
            axes[d] = axis if size == shape[d] else self.fix(axis, "broadcast_in_dim")
        return Value(tuple(axes), value.data)

    def transpose(self, eqn, read):
        order = eqn.params["permutation"]
        return Value(tuple(read[0].axes[d] for d in order), read[0].data)

    def reshape(self, eqn, read):
        """Axes stay, come together, or lose their channels; axes of length 1 come and go."""
        value = read[0]
        old, new = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
        axes: list[Axis | None] = [None] * len(new)
        for axis, size in zip(value.axes, old, strict=True):
            if size == 1:
                self.fix(axis, "reshape")
        for before, after in _blocks(old, new):
            parts = [value.axes[d] for d in before]
            *others, last = parts or [None]
            if [old[d] for d in before] == [new[d] for d in after]:
                for d, axis in zip(after, parts, strict=True):
                    axes[d] = axis
                continue
            if len(after) == 1 and last:  # the last axis runs fastest
                count = math.prod(old[d] for d in before[:-1])
                axes[after[0]] = Axis(np.tile(last.channels, count), last.leaf)
                parts = others
            for axis in parts:
                self.fix(axis, "reshape")
        return Value(tuple(axes), value.data)


def _blocks(old: Sequence[int], new: Sequence[int]):
    """Yield the least groups of axes, before and after a reshape, that hold the same elements;
    axes of length 1 are in none.
    """
    olds, news = ([d for d, n in enumerate(shape) if n != 1] for shape in (old, new))
    while olds or news:
        before, after = [olds.pop(0)], [news.pop(0)]
        while (a := math.prod(old[d] for d in before)) != (b := math.prod(new[d] for d in after)):
            (before if a < b else after).append((olds if a < b else news).pop(0))
        yield before, after


def _called(eqn, read: list[Value]) -> tuple[Any, list[Value]]:
    """Return the jaxpr that an equation calls, or None, and what it reads."""
    name = eqn.primitive.name
    if name.startswith("reduce_window") or name in ("scan", "while"):
        return None, read
    if "branches" in eqn.params:
        platforms = eqn.params.get("branches_platforms")
        if not platforms:
            return None, read
        called, read = eqn.params["branches"][platforms.index(None)], read[1:]
    else:
        called = next((eqn.params[key] for key in CALLED if key in eqn.params), None)
    return getattr(called, "jaxpr", called), read  # a closed jaxpr wraps an open one


RULES: dict[str, Callable[..., Any]] = {
    "elementwise": Walk.elementwise,
    "conv_general_dilated": Walk.conv,
    "dot_general": Walk.dot,
    "concatenate": Walk.concatenate,
    "split": Walk.split,
    "slice": Walk.slice,
    "pad": Walk.pad,
    "reduce_window": Walk.window,
    "reduce_max": Walk.extreme,
    "reduce_min": Walk.extreme,
    "reduce_sum": Walk.total,
    "broadcast_in_dim": Walk.broadcast,
    "transpose": Walk.transpose,
    "squeeze": Walk.reshape,
    "reshape": Walk.reshape,
}
