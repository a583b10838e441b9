"""Wider networks that compute what the narrow one did: Net2WiderNet.

Chen, Goodfellow & Shlens 2015, Net2Net (arXiv:1511.05641), section 2.3: a new channel is a copy of
an old one drawn at random, and whatever reads c copies of a channel divides its weights by c.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from tl_jax.chain.channels import Channels
from tl_jax.chain.follow import followed
from tl_jax.chain.network import Network
from tl_jax.chain.sizes import with_sizes
from tl_jax.chain.variables import flat
from tl_jax.errors import UserError, takes, takes_type, unknown

MAX_FACTOR = 64
SQUARES = ("nu", "nu_max", "sum_of_squares")  # optax's names of sums of squared gradients


class Along(NamedTuple):
    """What becomes of one axis: new index i is a copy of index `of[i]`, divided by `by[i]`."""

    axis: int
    of: np.ndarray
    by: np.ndarray  # 1, where the parameter does not read the channel
    new: np.ndarray  # whether the index was not there before


@dataclasses.dataclass(frozen=True)
class Growth:
    """What widening does to each parameter, by path "layer/.../leaf"; of others, nothing."""

    sizes: Mapping[str, int]  # features by path of a module, of the layers that change
    leaves: Mapping[str, tuple[Along, ...]]

    def carried(self, tree: Any) -> Any:
        """Return variables, optimizer states, or any tree that has parameters by layer, as the wide
        network has them.

        Moments of gradients go as the parameters do, so that a step which they make is the step of
        the narrow network. Moments of squares are copied and not divided: of outgoing weights, the
        wide network's own gradients are those of the narrow one.
        """

        def moved(path, leaf):
            names = [str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)]
            own = next((n for n in range(len(names)) if "/".join(names[n:]) in self.leaves), None)
            if own is None:
                return leaf
            roles = {getattr(key, "name", "") for key in path}
            divide = not roles & set(SQUARES)
            return _spread(leaf, self.leaves["/".join(names[own:])], divide=divide)

        return jax.tree_util.tree_map_with_path(moved, tree)

    def noisy(self, variables: Any, noise: float, seed: int) -> Any:
        """Return the variables with normal noise on the kernels of new channels, so that copies
        become different; its deviation is `noise` times that of the kernel.
        """
        rng = np.random.default_rng(seed)

        def moved(path, leaf):
            name = "/".join(str(key.key) for key in path[1:])
            for along in self.leaves.get(name, ()):
                if leaf.ndim < 2 or not along.new.any() or (along.by != 1).any():
                    continue
                drawn = rng.normal(0, noise * np.std(leaf), leaf.shape)
                shape = [1] * leaf.ndim
                shape[along.axis] = -1
                leaf = (leaf + along.new.reshape(shape) * drawn).astype(leaf.dtype)
            return leaf

        return jax.tree_util.tree_map_with_path(moved, variables)


def _spread(leaf: Any, axes: tuple[Along, ...], *, divide: bool) -> Any:
    for axis, of, by, _ in axes:
        leaf = np.take(np.asarray(leaf), of, axis)
        shape = [1] * leaf.ndim
        shape[axis] = -1
        leaf = (leaf / by.reshape(shape)).astype(leaf.dtype) if divide else leaf
    return leaf


def widening(network: Network, inputs: Any, place: str, factor: float, seed: int = 0) -> Growth:
    """Return what makes a layer, or a part of it, give `factor` times as many channels.

    `place` is a layer or the path of a module inside: "conv2", "stage1_block1/conv1". Everything
    that shares its channels is widened with it: a residual stream as a whole, a depthwise
    convolution with the one before. `inputs` are as of `Network.shapes`. UserError if there can be
    no more of these channels, or if the layers would compute something else with them.
    """
    takes(isinstance(place, str) and place != "", "place=", "the name of a layer", place)
    takes_type("factor=", float, factor)
    takes(1 < factor <= MAX_FACTOR, "factor=", f"above 1 and at most {MAX_FACTOR}", factor)
    if network.ties:
        tied = ", ".join(tie.to for tie in network.ties)
        raise UserError(f"{place!r} cannot be widened: other parameters decide those of {tied}")
    found = followed(network, inputs)
    group = _group(network, found, place)
    more = max(round(len(group) * factor) - len(group), 1)
    drawn = np.random.default_rng(seed).integers(0, len(group), more)
    copies = np.concatenate([np.arange(len(group)), drawn])
    counts = np.bincount(copies, minlength=len(group))
    leaves, touched = {}, set()
    for path, axes in found.leaves.items():
        for axis, channels in enumerate(axes):
            at = _copied(found.find(channels), group, copies, place)
            if at is None:
                continue
            of, own, new = at
            divided = (path, axis) in found.divided
            by = np.where(own >= 0, counts[own], 1) if divided else np.ones(len(of), int)
            leaves[path] = (*leaves.get(path, ()), Along(axis, of, by, new))
            touched.add(path.split("/")[0])
    sizes = {}
    for path, size in found.features.items():
        channels = found.outputs.get(path)
        if path.split("/")[0] in touched and channels is not None and len(channels) == size:
            at = _copied(found.find(channels), group, copies, place)
            sizes[path] = size if at is None else len(at[0])
    growth = Growth(sizes, leaves)
    _require_same(network, with_sizes(network, sizes), growth, inputs, found, place)
    return growth


def _group(network: Network, found: Channels, place: str) -> np.ndarray:
    """Return the channels of a module's output; UserError if there can be no more of them."""
    if place not in found.outputs:
        layer = place.split("/")[0]
        network.index(layer)
        if place == layer:
            raise UserError(f"the output of {place!r} has no channels that can be told apart")
        raise unknown("part", place, [p for p in found.outputs if p.startswith(f"{layer}/")])
    group = found.find(found.outputs[place])
    if why := found.why_fixed(group):
        raise UserError(f"{place!r} cannot be widened: its channels {why}")
    if len(set(group.tolist())) < len(group):
        raise UserError(f"{place!r} cannot be widened: {_parts(found, place)}")
    return group


def _parts(found: Channels, place: str) -> str:
    within = [path for path in found.features if path.startswith(f"{place}/")]
    return "its channels are those of several layers or parts; widen one of these" + (
        f": {', '.join(within)}" if within else ""
    )


def _copied(
    channels: np.ndarray, group: np.ndarray, copies: np.ndarray, place: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return, for each index of the wide axis, the old index, its number in the group or -1, and
    whether it is new; None if the axis has none of the group.

    The group stands in an axis once or several times, whole and in order: at an offset after a
    concatenation, at each position after flattening.
    """
    number = dict(zip(group.tolist(), range(len(group)), strict=True))
    own = np.array([number.get(channel, -1) for channel in channels.tolist()])
    if (own < 0).all():
        return None
    of, new, first, whole = [], [], 0, np.arange(len(group))
    while first < len(own):
        if own[first] < 0:
            of, new, first = [*of, first], [*new, False], first + 1
        elif np.array_equal(own[first : first + len(group)], whole):
            of += (first + copies).tolist()
            new += (np.arange(len(copies)) >= len(group)).tolist()
            first += len(group)
        else:
            raise UserError(
                f"{place!r} cannot be widened: another layer has a part of its channels; widen the "
                "layer or part that makes them"
            )
    return np.array(of), own[np.array(of)], np.array(new)


def _require_same(network, wide, growth, inputs, found, place) -> None:
    """UserError unless the wide network has the parameters that widening gives, and computes them
    by the same operations: blocks decide by sizes what they do.
    """
    before, _ = network.shapes(inputs)
    kept = "would compute something else with it: take another width, or widen another part"
    try:
        after = flat(wide.shapes(inputs)[0])
        operations = followed(wide, inputs).operations
    except (TypeError, ValueError) as error:
        raise UserError(f"{place!r} cannot be widened so: a layer {kept}") from error
    zeros = jax.tree.map(lambda a: np.broadcast_to(np.float32(0), a.shape), before)
    shapes = {path: np.shape(leaf) for path, leaf in flat(growth.carried(zeros)).items()}
    for layer in network.names:
        mine = {p: s for p, s in shapes.items() if p.split("/")[1:2] == [layer]}
        others = {p: np.shape(s) for p, s in after.items() if p.split("/")[1:2] == [layer]}
        if mine != others or operations[layer] != found.operations[layer]:
            raise UserError(f"{place!r} cannot be widened so: layer {layer!r} {kept}")
