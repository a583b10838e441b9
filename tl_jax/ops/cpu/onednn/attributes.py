"""Attributes of a primitive: operations on its output in the same pass, and memory to work in."""

import ctypes

from tl_jax.ops.cpu.onednn import library as dnnl
from tl_jax.ops.cpu.onednn.library import DTYPES, Handle

_USER_SCRATCHPAD = 1
_RELU, _CLIP, _ADD = 0x20, 0x2E, 0x1FFF0
ACTIVATIONS = {"relu": (_RELU, 0.0, 0.0), "relu6": (_CLIP, 0.0, 6.0)}
ADDEND = 32768 | 2  # the number of the operand that is added
DEPTHWISE = 16384  # plus an operand's number: that operand of the fused depthwise convolution


def attributes(
    activation: str | None = None,
    addend: Handle | None = None,
    *,
    accumulate: bool = False,
    depthwise: tuple[int, int, int, str | None] | None = None,
    dtype: str = "float32",
) -> Handle:
    """Return the attributes of a primitive.

    With `accumulate` it adds its output to what is in memory. After that it adds an array of the
    layout `addend` and applies `activation`, one of `ACTIVATIONS`. `depthwise` appends a depthwise
    convolution of numbers of `dtype`: the side of its kernel, its stride, its padding at the start
    and its activation.
    """
    attr = dnnl.create("dnnl_primitive_attr_create")
    operations = dnnl.create("dnnl_post_ops_create")
    dnnl.call("dnnl_primitive_attr_set_scratchpad_mode", attr, _USER_SCRATCHPAD)
    if accumulate:
        dnnl.call("dnnl_post_ops_append_sum", operations, ctypes.c_float(1), 0, 0)
    if addend:
        dnnl.call("dnnl_post_ops_append_binary", operations, _ADD, addend)
    _append(operations, activation)
    if depthwise:
        *window, last = depthwise
        types, window = [DTYPES[dtype]] * 3, map(ctypes.c_int64, window)
        dnnl.call("dnnl_post_ops_append_dw", operations, *types, *window)
        _append(operations, last)
    dnnl.call("dnnl_primitive_attr_set_post_ops", attr, operations)
    return attr


def _append(operations: Handle, activation: str | None) -> None:
    if activation:
        kind, *numbers = ACTIVATIONS[activation]
        dnnl.call("dnnl_post_ops_append_eltwise", operations, kind, *map(ctypes.c_float, numbers))
