"""Dropout of a whole chain, made weaker or stronger."""

from tl_jax.chain.network import Network
from tl_jax.chain.sizes import changed, inside
from tl_jax.errors import UserError, takes, takes_type

FIELDS = ("dropout", "weight_dropout")  # of modules, with a rate


def with_dropout(network: Network, factor: float) -> Network:
    """Return the network with every rate of dropout times a factor: fastai's `drop_mult`.

    UserError for a factor that makes a rate 1 or more.
    """
    takes_type("drop_mult=", float, factor)
    takes(factor >= 0, "drop_mult=", "0 or more", factor)
    return Network(
        tuple(layer._replace(module=_times(layer.module, factor)) for layer in network.layers),
        network.ties,
    )


def _times(module, factor: float):
    rates = {name: factor * getattr(inside(module), name, 0) for name in FIELDS}
    rates = {name: rate for name, rate in rates.items() if rate and factor != 1}
    if max(rates.values(), default=0) >= 1:
        raise UserError(f"drop_mult={factor} makes a rate of dropout 1 or more: take less")
    return changed(module, **rates) if rates else module
