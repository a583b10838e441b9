"""Cases: what an operation computes, as names and numbers that a stored program can carry."""

from typing import NamedTuple

Shape = tuple[int, int, int, int]
Edges = tuple[tuple[int, int], tuple[int, int]]

FORWARD, GRADIENT = "forward", "gradient"
INPUT_GRADIENT, KERNEL_GRADIENT = "input_gradient", "kernel_gradient"
PACKING = "packing"  # copies the kernel into the layout that the forward pass wants
PACKING_DEPTHWISE = "packing_depthwise"


class Convolution(NamedTuple):
    """A direct convolution or one of its gradients; shapes are NHWC and HWIO."""

    kind: str  # FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT or PACKING
    x: Shape
    kernel: Shape  # (kh, kw, C / groups, D)
    y: Shape
    stride: int
    padding: Edges
    bias: bool = False
    residual: bool = False
    activation: str | None = None  # one of ACTIVATIONS
    packed: bool = False  # whether the kernel is in oneDNN's layout
    dtype: str = "float32"  # of all arrays; sums are in float32

    @property
    def pointwise(self) -> bool:
        """Whether each pixel of the output is a product of the kernel and one pixel."""
        dense = self.kernel[2] == self.x[3]
        return self.kernel[:2] == (1, 1) and dense and self.x[:3] == self.y[:3]


class BatchNorm(NamedTuple):
    """Batch norm by the batch's statistics, or its gradients."""

    kind: str  # FORWARD or GRADIENT
    x: Shape
    epsilon: float
    relu: bool


class Pooling(NamedTuple):
    """Max or average pooling, or its gradient."""

    kind: str  # FORWARD or GRADIENT
    of: str  # one of POOLS
    x: Shape
    y: Shape
    size: int
    stride: int
    padding: Edges
    differentiated: bool = False  # the gradient of maxima needs to know where each was
    dtype: str = "float32"


class Winograd(NamedTuple):
    """A 3 x 3 convolution with stride 1 in Winograd's form, or one of its gradients."""

    kind: str  # FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT or PACKING
    x: Shape
    kernel: Shape
    y: Shape
    padding: Edges
    bias: bool = False
    activation: str | None = None
    packed: bool = False


class Pair(NamedTuple):
    """A 1 x 1 convolution and a depthwise one of its output, both with bias and packed kernels."""

    kind: str  # FORWARD, PACKING (of the first kernel) or PACKING_DEPTHWISE
    x: Shape
    kernel: Shape  # (1, 1, C, D)
    between: str | None  # the activation after the first
    depthwise: Shape  # (k, k, 1, D)
    stride: int
    padding: Edges
    y: Shape
    activation: str | None
    dtype: str = "float32"  # as in a convolution


Case = Convolution | BatchNorm | Pooling | Winograd | Pair
_NAMES = {kind.__name__: kind for kind in (Convolution, BatchNorm, Pooling, Winograd, Pair)}


def case_of(name: str, fields: list) -> Case:
    """Return the case of class `name`; `fields` has lists instead of tuples."""
    return _NAMES[name](*_tuples(fields))


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
