"""3 x 3 convolution with 36 products in place of 144: Winograd's F(4 x 4, 3 x 3).

Lavin & Gray 2016 (arXiv:1509.09308), section 4: the output is divided into tiles Y of 4 x 4, each
computed from a patch d of 6 x 6 of the input by Y = A' [(G k G') * (B' d B)] A. Here each tile, and
each kernel, is a column: a transform is one matrix product for all tiles and channels of a block,
and between the transforms there are 36 products over the channels. A block is so small that it
stays in the cache from the input to the output.
"""

import math
from typing import NamedTuple

import numpy as np

from tl_jax.ops.cpu.onednn import library as dnnl
from tl_jax.ops.cpu.onednn.attributes import attributes
from tl_jax.ops.cpu.onednn.cases import INPUT_GRADIENT, KERNEL_GRADIENT, PACKING, Shape, Winograd
from tl_jax.ops.cpu.onednn.frames import TILE, Block, Frame, block_of, column_stride, starts
from tl_jax.ops.cpu.onednn.library import Handle
from tl_jax.ops.cpu.onednn.program import Location, Primitive, Program

KERNEL = 3
_SPAN = TILE + KERNEL - 1

# The transforms evaluate polynomials at these points and at infinity. Of the points tried, these
# have the least error in float32, a few times that of the direct sum (Barabasz et al.,
# arXiv:1803.10986, discuss the choice). At the first, 1, every output has the factor 1: what is
# added there is added to all outputs.
_POINTS = (1.0, 0.0, -1.0, 0.5, -2.0)

# A block has at most TILES tiles or, if that is more, as many as give NUMBERS numbers at a point.
# It must stay in the cache, yet each of its many steps must be worth waking all threads for.
TILES, NUMBERS = 196, 2**15


def _matrices() -> list[np.ndarray]:
    """Return B' (36, 36), G (36, 9) and A' (16, 36), for tiles as columns, by Toom and Cook.

    Taps and outputs are coefficients of polynomials, which are evaluated at the points, multiplied
    there and recovered by interpolation; correlation is the transpose of that product.
    """
    points = np.array(_POINTS)

    def powers(count):
        return np.vstack([points[:, None] ** np.arange(count), np.eye(count)[-1:]])

    others = [np.delete(points, i) for i in range(len(points))]
    interpolation = np.zeros((_SPAN, _SPAN))
    for row, roots in zip(interpolation, [*others, points], strict=True):
        row[: len(roots) + 1] = np.poly(roots)[::-1]
    scale = [np.prod(point - left) for point, left in zip(points, others, strict=True)]
    taps = powers(KERNEL) / np.array([*scale, 1.0])[:, None]
    # Powers of two move from one matrix to the other without error, and keep the numbers near 1.
    size = 2.0 ** np.round(np.log2(np.abs(interpolation).max(1, keepdims=True)))
    matrices = interpolation / size, taps * size, powers(TILE).T
    return [np.kron(m, m).astype(np.float32) for m in matrices]


_INPUT, _TAPS, _OUTPUT = _matrices()


def winograd(case: Winograd) -> Program:
    """Return the program of the convolution, of a gradient of it, or of the kernel's transform."""
    if case.kind == PACKING:
        program, kernels = Program(), _stack(_SPAN**2, *case.kernel[2:])
        program.add(_transform(program, _TAPS, kernels), _TAPS, Location(0), Location(1))
        return program
    if case.kind == KERNEL_GRADIENT:
        return _kernel_gradient(case)
    if case.kind == INPUT_GRADIENT:
        edges = [KERNEL - 1 - before for before, _ in case.padding]
        return _convolution(case, case.y, case.x, edges, transposed=True)
    return _convolution(case, case.x, case.y, [before for before, _ in case.padding])


def _convolution(
    case: Winograd, source: Shape, target: Shape, edges, *, transposed=False
) -> Program:
    """Return the program that convolves `source`, with `edges` above and on the left, to `target`.

    Its kernel is (3, 3, C, D), its bias (D,). For the gradient of the input, the source is the
    gradient of the output and the kernel is `transposed`: flipped, with C and D swapped.
    """
    program, block = Program(), block_of(target, _most(source, target))
    x, kernel, bias, y = Location(0), Location(1), Location(2), Location(3 if case.bias else 2)
    source_frame = Frame(program, source, block, _SPAN, edges)
    target_frame = Frame(program, target, block, TILE)

    # Patches and products take turns in two buffers.
    inputs, outputs = (_columns(block, shape[3]) for shape in (source, target))
    one, other = (program.scratch(max(inputs, outputs).layout) for _ in range(2))
    kernels = _stack(_SPAN**2, *case.kernel[2:])
    transformed = kernel if case.packed else program.scratch(kernels.layout)
    to_points = _transform(program, _INPUT, inputs)
    # The bias is added to the products at the point (1, 1), the first.
    stacks = inputs, kernels.transposed if transposed else kernels, outputs
    first = [_product(program, *(each.some(1) for each in stacks), bias=True)] if case.bias else []
    products = _product(program, *(each.some(_SPAN**2 - len(first)) for each in stacks))
    from_points = _transform(program, _OUTPUT, outputs, activation=case.activation)

    if not case.packed:
        taps = np.ascontiguousarray(_TAPS[:, ::-1]) if transposed else _TAPS
        program.add(_transform(program, taps, kernels), taps, kernel, transformed)
    for image, row in starts(target, block):
        source_frame.gather(x, image, row, one)
        program.add(to_points, _INPUT, one, other)
        locations = [other, transformed, one]
        for product in first:
            program.add(product, *locations, bias)
            steps = [stack.strides[0] for stack in stacks]
            locations = [at.after(step) for at, step in zip(locations, steps, strict=True)]
        program.add(products, *locations)
        program.add(from_points, _OUTPUT, one, other)
        target_frame.scatter(other, y, image, row)
    return program


def _kernel_gradient(case: Winograd) -> Program:
    """Return the program for the gradients of kernel (3, 3, C, D) and bias (D,), from an image and
    the gradient of the output.
    """
    program, block = Program(), block_of(case.y, _most(case.x, case.y))
    x, g, y, bias = map(Location, range(4))
    image_frame = Frame(program, case.x, block, _SPAN, [before for before, _ in case.padding])
    gradient_frame = Frame(program, case.y, block, TILE)

    inputs, outputs = (_columns(block, shape[3]) for shape in (case.x, case.y))
    one, other, third = (program.scratch(max(inputs, outputs).layout) for _ in range(3))
    kernels = _stack(_SPAN**2, *case.kernel[2:])
    total = program.scratch(kernels.layout)
    output, taps = np.ascontiguousarray(_OUTPUT.T), np.ascontiguousarray(_TAPS.T)
    to_points = _transform(program, _INPUT, inputs)
    g_to_points = _transform(program, output, outputs)
    stacks = inputs.transposed, outputs, kernels
    # At the point (1, 1), the first, each gradient of a tile has the factor 1.
    ones = np.ones(block.tiles, np.float32)
    of_bias = _stack(1, 1, block.tiles), outputs.some(1), _stack(1, 1, case.y[3])
    set_or_add = (False, True)
    products = [_product(program, *stacks, accumulate=add) for add in set_or_add]
    sums = [_product(program, *of_bias, accumulate=add) for add in set_or_add]

    for number, (image, row) in enumerate(starts(case.y, block)):
        image_frame.gather(x, image, row, one)
        program.add(to_points, _INPUT, one, other)
        gradient_frame.gather(g, image, row, third)
        program.add(g_to_points, output, third, one)
        program.add(products[number > 0], other, one, total)
        if case.bias:
            program.add(sums[number > 0], ones, one, bias)
    program.add(_transform(program, taps, kernels), taps, total, y)
    return program


def _most(source: Shape, target: Shape) -> int:
    return max(TILES, NUMBERS // max(source[3], target[3]))


class _Stack(NamedTuple):
    """Matrices in memory: how many matrices, rows and columns, and the strides, in numbers."""

    sizes: tuple[int, int, int]
    strides: tuple[int, int, int]

    @property
    def layout(self) -> Handle:
        return dnnl.strided(self.sizes, self.strides)

    @property
    def transposed(self) -> "_Stack":
        """The same memory, read as the transposed matrices."""
        return _Stack(*((several[0], several[2], several[1]) for several in self))

    def some(self, count: int) -> "_Stack":
        """Return a stack of `count` matrices with the same strides."""
        return self._replace(sizes=(count, *self.sizes[1:]))


def _stack(count: int, rows: int, columns: int) -> _Stack:
    return _Stack((count, rows, columns), (rows * columns, columns, 1))


def _columns(block: Block, channels: int) -> _Stack:
    """Return the stack that has, for each point, the matrix (tiles of a block, channels)."""
    strides = column_stride(block, channels), channels, 1
    return _Stack((_SPAN**2, block.tiles, channels), strides)


_A, _B, _BIAS, _Y = 1, 33, 41, 17  # the operands of a product


def _transform(program: Program, matrix: np.ndarray, stack: _Stack, **after) -> Primitive:
    """Return the product of `matrix` and a stack, whose matrices count as one row each."""
    stride = stack.strides[0]

    def rows(count):
        return _Stack((1, count, math.prod(stack.sizes[1:])), (count * stride, stride, 1))

    ends = rows(matrix.shape[1]), rows(matrix.shape[0])
    return _product(program, _stack(1, *matrix.shape), *ends, **after)


def _product(
    program: Program,
    a: _Stack,
    b: _Stack,
    y: _Stack,
    *,
    bias: bool = False,
    accumulate: bool = False,
    activation: str | None = None,
) -> Primitive:
    """Return the primitive of the products of pairs of matrices.

    It adds a `bias` to the columns, and with `accumulate` adds the products to what is in `y`.
    """
    operands = [(_A, a.layout), (_B, b.layout), (_Y, y.layout)]
    if bias:
        operands.append((_BIAS, _stack(1, 1, y.sizes[2]).layout))
    layouts = dict(operands)
    description = dnnl.create(
        "dnnl_matmul_primitive_desc_create",
        *(dnnl.engine(), *(layouts.get(number) for number in (_A, _B, _BIAS, _Y))),
        attributes(activation, accumulate=accumulate),
    )
    return program.primitive(description, *operands)
