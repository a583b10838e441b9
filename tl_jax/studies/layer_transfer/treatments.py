"""Treatments of the first n layers, and where a chain is cut for them.

    BnB, AnB      the first n layers from B itself ("selffer") or from A ("transfer"), frozen
    BnB+, AnB+    the same, but all layers learn
    random        the first n layers as they were drawn, frozen

The layers above always start afresh and are trained on B's data.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tl_jax.chain.network import Network
from tl_jax.chain.variables import merged, select
from tl_jax.errors import UserError


class Treatment(NamedTuple):
    """Whose the first n layers are, and whether they learn."""

    donor: str | None  # the base they come from: "A", "B"; None: drawn at random
    frozen: bool


TREATMENTS = {
    "BnB": Treatment("B", frozen=True),
    "AnB": Treatment("A", frozen=True),
    "BnB+": Treatment("B", frozen=False),
    "AnB+": Treatment("A", frozen=False),
    "random": Treatment(None, frozen=True),
}


def cuts(chain: Network, input_shape: Sequence[int]) -> dict[str, str]:
    """Return for n = 1 to L - 1 the n-th layer with parameters, and the last that goes with it.

    Poolings belong to the layer below. The classifier, the L-th, is always fresh. UserError if it
    is the only layer with parameters.
    """
    params = chain.shapes(input_shape)[0]["params"]
    found, own = {}, None
    for name in chain.names:
        own = name if params.get(name) else own
        if own is not None:
            found[own] = name
    if len(found) < 2:
        raise UserError("a chain of one layer with parameters has nothing to transfer")
    return dict(list(found.items())[:-1])


def beginning(
    chain: Network, stop: str | None, *, donor: Any, fresh: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return variables with the layers up to `stop` from the donor, and these layers' names."""
    transferred = layers_up_to(chain, stop)
    return merged(fresh, select(donor, transferred)), transferred


def layers_up_to(chain: Network, stop: str | None) -> tuple[str, ...]:
    """Return the names of the layers up to and with `stop`; none if that is None."""
    return () if stop is None else chain.cut(stop).names
