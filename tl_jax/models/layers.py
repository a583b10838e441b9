"""Parts that several families are made of, and their rows of a PyTorch name table."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax

from tl_jax import ops


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm and `activation` (None: none)."""

    features: int
    kernel: int = 1
    stride: int = 1
    padding: ops.Padding = "SAME"
    depthwise: bool = False
    epsilon: float = 1e-5
    activation: Callable[[jax.Array], jax.Array] | None = jax.nn.relu

    @nn.compact
    def __call__(self, x):
        inputs = 1 if self.depthwise else x.shape[-1]
        shape = (self.kernel, self.kernel, inputs, self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        convolve = ops.depthwise_conv if self.depthwise else ops.conv
        convolve = functools.partial(convolve, stride=self.stride, padding=self.padding)
        x = ops.BatchNorm(self.epsilon, name="norm")(x, kernel, convolve)
        return self.activation(x) if self.activation else x


class GlobalPool(nn.Module):
    """Global average pooling: (N, H, W, C) to (N, C)."""

    @nn.compact
    def __call__(self, x):
        return x.mean((1, 2))


def conv_norm_names(conv: str, norm: str, path: str) -> list[tuple[str, str]]:
    """(pattern, path) of a ConvNorm at `path`; `conv` and `norm`: patterns of PyTorch's modules."""
    return [
        (rf"{conv}\.weight", f"params/{path}/kernel"),
        (rf"{norm}\.weight", f"params/{path}/norm/scale"),
        (rf"{norm}\.bias", f"params/{path}/norm/bias"),
        (rf"{norm}\.running_mean", f"batch_stats/{path}/norm/mean"),
        (rf"{norm}\.running_var", f"batch_stats/{path}/norm/var"),
    ]


def head_names(dense: str) -> list[tuple[str, str]]:
    """(pattern, path) of the layer `head`; `dense`: pattern of PyTorch's module."""
    return [
        (rf"{dense}\.weight", "params/head/Dense_0/kernel"),
        (rf"{dense}\.bias", "params/head/Dense_0/bias"),
    ]
