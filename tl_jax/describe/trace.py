"""What a traced function costs, and how much of an image its output sees: a walk over a jaxpr.

Receptive fields are the theoretical ones: they grow beyond the image. Where branches join, the
largest counts. Maps are (N, H, W, C); an array of another rank has no positions, it sees all.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

# Primitives that take every position for itself, or only take some of the positions
LIKE_ELEMENTWISE = {
    "add", "add_any", "sub", "mul", "div", "max", "min", "neg", "abs", "square", "integer_pow",
    "pow", "exp", "log", "sqrt", "rsqrt", "logistic", "tanh", "erf", "select_n", "clamp",
    "convert_element_type", "copy", "stop_gradient", "pad", "concatenate", "stack", "split",
    "broadcast_in_dim", "ge", "gt", "le", "lt", "eq", "ne", "squeeze",
}  # fmt: skip
REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod"}
CALLED = ("jaxpr", "call_jaxpr")  # where an equation has the function that it calls


class Axis(NamedTuple):
    """How the positions of a map see one axis of the image, in pixels."""

    stride: int  # from one position to the next; 0: all positions see the same
    field: float  # receptive field; inf: all
    convs: float  # the receptive field if only convolutions have an extent


Seen = tuple[Axis, ...]  # two, along height and width
IMAGE: Seen = (Axis(1, 1, 1),) * 2


def walk(jaxpr: Any, inputs: Sequence[Seen | None]) -> tuple[list[Seen | None], int]:
    """What the outputs of a `jax.extend.core.Jaxpr` see, and its multiply-accumulates.

    `inputs`: what they see; None for what does not come from the image, like parameters. Of
    functions that differ between platforms, the default one is followed.
    """
    found = dict(zip(jaxpr.invars, inputs, strict=True))

    def see(atom):
        return None if hasattr(atom, "val") else found.get(atom)  # literals are not hashable

    macs = 0
    for eqn in jaxpr.eqns:
        operands = [see(atom) for atom in eqn.invars]
        if not any(operands):
            continue
        called, given = _called(eqn, operands)
        if called is not None:
            outputs, inside = walk(called, given)
            macs += inside
        else:
            outputs = [_rule(eqn, operands)] * len(eqn.outvars)
            macs += _macs(eqn)
        found.update(zip(eqn.outvars, outputs, strict=True))
    return [see(atom) for atom in jaxpr.outvars], macs


def _called(eqn, operands: list):
    """The jaxpr that the equation calls, or None, and its operands."""
    if "branches" in eqn.params:
        platforms = eqn.params["branches_platforms"]
        called, operands = eqn.params["branches"][platforms.index(None)], operands[1:]
    else:
        called = next((eqn.params[name] for name in CALLED if name in eqn.params), None)
    return getattr(called, "jaxpr", called), operands  # open a closed one


def _rule(eqn, operands: list) -> Seen:
    """What the outputs of an equation see."""
    name, params = eqn.primitive.name, eqn.params
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    seen = _joined([one for one in operands if one])
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


def _joined(several: Sequence[Seen]) -> Seen:
    """The largest of each: positions that see all, like a gate's, have stride 0."""
    return tuple(Axis(*map(max, zip(*axes, strict=True))) for axes in zip(*several, strict=True))


def _macs(eqn) -> int:
    """Multiply-accumulates of a convolution or a matrix product; all else is free."""
    each = math.prod(eqn.outvars[0].aval.shape)
    if eqn.primitive.name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape  # of grouped convolutions only the group's inputs
        return each * math.prod(kernel) // kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
    if eqn.primitive.name == "dot_general":
        ((contracted, _), _) = eqn.params["dimension_numbers"]
        return each * math.prod(eqn.invars[0].aval.shape[d] for d in contracted)
    return 0
