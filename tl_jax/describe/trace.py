"""Cost and receptive field of a traced function, from a walk over its jaxpr.

Receptive fields are theoretical: they grow beyond the image. Where branches join, the largest
counts. Maps are (N, H, W, C); an array of another rank has no positions and sees the whole image.
Of a text only the cost is told: a token sees all others, or all before it.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

# Primitives that compute each position from the same position, or select positions
LIKE_ELEMENTWISE = {
    "add", "add_any", "sub", "mul", "div", "max", "min", "neg", "abs", "square", "integer_pow",
    "pow", "exp", "log", "sqrt", "rsqrt", "logistic", "tanh", "erf", "select_n", "clamp",
    "convert_element_type", "copy", "stop_gradient", "pad", "concatenate", "stack", "split",
    "broadcast_in_dim", "ge", "gt", "le", "lt", "eq", "ne", "squeeze",
}  # fmt: skip
REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod"}
CALLED = ("jaxpr", "call_jaxpr")  # parameters of an equation that hold the function it calls


class Axis(NamedTuple):
    """How the positions of a map see one axis of the image, in pixels."""

    stride: int  # from one position to the next; 0 if all positions see the same
    field: float  # receptive field; inf is the whole axis
    convs: float  # the receptive field if only convolutions have an extent


Seen = tuple[Axis, ...]  # two, along height and width; none of what is no image
IMAGE: Seen = (Axis(1, 1, 1),) * 2
TEXT: Seen = ()


def walk(jaxpr: Any, inputs: Sequence[Seen | None]) -> tuple[list[Seen | None], int]:
    """Return what the outputs of a `jax.extend.core.Jaxpr` see, and its multiply-accumulates.

    `inputs` says what the inputs see: None for those that do not depend on the data, such as
    parameters. Where functions differ between platforms, it follows the default one.
    """
    seen = dict(zip(jaxpr.invars, inputs, strict=True))

    def see(atom):
        return None if hasattr(atom, "val") else seen.get(atom)  # literals are not hashable

    macs = 0
    for eqn in jaxpr.eqns:
        operands = [see(atom) for atom in eqn.invars]
        if all(operand is None for operand in operands):
            continue
        called, arguments = _called(eqn, operands)
        if called is not None:
            outputs, inner_macs = walk(called, arguments)
            macs += inner_macs * (eqn.params["length"] if eqn.primitive.name == "scan" else 1)
        else:
            outputs = [_rule(eqn, operands)] * len(eqn.outvars)
            macs += _macs(eqn)
        seen.update(zip(eqn.outvars, outputs, strict=True))
    return [see(atom) for atom in jaxpr.outvars], macs


def _called(eqn, operands: list):
    """Return the jaxpr that the equation calls, or None, and its operands."""
    if "branches" in eqn.params:
        platforms = eqn.params["branches_platforms"]
        called, operands = eqn.params["branches"][platforms.index(None)], operands[1:]
    else:
        called = next((eqn.params[name] for name in CALLED if name in eqn.params), None)
    if eqn.primitive.name == "scan":
        # What steps hand on depends on the data after the first step, if not before.
        first = eqn.params["num_consts"]
        last = first + eqn.params["num_carry"]
        carried = [_joined(operands)] * eqn.params["num_carry"]
        operands = [*operands[:first], *carried, *operands[last:]]
    return getattr(called, "jaxpr", called), operands  # a closed jaxpr wraps an open one


def _rule(eqn, operands: list) -> Seen:
    """Return what the outputs of an equation see."""
    seen = _joined(operands)
    if not seen:
        return seen
    name, params = eqn.primitive.name, eqn.params
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    if name == "conv_general_dilated":
        numbers = params["dimension_numbers"]
        if numbers.lhs_spec != (0, 3, 1, 2) or any(d != 1 for d in params["lhs_dilation"]):
            raise NotImplementedError(f"receptive field of {eqn}")
        kernel = [eqn.invars[1].aval.shape[d] for d in numbers.rhs_spec[2:]]
        return _window(seen, kernel, params["window_strides"], params["rhs_dilation"], conv=True)
    if name.startswith("reduce_window"):
        inner = [params[f"window_{key}"][1:3] for key in ("dimensions", "strides", "dilation")]
        return _window(seen, *inner)
    if name == "slice" and len(before) == 4:
        return _window(seen, (1, 1), (params["strides"] or (1,) * 4)[1:3], (1, 1))
    moved = name == "reshape" and len(after) == 4 and after[1:3] not in ((1, 1), before[1:3])
    if moved or name not in LIKE_ELEMENTWISE | REDUCTIONS | {"reshape", "slice", "dot_general"}:
        raise NotImplementedError(f"receptive field of {eqn}")
    if len(after) == 4 and name not in REDUCTIONS:
        return seen
    return tuple(Axis(0, math.inf, axis.convs) for axis in seen)


def _window(seen: Seen, kernel, strides, dilation, *, conv: bool = False) -> Seen:
    axes = []
    for axis, size, stride, spread in zip(seen, kernel, strides, dilation, strict=True):
        grown = (size - 1) * spread * axis.stride
        axes.append(Axis(axis.stride * stride, axis.field + grown, axis.convs + conv * grown))
    return tuple(axes)


def _joined(operands: Sequence[Seen | None]) -> Seen:
    """Return the largest of each number; positions that see the whole image have stride 0."""
    branches = [operand for operand in operands if operand is not None]
    return tuple(Axis(*map(max, zip(*axes, strict=True))) for axes in zip(*branches, strict=True))


def _macs(eqn) -> int:
    """Return the multiply-accumulates of a convolution or a matrix product; all else is free."""
    outputs = math.prod(eqn.outvars[0].aval.shape)
    if eqn.primitive.name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape  # it has only the inputs of one group
        return outputs * math.prod(kernel) // kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
    if eqn.primitive.name == "dot_general":
        ((contracted, _), _) = eqn.params["dimension_numbers"]
        return outputs * math.prod(eqn.invars[0].aval.shape[d] for d in contracted)
    return 0
