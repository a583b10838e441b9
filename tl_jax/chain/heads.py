"""Heads: the new layers on top of the cut; the last one is called `head`."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax import ops, registry
from tl_jax.chain import words
from tl_jax.chain.detectors import DETECTORS
from tl_jax.chain.places import Layer
from tl_jax.errors import UserError, takes, takes_whole

MAX_HIDDEN = 100_000


class Classifier(nn.Module):
    """The mean over space or tokens, dropout, one dense layer: (N, H, W, C), (N, T, D) or (N, D) to
    logits (N, classes).

    With `zero` its fresh weights are 0.
    """

    classes: int
    dropout: float = 0.0
    zero: bool = False

    @nn.compact
    def __call__(self, x):
        x = ops.mean_of_positions(x)
        return nn.Dense(self.classes, dot_general=ops.dot_general)(_dropout(self, x))


class CosineClassifier(nn.Module):
    """The mean over space or tokens, dropout, and `scale` times the cosine with a vector of each
    class: (N, H, W, C), (N, T, D) or (N, D) to logits (N, classes).
    """

    classes: int
    dropout: float = 0.0
    scale: float = 10.0

    @nn.compact
    def __call__(self, x):
        x = _dropout(self, ops.mean_of_positions(x))
        shape = (x.shape[-1], self.classes)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        return self.scale * (ops.unit(x) @ ops.unit(kernel.T).T)


class Hidden(nn.Module):
    """One dense layer with ReLU, then dropout: (N, ...), flattened, to (N, features)."""

    features: int
    dropout: float

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.features)(x.reshape(len(x), -1)))
        return _dropout(self, x)


class ConcatPool(nn.Module):
    """Global maximum and mean side by side, as in fastai: (N, H, W, C) to (N, 2 C)."""

    @nn.compact
    def __call__(self, x):
        if x.ndim != 4:
            raise UserError("the head concat_pool pools over space: cut below the base's pooling")
        return jnp.concatenate([x.max((1, 2)), x.mean((1, 2))], -1)


class StepsPool(nn.Module):
    """Last step, maximum and mean over the steps that are no padding, side by side: (N, T, D) to
    (N, 3 D); zeros for an example without steps.
    """

    @nn.compact
    def __call__(self, x):
        if x.ndim != 3:
            raise UserError("the head ulmfit pools over the steps of a text: cut below its pooling")
        real, steps = ops.is_real(x)[..., None], jnp.arange(x.shape[1])[:, None]
        last = jnp.where(real, steps, 0).max(1, keepdims=True)
        largest = jnp.where(real, x, -jnp.inf).max(1)
        largest = jnp.where(real.any(1), largest, 0)
        final = jnp.take_along_axis(x, last, 1)[:, 0]
        return jnp.concatenate([final, largest, ops.mean_of_positions(x)], -1)


class NormDense(nn.Module):
    """Batch norm, dropout, one dense layer without bias, `activation` if any: (N, D) to (N,
    features).
    """

    features: int
    dropout: float = 0.0
    activation: Callable[[jax.Array], jax.Array] | None = None

    @nn.compact
    def __call__(self, x):
        x = _dropout(self, ops.BatchNorm(name="norm")(x))
        x = nn.Dense(self.features, use_bias=False)(x)
        return self.activation(x) if self.activation else x


class Bottleneck(nn.Module):
    """The mean over space or tokens, one dense layer, batch norm and ReLU: to (N, features)."""

    features: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.features)(ops.mean_of_positions(x))
        return ops.BatchNorm(name="norm")(x, activation=jax.nn.relu)


def _dropout(module: nn.Module, x: jax.Array) -> jax.Array:
    return nn.Dropout(module.dropout)(x, deterministic=not module.has_rng("dropout"))


def linear(classes: int, dropout: float) -> tuple[Layer, ...]:
    """Return the usual head: dropout and a dense layer."""
    return (Layer("head", Classifier(classes, dropout)),)


def zero(classes: int, dropout: float) -> tuple[Layer, ...]:
    """Return `linear` with weights of 0: at first all classes are equally likely (VTAB, BiT)."""
    return (Layer("head", Classifier(classes, dropout, zero=True)),)


def cosine(classes: int, dropout: float, scale: float = 10.0) -> tuple[Layer, ...]:
    """Return `scale` times the cosines of the feature with a vector of each class: Baseline++ (Chen
    et al. 2019, arXiv:1904.04232, section 3.2). Their code also learns each vector's length.
    """
    takes(isinstance(scale, int | float) and scale > 0, "cosine: scale", "a number above 0", scale)
    return (Layer("head", CosineClassifier(classes, dropout, float(scale))),)


def vgg_head(classes: int, dropout: float, hidden: int = 4096) -> tuple[Layer, ...]:
    """Return two dense layers of `hidden` and the classifier, as in AlexNet and VGG."""
    takes_whole(hidden, "vgg_head: hidden", 1, MAX_HIDDEN)
    return (
        Layer("head_fc1", Hidden(hidden, dropout)),
        Layer("head_fc2", Hidden(hidden, dropout)),
        Layer("head", Classifier(classes)),
    )


def concat_pool(classes: int, dropout: float) -> tuple[Layer, ...]:
    """Return global maximum and mean, dropout, a dense layer; cut below the base's own pooling."""
    return (Layer("head_pool", ConcatPool()), Layer("head", Classifier(classes, dropout)))


def bottleneck(classes: int, dropout: float, features: int = 256) -> tuple[Layer, ...]:
    """Return a narrow layer with a batch norm, and the classifier of its output: adaptation between
    domains aligns that output. A fresh norm needs batch_norm=batch, as frozen it is the identity.
    """
    takes_whole(features, "bottleneck: features", 1, MAX_HIDDEN)
    return (
        Layer("head_bottleneck", Bottleneck(features)),
        Layer("head", Classifier(classes, dropout)),
    )


def ulmfit(classes: int, dropout: float, hidden: int = 50) -> tuple[Layer, ...]:
    """Return ULMFiT's head on the steps of a text (Howard & Ruder 2018, arXiv:1801.06146, 3.3):
    last step, maximum and mean, then twice batch norm, dropout and a dense layer, as in fastai.
    """
    takes_whole(hidden, "ulmfit: hidden", 1, MAX_HIDDEN)
    return (
        Layer("head_pool", StepsPool()),
        Layer("head_hidden", NormDense(hidden, dropout, jax.nn.relu)),
        Layer("head", NormDense(classes, 0.1)),
    )


HEADS = {
    f.__name__: f
    for f in (
        *(linear, zero, cosine, vgg_head, bottleneck, concat_pool, ulmfit),
        *words.HEADS.values(),
    )
}


def is_head(layer: str, output: str = "head") -> bool:
    """Whether a layer is of the head that ends at `output`."""
    return layer == output or layer.startswith(f"{output}_")


def make(spec: str, classes: int, *, dropout: float = 0.0) -> tuple[Layer, ...]:
    """Return the layers of the head `spec`, "name" or "name(option=1)".

    A head is a function (classes, dropout, **options) in `HEADS`, or one of a detector in
    `DETECTORS`. UserError for an unknown one.
    """
    takes(isinstance(spec, str), "head=", f"one of {', '.join(HEADS)}", spec)
    takes(isinstance(dropout, int | float), "dropout=", "a share from 0 to below 1", dropout)
    function, options = registry.chosen("head", spec, {**HEADS, **DETECTORS})
    if not 0 <= dropout < 1:
        raise UserError(f"dropout is a share from 0 to below 1; got {dropout}")
    return function(classes, dropout, **options)
