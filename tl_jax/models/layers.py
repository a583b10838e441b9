"""Modules that several families share, and the rules for their names in weight files."""

import functools
from collections.abc import Callable, Iterable

import flax.linen as nn
import jax

from tl_jax import ops
from tl_jax.chain import depth
from tl_jax.chain.heads import Classifier
from tl_jax.chain.places import Layer
from tl_jax.weights.convert import Rule


class Conv(nn.Module):
    """Convolution, then `activation` if any: (N, H, W, C) to (N, H', W', features).

    `kernel` is the side of a square kernel, or (height, width). If `depthwise`, `features` must be
    C.
    """

    features: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padding: ops.Padding = "SAME"
    depthwise: bool = False
    bias: bool = True
    activation: Callable[[jax.Array], jax.Array] | None = None

    @nn.compact
    def __call__(self, x, residual=None, kept=None):
        """`residual` (N, H', W', features), if any, is added before the activation; the convolution
        is first multiplied by `kept` (N, 1, 1, 1), if any.
        """
        kernel, convolve = _convolution(self, x)
        bias = None
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        run = functools.partial(convolve, x, kernel.astype(x.dtype), bias)
        if kept is None:
            return run(residual, activation=self.activation)
        return _joined(run(), residual, kept, self.activation)


class ConvNorm(nn.Module):
    """Convolution and batch norm, then `activation` if any.

    `bias` gives the convolution a bias, which does nothing (the norm subtracts it again), but is in
    files of Keras and others. `scale` gives the norm a scale.
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
    def __call__(self, x, residual=None, kept=None):
        """`residual` (N, H', W', features), if any, is added before the activation; the norm's
        output is first multiplied by `kept` (N, 1, 1, 1), if any.
        """
        kernel, convolve = _convolution(self, x)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.bias else None
        norm = ops.BatchNorm(self.epsilon, use_scale=self.scale, name="norm")
        if kept is None:
            return norm(x, convolve, kernel, bias, residual, self.activation)
        return _joined(norm(x, convolve, kernel, bias), residual, kept, self.activation)


def _joined(y, residual, kept, activation):
    """Return `activation`, if any, of a residual and a branch that some examples leave out."""
    y = y * kept if residual is None else y * kept + residual
    return activation(y) if activation else y


def _convolution(module, x):
    """Return the kernel of a `Conv` or `ConvNorm`, and `ops.conv` with its stride and padding."""
    sides = (module.kernel,) * 2 if isinstance(module.kernel, int) else module.kernel
    inputs = 1 if module.depthwise else x.shape[-1]
    kernel = module.param("kernel", nn.initializers.he_normal(), (*sides, inputs, module.features))
    return kernel, functools.partial(ops.conv, stride=module.stride, padding=module.padding)


class NormRelu(nn.Module):
    """Batch norm and ReLU, before a convolution ("pre-activation")."""

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

    Multiply each channel of (N, H, W, C) by a factor, computed from the means of all channels.
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
    """Inverted residual (MBConv; Sandler et al. 2018, arXiv:1801.04381).

    A 1x1 convolution to `width` channels (unless the input has as many), a depthwise one, with
    `squeeze` squeeze-and-excitation, and a 1x1 convolution to `features`. The block adds its input
    if the shapes agree.
    """

    width: int
    features: int
    kernel: int = 3
    stride: int = 1
    same: bool = False  # TensorFlow's padding instead of PyTorch's
    epsilon: float = 1e-5
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu6
    squeeze: bool = False
    drop_branch: float = 0.0  # see `chain.depth`; of blocks that add their input

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
        project = conv(self.features, activation=None, name="project")
        fits = self.stride == 1 and x.shape[-1] == self.features
        return project(y, x, depth.kept(self, x)) if fits else project(y)


def inverted_residuals(
    stages: Iterable[tuple[int, int, int, int, int]], inputs: int, *, same: bool, epsilon: float
) -> list[Layer]:
    """Return the layers `stage1_block1`, ... of an input of `inputs` channels.

    `stages` has rows (expansion, features, blocks, stride of the first block, kernel).
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
    """Round to a multiple of 8, down by 10 % at most, as MobileNet and EfficientNet scale width."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class MaxPool(nn.Module):
    """Max pooling; see `ops.max_pool`."""

    size: int
    stride: int
    padding: ops.Padding = 0
    ceil: bool = False

    def __call__(self, x):
        return ops.max_pool(x, self.size, self.stride, self.padding, ceil=self.ceil)


class FullyConnected(nn.Module):
    """Dropout, one dense layer, `activation`: (N, D) to (N, features).

    Maps (N, H, W, C) are first averaged to `side` x `side` windows and flattened, so that the
    kernel fits inputs of any size.
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
    """The mean over space or over a text's tokens: (N, H, W, C) or (N, T, C) to (N, C)."""

    @nn.compact
    def __call__(self, x):
        return ops.mean_of_positions(x)


def pool_and_head(classes: int, *, dropout: float = 0.0) -> tuple[Layer, Layer]:
    """Return the layers `pool`, which outputs the bottleneck (N, D), and `head`, the classifier."""
    return Layer("pool", GlobalPool()), Layer("head", Classifier(classes, dropout=dropout))


def conv_norm(conv: str, norm: str, path) -> list[Rule]:
    """Return rules for a ConvNorm at `path`; patterns `conv`, `norm` match the file's modules."""
    if callable(path):
        return [Rule(conv, path), Rule(norm, lambda *groups: f"{path(*groups)}/norm")]
    return [Rule(conv, path), Rule(norm, f"{path}/norm")]


def head(dense: str) -> list[Rule]:
    """Return rules for the layer `head`; the pattern `dense` matches the file's module."""
    return [Rule(dense, "head/Dense_0")]


def timm_inverted_residuals() -> list[Rule]:
    """Return rules for timm's nets of `InvertedResidual`, for all but the last convolution."""
    # The first stage has no expansion, so its convolutions have other names.
    first = {"conv_dw": "depthwise", "conv_pw": "project", "bn1": "depthwise", "bn2": "project"}
    later = {"conv_pw": "expand", "conv_dw": "depthwise", "conv_pwl": "project"}
    later |= {"bn1": "expand", "bn2": "depthwise", "bn3": "project"}

    def path(stage, block, part):
        name = (later if stage else first).get(part, part)
        return f"stage{stage + 1}_block{block + 1}/{name}" + "/norm" * part.startswith("bn")

    def squeeze(stage, block, part):
        return f"stage{stage + 1}_block{block + 1}/squeeze/{part}"

    return [
        *conv_norm("conv_stem", "bn1", "stem"),
        Rule(r"blocks\.(\d)\.(\d+)\.(\w+)", path),
        Rule(r"blocks\.(\d)\.(\d+)\.se\.conv_(\w+)", squeeze),
        *head("classifier"),
    ]
