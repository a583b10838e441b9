"""What a primitive does besides: operations on its output in the same pass, and whose memory it
works in.
"""

import ctypes

from tl_jax.ops.cpu.onednn import library as dnnl
from tl_jax.ops.cpu.onednn.library import F32, Handle

_USER_SCRATCHPAD = 1
_RELU, _CLIP, _ADD = 0x20, 0x2E, 0x1FFF0
ACTIVATIONS = {"relu": (_RELU, 0.0, 0.0), "relu6": (_CLIP, 0.0, 6.0)}
ADDED = 32768 | 2  # the number of the operand that is added
DEPTHWISE = 16384  # with that of an operand: of the depthwise convolution behind


def attributes(
    activation: str | None = None,
    added: Handle | None = None,
    *,
    to_what_is_there: bool = False,
    depthwise: tuple[int, int, int, str | None] | None = None,
) -> Handle:
    """Of a primitive whose output is added `to_what_is_there`, to which an array of the layout
    `added` is added, and to which an activation, one of `ACTIVATIONS`, is applied.

    Then comes a `depthwise` convolution: its kernel's side, stride, padding before and activation.
    """
    made, after = dnnl.made("dnnl_primitive_attr_create"), dnnl.made("dnnl_post_ops_create")
    dnnl.call("dnnl_primitive_attr_set_scratchpad_mode", made, _USER_SCRATCHPAD)
    if to_what_is_there:
        dnnl.call("dnnl_post_ops_append_sum", after, ctypes.c_float(1), 0, 0)
    if added:
        dnnl.call("dnnl_post_ops_append_binary", after, _ADD, added)
    _append(after, activation)
    if depthwise:
        *window, last = depthwise
        window = map(ctypes.c_int64, window)
        dnnl.call("dnnl_post_ops_append_dw", after, F32, F32, F32, *window)
        _append(after, last)
    dnnl.call("dnnl_primitive_attr_set_post_ops", made, after)
    return made


def _append(operations: Handle, activation: str | None) -> None:
    if activation:
        kind, *numbers = ACTIVATIONS[activation]
        dnnl.call("dnnl_post_ops_append_eltwise", operations, kind, *map(ctypes.c_float, numbers))
