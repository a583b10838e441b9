"""Parts that several families are made of, and their rows of a name table."""

import functools
from collections.abc import Callable, Iterable

import flax.linen as nn
import jax

from tl_jax import ops
from tl_jax.chain.heads import Classifier
from tl_jax.chain.places import Layer
from tl_jax.weights.convert import Rule


class Conv(nn.Module):
    """Convolution and `activation` (None: none): (N, H, W, C) to (N, H', W', features).

    Depthwise: `features` is C. `kernel` is the side of a square one or (height, width).
    """

    features: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padding: ops.Padding = "SAME"
    depthwise: bool = False
    bias: bool = True
    activation: Callable[[jax.Array], jax.Array] | None = None

    @nn.compact
    def __call__(self, x, residual=None):
        """`residual` (N, H', W', features), if any, is added before the activation."""
        kernel, convolve = _convolution(self, x)
        bias = None
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        return convolve(x, kernel.astype(x.dtype), bias, residual, activation=self.activation)


class ConvNorm(nn.Module):
    """Convolution, batch norm and `activation` (None: none).

    `bias`: of the convolution, `scale`: of the norm. What Keras and others have there is of no use
    (the norm takes any bias off again), but it is in their files.
    """

    features: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padding: ops.Padding = "SAME"
    depthwise: bool = False
    epsilon: float = 1e-5
    activation: Callable[[jax.Array], jax.Array] | None = jax.nn.relu
    bias: bool = False
    scale: bool = True

    @nn.compact
    def __call__(self, x, residual=None):
        """`residual` (N, H', W', features), if any, is added before the activation."""
        kernel, convolve = _convolution(self, x)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.bias else None
        norm = ops.BatchNorm(self.epsilon, use_scale=self.scale, name="norm")
        return norm(x, convolve, kernel, bias, residual, self.activation)


def _convolution(module, x):
    """The kernel of a module with the fields above, and `ops.conv` with its window."""
    sides = (module.kernel,) * 2 if isinstance(module.kernel, int) else module.kernel
    inputs = 1 if module.depthwise else x.shape[-1]
    kernel = module.param("kernel", nn.initializers.he_normal(), (*sides, inputs, module.features))
    return kernel, functools.partial(ops.conv, stride=module.stride, padding=module.padding)


class NormRelu(nn.Module):
    """Batch norm and ReLU, in front of a convolution ("pre-activation")."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x):
        return ops.BatchNorm(self.epsilon, name="norm")(x, activation=jax.nn.relu)


class Stem(nn.Module):
    """7x7 convolution and 3x3 max pooling, each with stride 2."""

    features: int
    epsilon: float = 1e-5
    bias: bool = False

    @nn.compact
    def __call__(self, x):
        conv = ConvNorm(self.features, 7, 2, 3, epsilon=self.epsilon, bias=self.bias, name="conv")
        return ops.max_pool(conv(x), 3, 2, 1)


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2017, arXiv:1709.01507) with MobileNet v3's hard sigmoid.

    (N, H, W, C) to the same, each channel times a factor out of all channels' means.
    """

    squeezed: int

    @nn.compact
    def __call__(self, x):
        factor = Conv(self.squeezed, activation=jax.nn.relu, name="reduce")(
            x.mean((1, 2), keepdims=True)
        )
        factor = Conv(x.shape[-1], activation=jax.nn.hard_sigmoid, name="expand")(factor)
        return x * factor


class InvertedResidual(nn.Module):
    """Inverted residual (MBConv; Sandler et al. 2018, arXiv:1801.04381): a 1x1 convolution to
    `width` channels, unless that many come in, a depthwise one, a 1x1 one to `features`, and the
    input added where it fits. With `squeeze` there is squeeze-and-excitation behind the depthwise.
    """

    width: int
    features: int
    kernel: int = 3
    stride: int = 1
    same: bool = False  # TensorFlow's padding instead of PyTorch's
    epsilon: float = 1e-5
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu6
    squeeze: bool = False

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(ConvNorm, epsilon=self.epsilon, activation=self.activation)
        padding = "SAME" if self.same else self.kernel // 2
        y = x
        if self.width != x.shape[-1]:
            y = conv(self.width, name="expand")(y)
        y = conv(self.width, self.kernel, self.stride, padding, depthwise=True, name="depthwise")(y)
        if self.squeeze:
            y = SqueezeExcite(round_channels(self.width / 4), name="squeeze")(y)
        fits = self.stride == 1 and x.shape[-1] == self.features
        return conv(self.features, activation=None, name="project")(y, x if fits else None)


def inverted_residuals(
    stages: Iterable[tuple[int, int, int, int, int]], inputs: int, *, same: bool, epsilon: float
) -> list[Layer]:
    """`stage1_block1`, ... for rows (expansion, features, blocks, stride of the first, kernel).

    `inputs`: channels that come in.
    """
    blocks = []
    for stage, (expansion, features, repeats, stride, kernel) in enumerate(stages, 1):
        for i in range(repeats):
            block = InvertedResidual(
                inputs * expansion, features, kernel, 1 if i else stride, same, epsilon
            )
            blocks.append(Layer(f"stage{stage}_block{i + 1}", block))
            inputs = features
    return blocks


def round_channels(channels: float) -> int:
    """To a multiple of 8, never more than 10 % down: so MobileNets and EfficientNets are scaled."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class MaxPool(nn.Module):
    """Max pooling as a layer of its own; see `ops.max_pool`."""

    size: int
    stride: int
    padding: ops.Padding = 0
    ceil: bool = False

    def __call__(self, x):
        return ops.max_pool(x, self.size, self.stride, self.padding, ceil=self.ceil)


class FullyConnected(nn.Module):
    """Dropout, one dense layer, `activation`: (N, D) to (N, features).

    Maps (N, H, W, C) become means in `side` x `side` windows first, flattened, so that the kernel
    fits inputs of any size.
    """

    features: int
    dropout: float = 0.0
    side: int = 1
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu

    @nn.compact
    def __call__(self, x):
        if x.ndim == 4:
            x = ops.adaptive_avg_pool(x, self.side).reshape(len(x), -1)
        x = nn.Dropout(self.dropout)(x, deterministic=not self.has_rng("dropout"))
        return self.activation(nn.Dense(self.features)(x))


class GlobalPool(nn.Module):
    """Global average pooling: (N, H, W, C) to (N, C)."""

    @nn.compact
    def __call__(self, x):
        return x.mean((1, 2))


def pool_and_head(classes: int, *, dropout: float = 0.0) -> tuple[Layer, Layer]:
    """The layers `pool`, whose output is the bottleneck (N, D), and `head`, the classifier."""
    return Layer("pool", GlobalPool()), Layer("head", Classifier(classes, dropout=dropout))


def conv_norm(conv: str, norm: str, path) -> list[Rule]:
    """Rules for a ConvNorm at `path`; `conv` and `norm`: patterns of the file's modules."""
    if callable(path):
        return [Rule(conv, path), Rule(norm, lambda *groups: f"{path(*groups)}/norm")]
    return [Rule(conv, path), Rule(norm, f"{path}/norm")]


def head(dense: str) -> list[Rule]:
    """Rules for the layer `head`; `dense`: pattern of the file's module."""
    return [Rule(dense, "head/Dense_0")]


def timm_inverted_residuals() -> list[Rule]:
    """Rules for timm's files of nets made of `InvertedResidual`: all but the last convolutions."""
    # The first stage has no expansion, and so its convolutions other names.
    first = {"conv_dw": "depthwise", "conv_pw": "project", "bn1": "depthwise", "bn2": "project"}
    later = {"conv_pw": "expand", "conv_dw": "depthwise", "conv_pwl": "project"}
    later |= {"bn1": "expand", "bn2": "depthwise", "bn3": "project"}

    def place(stage, block, part):
        name = (later if stage else first).get(part, part)
        return f"stage{stage + 1}_block{block + 1}/{name}" + "/norm" * part.startswith("bn")

    def squeeze(stage, block, part):
        return f"stage{stage + 1}_block{block + 1}/squeeze/{part}"

    return [
        *conv_norm("conv_stem", "bn1", "stem"),
        Rule(r"blocks\.(\d)\.(\d+)\.(\w+)", place),
        Rule(r"blocks\.(\d)\.(\d+)\.se\.conv_(\w+)", squeeze),
        *head("classifier"),
    ]
