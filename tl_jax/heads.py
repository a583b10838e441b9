"""Heads: the new layers on top of the cut."""

import flax.linen as nn

from tl_jax.chain import Layer
from tl_jax.errors import UserError


class Classifier(nn.Module):
    """Global average pooling where the input still has space, dropout, one dense layer.

    (N, H, W, C) or (N, D) to logits (N, classes).
    """

    classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x):
        if x.ndim == 4:
            x = x.mean((1, 2))
        x = nn.Dropout(self.dropout)(x, deterministic=not self.has_rng("dropout"))
        return nn.Dense(self.classes)(x)


def linear(classes: int, *, dropout: float = 0.0) -> tuple[Layer, ...]:
    """The usual head: one layer, `head`."""
    if not 0 <= dropout < 1:
        raise UserError(f"dropout is a share from 0 to below 1; got {dropout}")
    return (Layer("head", Classifier(classes, dropout)),)
