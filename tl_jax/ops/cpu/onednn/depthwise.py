"""The gradient by a depthwise kernel of 5 columns.

oneDNN has a fast one for up to 3 columns, with padding beside the image of up to half of them, and
is several times slower beyond. So the columns 0 to 2 and 2 to 4 are kernels of their own here.
"""

import numpy as np

from tl_jax.ops.cpu.onednn import library as dnnl
from tl_jax.ops.cpu.onednn import primitives
from tl_jax.ops.cpu.onednn.cases import KERNEL_GRADIENT, Convolution
from tl_jax.ops.cpu.onednn.primitives import DIFF_DST, DIFF_WEIGHTS, SRC
from tl_jax.ops.cpu.onednn.program import Place, Program

_COLUMNS, _PART = 5, 3
_ZEROS = _COLUMNS - _PART  # so many between one row and the next


def in_parts(case: Convolution) -> bool:
    """Whether the kernel's gradient is to be had by two parts of it."""
    before, after = case.padding[1]
    depthwise = case.kernel[2] == 1 and case.kernel[3] == case.x[3] > 1
    wanted = case.kind == KERNEL_GRADIENT and depthwise and not case.bias
    fits = case.kernel[1] == _COLUMNS and max(before, after) <= _ZEROS
    made = (case.x[2] + _ZEROS - _PART) // case.stride + 1  # of a row with its zeros, by a part
    return wanted and fits and case.y[2] == made


def kernel_gradient(case: Convolution) -> Program:
    """Of an image and a gradient by the output, by the kernel (kh, 5, 1, C).

    The image is copied with two zeros after each row, and before the first. What begins `p` pixels
    before a row has so much padding: the zeros of the row above.
    """
    (n, h, w, c), (rows, (before, _)) = case.x, case.padding
    wide, program = w + _ZEROS, Program()
    x, g, kernel = map(Place, range(3))
    padded = program.scratch(dnnl.vector((n * h * wide + 2 * _ZEROS) * c))
    zeros = np.zeros((n * h + 1, _ZEROS * c), np.float32)
    for source, place, (height, width) in [
        (zeros, padded, zeros.shape),
        (x, padded.after(_ZEROS * c), (n * h, w * c)),
    ]:
        layouts = dnnl.matrix((height, width)), dnnl.strided((height, width), (wide * c, 1))
        program.add(program.reorder(*layouts), source, place)

    sizes = {"x": (n, h, wide, c), "kernel": (case.kernel[0], _PART, 1, c)}
    part = case._replace(**sizes, padding=(rows, (0, 0)))
    description = primitives.described(part)
    columns = primitives.given_kernel(part.kernel, c, row=_COLUMNS)
    for first in (0, _COLUMNS - _PART):  # both have the column in the middle
        seen = padded.after((_ZEROS - before + first) * c)
        primitives.add(
            program,
            description,
            [(SRC, dnnl.image(part.x), seen), (DIFF_DST, dnnl.image(part.y), g)],
            [(DIFF_WEIGHTS, columns, kernel.after(first * c))],
        )
    return program
