"""The classifier that a base came with, kept as a tail beside a new head."""

from typing import Any

from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.chain.variables import COLLECTIONS

PREFIX = "source_"
SOURCE_HEAD = PREFIX + "head"  # the place of its logits: a base's last layer is called "head"


def tail(whole: Network, cut: str) -> tuple[Layer, ...]:
    """Return the layers of `whole` above `cut`, called "source_NAME"; the first reads `cut`."""
    above = whole.between(cut, None)
    names = {layer.name: PREFIX + layer.name for layer in above}
    return tuple(
        Layer(names[layer.name], layer.module, tuple(names.get(p, p) for p in layer.places))
        for layer in above
    )


def variables(whole: Any, layers: tuple[Layer, ...]) -> dict[str, Any]:
    """Return the tail's variables, from those of the whole base."""
    names = {layer.name: layer.name.removeprefix(PREFIX) for layer in layers}
    return {
        kind: {name: whole[kind][old] for name, old in names.items() if old in whole[kind]}
        for kind in COLLECTIONS
    }
