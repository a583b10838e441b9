"""The gradient of a depthwise kernel of 5 columns.

oneDNN computes it fast for up to 3 columns and a padding on either side of up to half of them, and
is several times slower beyond. So here columns 0 to 2 and columns 2 to 4 are two kernels.
"""

import numpy as np

from tl_jax.ops.cpu.onednn import library as dnnl
from tl_jax.ops.cpu.onednn import primitives
from tl_jax.ops.cpu.onednn.cases import KERNEL_GRADIENT, Convolution
from tl_jax.ops.cpu.onednn.primitives import DIFF_DST, DIFF_WEIGHTS, SRC
from tl_jax.ops.cpu.onednn.program import Location, Program

_COLUMNS, _PART = 5, 3
_ZEROS = _COLUMNS - _PART  # zeros between one row and the next


def in_parts(case: Convolution) -> bool:
    """Whether two parts can compute `case`, the gradient of a kernel."""
    before, after = case.padding[1]
    depthwise = case.kernel[2] == 1 and case.kernel[3] == case.x[3] > 1
    applies = case.kind == KERNEL_GRADIENT and depthwise and not case.bias
    fits = case.kernel[1] == _COLUMNS and max(before, after) <= _ZEROS
    width = (case.x[2] + _ZEROS - _PART) // case.stride + 1  # a part's output for a padded row
    return applies and fits and case.y[2] == width


def kernel_gradient(case: Convolution) -> Program:
    """Return the program that computes the kernel's gradient (kh, 5, 1, C) from image and output
    gradient.

    It copies the image with two zeros before the first row and after each row. A row that is read
    from `p` pixels before its start has padding `p`: the zeros after the row above.
    """
    (n, h, w, c), (rows, (before, _)) = case.x, case.padding
    width, program = w + _ZEROS, Program()
    x, g, kernel = map(Location, range(3))
    padded = program.scratch(dnnl.vector((n * h * width + 2 * _ZEROS) * c))
    zeros = np.zeros((n * h + 1, _ZEROS * c), np.float32)
    for source, target, shape in [
        (zeros, padded, zeros.shape),
        (x, padded.after(_ZEROS * c), (n * h, w * c)),
    ]:
        layouts = dnnl.matrix(shape), dnnl.strided(shape, (width * c, 1))
        program.add(program.reorder(*layouts), source, target)

    sizes = {"x": (n, h, width, c), "kernel": (case.kernel[0], _PART, 1, c)}
    part = case._replace(**sizes, padding=(rows, (0, 0)))
    description = primitives.describe(part)
    columns = primitives.kernel_layout(part.kernel, c, row=_COLUMNS)
    for first in (0, _COLUMNS - _PART):  # both parts compute the middle column
        image = padded.after((_ZEROS - before + first) * c)
        primitives.add(
            program,
            description,
            [(SRC, dnnl.image(part.x), image), (DIFF_DST, dnnl.image(part.y), g)],
            [(DIFF_WEIGHTS, columns, kernel.after(first * c))],
        )
    return program
