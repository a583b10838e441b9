"""Treatments of the first n layers, and the cuts of a chain for them.

    BnB, AnB      the first n layers from B itself ("selffer") or from A ("transfer"), frozen
    BnB+, AnB+    the same, but all layers are trained
    random        the first n layers with their initial weights, frozen

The layers above always start from fresh weights and are trained on B's data.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tl_jax.chain.network import Network
from tl_jax.chain.variables import merged, select
from tl_jax.errors import UserError


class Treatment(NamedTuple):
    """The origin of the first n layers, and whether they are frozen."""

    donor: str | None  # the base they come from: "A" or "B"; None: fresh weights
    frozen: bool


TREATMENTS = {
    "BnB": Treatment("B", frozen=True),
    "AnB": Treatment("A", frozen=True),
    "BnB+": Treatment("B", frozen=False),
    "AnB+": Treatment("A", frozen=False),
    "random": Treatment(None, frozen=True),
}


def place(sides: tuple[str, str], treatment: Treatment) -> str:
    """Return whose cells a treatment's are: those of A to B, or, without A, of every arm to B."""
    a, b = sides
    return f"{a}:{b}" if treatment.donor == "A" else b


def cuts(chain: Network, input_shape: Sequence[int]) -> dict[str, str]:
    """Return for n = 1 to L - 1 the n-th layer with parameters, and the last that belongs to it.

    Poolings belong to the layer below. The classifier, the L-th, is always fresh. UserError if it
    is the only layer with parameters.
    """
    params = chain.shapes(input_shape)[0]["params"]
    stops, layer = {}, None
    for name in chain.names:
        layer = name if params.get(name) else layer
        if layer is not None:
            stops[layer] = name
    if len(stops) < 2:
        raise UserError("a chain with a single layer with parameters has nothing to transfer")
    return dict(list(stops.items())[:-1])


def beginning(
    chain: Network, stop: str | None, *, donor: Any, fresh: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return variables with the layers up to `stop` from the donor, and these layers' names."""
    transferred = layers_up_to(chain, stop)
    return merged(fresh, select(donor, transferred)), transferred


def layers_up_to(chain: Network, stop: str | None) -> tuple[str, ...]:
    """Return the names of the layers up to and including `stop`; empty if it is None."""
    return () if stop is None else chain.cut(stop).names
