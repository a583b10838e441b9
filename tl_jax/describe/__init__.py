"""Descriptions of networks, from their shapes alone: layers, parameters, costs."""

from tl_jax.describe.layers import Row, layers

__all__ = ["Row", "layers"]
