"""Places: names of inputs and of layers, the values known there, and the layers that read them."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax

IMAGE = "image"  # the input that a chain's first layer reads unless it says otherwise
BEFORE = ""  # among the places that a layer reads: the layer before it


class Unreachable(KeyError):
    """A place cannot be computed from the values that are known."""

    def __init__(self, place: str, known: Iterable[str]):
        super().__init__(place)
        self.place, self.known = place, tuple(known)

    def __str__(self) -> str:
        return f"{self.place!r} cannot be computed: known are {', '.join(self.known) or 'none'}"


class Known(dict):
    """Values by place: {"image": x}, or {"conv2": y} if outputs of conv2 are stored."""

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
    """A named Linen module and the places it reads: the module is called with their values.

    By default (`reads` None) it reads the layer before, and a first layer reads the image. With ()
    the module is called without arguments: a bare parameter.
    """

    name: str
    module: nn.Module
    reads: tuple[str, ...] | None = None

    @property
    def places(self) -> tuple[str, ...]:
        """The places it reads, as its network resolved them; ValueError outside a network."""
        if self.reads is None:
            raise ValueError(f"layer {self.name!r} reads the one before it: put it in a network")
        return self.reads


@dataclasses.dataclass(frozen=True)
class Tie:
    """A parameter that is a function of others: a tied decoder, or a kernel with an adapter.

    `make`, called with parameters by path ("layer/.../leaf"), returns the leaf at the path `to`.
    `needs` names the layers whose parameters it reads. If `whole`, the leaf is nothing but the
    function's value, and is not stored.
    """

    to: str
    needs: tuple[str, ...]
    make: Callable[[Mapping[str, Any]], Any]
    whole: bool = True

    @property
    def layer(self) -> str:
        """The layer that the leaf belongs to."""
        return self.to.split("/")[0]
