"""Primitives of oneDNN that run one after the other, as one operation."""

import ctypes
from typing import NamedTuple

import numpy as np

from tl_jax.ops.cpu.onednn import library as dnnl
from tl_jax.ops.cpu.onednn.lanes import Lane
from tl_jax.ops.cpu.onednn.library import Handle

_SCRATCHPAD_MD, _SCRATCHPAD = 136, 80
_FROM, _TO = 1, 17
_ALIGNMENT = 64


class Place(NamedTuple):
    """Where an operand begins: in an array that is given, or in scratch memory."""

    array: int
    offset: int = 0  # bytes

    def after(self, numbers: int) -> "Place":
        """The place that many float32 further on."""
        return self._replace(offset=self.offset + 4 * numbers)


_OWN = -1  # the array of scratch memory


class Primitive(NamedTuple):
    """Compiled; with the numbers and layouts of its operands, and a place for what it keeps there
    while it runs.
    """

    handle: Handle
    operands: tuple[tuple[int, Handle], ...]
    scratchpad: Place


class _Passed(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("memory", Handle)]


class Program:
    """Steps, written down once and run on any number of arrays."""

    def __init__(self):
        self.sizes: dict[int, int] = {}  # bytes of each array that is given
        self._scratch = 0  # bytes
        self._operands: dict[int, list[tuple[Handle, int]]] = {}  # of each array: memory, offset
        self._bound: dict[int, int] = {}  # the address that those of each array are set to
        self._steps: list[tuple[Handle, int, ctypes.Array]] = []
        self._constants: list[np.ndarray] = []

    def scratch(self, layout: Handle) -> Place:
        """Room for what has that layout, while the program runs."""
        place = Place(_OWN, self._scratch)
        self._scratch += -(-dnnl.size(layout) // _ALIGNMENT) * _ALIGNMENT
        return place

    def primitive(self, description: Handle, *operands: tuple[int, Handle]) -> Primitive:
        """What is described, for any number of steps."""
        handle = dnnl.made("dnnl_primitive_create", description)
        layout = dnnl.queried(description, _SCRATCHPAD_MD)
        return Primitive(handle, (*operands, (_SCRATCHPAD, layout)), self.scratch(layout))

    def reorder(self, source: Handle, target: Handle) -> Primitive:
        """What copies from one layout to another."""
        engine = dnnl.engine()
        name = "dnnl_reorder_primitive_desc_create"
        description = dnnl.made(name, source, engine, target, engine, None)
        return self.primitive(description, (_FROM, source), (_TO, target))

    def add(self, primitive: Primitive, *places: Place | np.ndarray) -> None:
        """One more step: the primitive with its operands there, or with constants."""
        passed = [
            _Passed(number, self._memory(layout, place))
            for (number, layout), place in zip(
                primitive.operands, (*places, primitive.scratchpad), strict=True
            )
        ]
        self._steps.append((primitive.handle, len(passed), (_Passed * len(passed))(*passed)))

    def _memory(self, layout: Handle, place: Place | np.ndarray) -> Handle:
        if isinstance(place, np.ndarray):
            self._constants.append(place)  # or it would be gone
            return dnnl.made("dnnl_memory_create", layout, dnnl.engine(), Handle(place.ctypes.data))
        memory = dnnl.made("dnnl_memory_create", layout, dnnl.engine(), None)
        self._operands.setdefault(place.array, []).append((memory, place.offset))
        if place.array != _OWN:
            self.sizes.setdefault(place.array, dnnl.size(layout))
        return memory

    def run(self, addresses: list[int], lane: Lane) -> None:
        """Compute what is to be, with the arrays at these addresses; always in the same lane."""
        execute = dnnl.library().dnnl_primitive_execute
        for array, address in [*enumerate(addresses), (_OWN, lane.scratch(self._scratch))]:
            self._bind(array, address)
        for handle, count, passed in self._steps:
            if status := execute(handle, lane.stream, count, passed):
                raise dnnl.DnnlError(f"dnnl_primitive_execute ended with status {status}")

    def _bind(self, array: int, address: int) -> None:
        """Set the operands in that array to where it is: often where it was a step ago."""
        if self._bound.get(array) == address:
            return
        bind = dnnl.library().dnnl_memory_set_data_handle
        for memory, offset in self._operands.get(array, ()):
            bind(memory, Handle(address + offset))
        self._bound[array] = address
