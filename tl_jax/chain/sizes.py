"""Modules with other numbers of channels than their code gives them."""

from typing import Any

import flax.linen as nn

from tl_jax.chain.network import Network


class Sized(nn.Module):
    """A module of which some parts have other `features`: `sizes` has (path inside, features).

    A path is as in the module's parameters, "conv1" or "squeeze/reduce"; "" is the module itself.
    Its parameters have the names that they have without.
    """

    module: nn.Module
    sizes: tuple[tuple[str, int], ...]

    @property
    def zero(self) -> bool:
        """Whether fresh weights are 0, as of a head that says so."""
        return getattr(self.module, "zero", False)

    def setup(self):
        nn.share_scope(self, self.module)

    def __call__(self, *read):
        sizes = dict(self.sizes)

        def resized(call, args, kwargs, context):
            path = "/".join(context.module.path)
            if path in sizes and context.method_name == "__call__":
                # A module is frozen, but this one was made for this call alone.
                object.__setattr__(context.module, "features", sizes[path])
            return call(*args, **kwargs)

        with nn.intercept_methods(resized):
            return self.module(*read)


def inside(module: nn.Module) -> Any:
    """Return the module itself, which has its fields."""
    return module.module if isinstance(module, Sized) else module


def changed(module: nn.Module, **fields: Any) -> nn.Module:
    """Return the module with other values of its fields, in the same sizes."""
    if isinstance(module, Sized):
        return module.clone(module=module.module.clone(**fields))
    return module.clone(**fields)


def with_sizes(network: Network, sizes: dict[str, int]) -> Network:
    """Return the network with these `features`, by path: "conv2", "stage1_block1/conv1".

    Layers that it does not have are left out.
    """
    layers = []
    for layer in network.layers:
        own = {path.partition("/"): size for path, size in sizes.items()}
        mine = {rest: size for (name, _, rest), size in own.items() if name == layer.name}
        if mine:
            all_sizes = dict(getattr(layer.module, "sizes", ())) | mine
            inner = inside(layer.module)
            layer = layer._replace(module=Sized(inner, tuple(sorted(all_sizes.items()))))
        layers.append(layer)
    return Network(tuple(layers), network.ties)
