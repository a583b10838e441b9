"""Programs: primitives of oneDNN that run one after the other, as one operation."""

import ctypes
from typing import NamedTuple

import numpy as np

from tl_jax.ops.cpu.onednn import library as dnnl
from tl_jax.ops.cpu.onednn.lanes import Lane
from tl_jax.ops.cpu.onednn.library import Handle

_SCRATCHPAD_MD, _SCRATCHPAD = 136, 80
_FROM, _TO = 1, 17
_ALIGNMENT = 64


class Location(NamedTuple):
    """Where an operand begins: in one of the caller's arrays, or in scratch memory."""

    array: int
    offset: int = 0  # bytes

    def after(self, numbers: int) -> "Location":
        """Return the location that many float32 numbers further on."""
        return self._replace(offset=self.offset + 4 * numbers)


_SCRATCH = -1  # the array of scratch memory


class Primitive(NamedTuple):
    """A compiled primitive, the numbers and layouts of its operands, and its scratchpad."""

    handle: Handle
    operands: tuple[tuple[int, Handle], ...]
    scratchpad: Location


class _Passed(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("memory", Handle)]


class Program:
    """Steps that are recorded once and then run on any arrays of the same layouts."""

    def __init__(self):
        self.sizes: dict[int, int] = {}  # bytes of each of the caller's arrays
        self._scratch = 0  # bytes
        self._operands: dict[int, list[tuple[Handle, int]]] = {}  # (memory, offset) by array
        self._bound: dict[int, int] = {}  # the address that an array's operands are set to
        self._steps: list[tuple[Handle, int, ctypes.Array]] = []
        self._constants: list[np.ndarray] = []

    def scratch(self, layout: Handle) -> Location:
        """Reserve scratch memory for an array of that layout."""
        location = Location(_SCRATCH, self._scratch)
        self._scratch += -(-dnnl.size(layout) // _ALIGNMENT) * _ALIGNMENT
        return location

    def primitive(self, description: Handle, *operands: tuple[int, Handle]) -> Primitive:
        """Compile the primitive described; any number of steps may run it."""
        handle = dnnl.create("dnnl_primitive_create", description)
        layout = dnnl.chosen_layout(description, _SCRATCHPAD_MD)
        return Primitive(handle, (*operands, (_SCRATCHPAD, layout)), self.scratch(layout))

    def reorder(self, source: Handle, target: Handle) -> Primitive:
        """Return a primitive that copies an array from one layout to another."""
        engine = dnnl.engine()
        name = "dnnl_reorder_primitive_desc_create"
        description = dnnl.create(name, source, engine, target, engine, None)
        return self.primitive(description, (_FROM, source), (_TO, target))

    def add(self, primitive: Primitive, *locations: Location | np.ndarray) -> None:
        """Add a step: the primitive, with operands at these locations or constant ones."""
        passed = [
            _Passed(number, self._memory(layout, location))
            for (number, layout), location in zip(
                primitive.operands, (*locations, primitive.scratchpad), strict=True
            )
        ]
        self._steps.append((primitive.handle, len(passed), (_Passed * len(passed))(*passed)))

    def _memory(self, layout: Handle, location: Location | np.ndarray) -> Handle:
        if isinstance(location, np.ndarray):
            self._constants.append(location)  # so that its memory is not freed
            return dnnl.create(
                "dnnl_memory_create", layout, dnnl.engine(), Handle(location.ctypes.data)
            )
        memory = dnnl.create("dnnl_memory_create", layout, dnnl.engine(), None)
        self._operands.setdefault(location.array, []).append((memory, location.offset))
        if location.array != _SCRATCH:
            self.sizes.setdefault(location.array, dnnl.size(layout))
        return memory

    def run(self, addresses: list[int], lane: Lane) -> None:
        """Run the steps on arrays at these addresses, in the same lane each time."""
        execute = dnnl.library().dnnl_primitive_execute
        for array, address in [*enumerate(addresses), (_SCRATCH, lane.scratch(self._scratch))]:
            self._bind(array, address)
        for handle, count, passed in self._steps:
            if status := execute(handle, lane.stream, count, passed):
                raise dnnl.DnnlError(f"dnnl_primitive_execute ended with status {status}")

    def _bind(self, array: int, address: int) -> None:
        """Set the array's operands to its address, which is often the same as in the last run."""
        if self._bound.get(array) == address:
            return
        bind = dnnl.library().dnnl_memory_set_data_handle
        for memory, offset in self._operands.get(array, ()):
            bind(memory, Handle(address + offset))
        self._bound[array] = address
