"""What networks are made of and what they cost, from their shapes alone."""

from tl_jax.describe.layers import Row, layers

__all__ = ["Row", "layers"]
