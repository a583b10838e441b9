"""Places: names of inputs and of layers, values that are known there, layers that read them."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax

IMAGE = "image"  # the input that a chain's first layer reads unless it says otherwise


class Unreachable(KeyError):
    """A place was asked for that cannot be computed from the values that are known."""

    def __init__(self, place: str, known: Iterable[str]):
        super().__init__(place)
        self.place, self.known = place, tuple(known)

    def __str__(self) -> str:
        return f"{self.place!r} cannot be computed: known are {', '.join(self.known) or 'none'}"


class Known(dict):
    """Values by place: {"image": x}, or {"conv2": y} where outputs of conv2 are stored."""

    def __missing__(self, place):
        raise Unreachable(place, self)


jax.tree_util.register_pytree_with_keys(
    Known,
    lambda known: (
        [(jax.tree_util.DictKey(name), known[name]) for name in sorted(known)],
        tuple(sorted(known)),
    ),
    lambda names, values: Known(zip(names, values, strict=True)),
)


class Layer(NamedTuple):
    """A named Linen module and the places it reads: it is called with their values, in order.

    `reads` None: the layer before, of the first layer the image; (): the output of a module that
    is called with nothing, a bare parameter.
    """

    name: str
    module: nn.Module
    reads: tuple[str, ...] | None = None

    @property
    def places(self) -> tuple[str, ...]:
        """The places it reads, which a network has resolved; ValueError for a layer in none."""
        if self.reads is None:
            raise ValueError(f"layer {self.name!r} reads the one before it: put it in a network")
        return self.reads


@dataclasses.dataclass(frozen=True)
class Tie:
    """A parameter that is a function of others: of a tied decoder, of low-rank adapters.

    `make(parameters by path "layer/.../leaf")` gives the leaf at the path `to`. `needs`: the layers
    whose parameters it reads. `whole`: the leaf is the function's alone, so none is kept for it.
    """

    to: str
    needs: tuple[str, ...]
    make: Callable[[Mapping[str, Any]], Any]
    whole: bool = True

    @property
    def layer(self) -> str:
        """The layer whose leaf this is."""
        return self.to.split("/")[0]
