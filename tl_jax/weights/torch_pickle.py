"""A reader of the pickles in PyTorch's files, which runs nothing.

A pickle is a program, and such a file may come from a stranger. This interpreter can neither import
nor call: it turns a global into a label from a short list, and `_call` computes the results of the
few functions that may be called. A pickle's length is bounded, and no operation takes time or
memory out of proportion to its bytes: only short strings are hashed, and a value that a few bytes
can refer to many times is never copied, compared, printed or traversed without a bound.

Other objects that training scripts save beside the tensors (an `argparse.Namespace`, paths, NumPy
numbers, members of their own enumerations) are skipped: a placeholder on the stack accepts whatever
is put into it and drops it.
"""

import io
import math
import pickletools
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from tl_jax.errors import UserError
from tl_jax.weights.reading import AGAIN

_MAX_RANK = 32  # numpy's limit before 2.0
_MAX_NAME = 500  # a long string that the file has once could be part of a million names
RESAVE = "save a plain state dict with a current PyTorch, or take another file"

_DTYPES = {
    "Float": "<f4", "Double": "<f8", "Half": "<f2", "BFloat16": ml_dtypes.bfloat16,
    "Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "i1", "Byte": "u1", "Bool": "?",
    "ComplexFloat": "<c8", "ComplexDouble": "<c16",
}  # fmt: skip
_STORAGES = {
    f"{module}.{kind}Storage": np.dtype(dtype)
    for module in ("torch", "torch.cuda")
    for kind, dtype in _DTYPES.items()
}
_LABELS = {
    "collections.OrderedDict", "torch.Size", "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", *_STORAGES,
}  # fmt: skip
# Globals that plain values need and tensors do not; calling them is harmless.
_INERT = re.compile(
    r"argparse\.Namespace|pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path|datetime\.\w+|typing\.\w+"
    r"|collections\.(defaultdict|Counter|deque)|_codecs\.encode"
    r"|(builtins|__builtin__)\.(set|frozenset|dict|list|tuple|int|float|bool|str|bytes|bytearray"
    r"|complex|slice|range|xrange|object)"
    r"|numpy(\._?core\.multiarray)?\.(scalar|dtype|ndarray|_reconstruct)"
    r"|numpy\.(dtypes\.)?(bool|u?int|float|complex)\w*"
    r"|torch\.(device|b?float\d*|u?int\d*|half|double|long|short|bool|contiguous_format"
    r"|channels_last)"
)

_GETATTR = ("builtins.getattr", "__builtin__.getattr")


@dataclass(eq=False, slots=True)
class Label:
    """A global that the pickle names."""

    name: str
    harmless: bool = True


@dataclass(eq=False, slots=True)
class Dict:
    """A dictionary as pairs: hashing a key may take for ever (nested tuples, collisions)."""

    pairs: list[tuple[object, object]]


@dataclass(eq=False, slots=True)
class Skipped:
    """Placeholder for an object of the class `name`; it drops whatever is put into it."""

    name: str

    @property
    def pairs(self) -> list:
        return []

    def append(self, _item: object) -> None:
        pass

    extend = append


@dataclass(eq=False, slots=True)
class Storage:
    """A typed block of memory; the file has its bytes under `key`."""

    key: str
    dtype: np.dtype
    numel: int

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize


@dataclass(eq=False, slots=True)
class Tensor:
    """A strided view of a storage; offset and strides are in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
}  # fmt: skip
_FRESH = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": lambda: Dict([]),
    "EMPTY_SET": lambda: Skipped("set"),
}  # fmt: skip


def unpickle(f: io.BytesIO, size: int) -> tuple[Any, dict[str, Storage]]:
    """Return the value of the next pickle in `f`, and the storages that it names, by key.

    `size` is the file's, in bytes. UserError for operations that no tensor needs.
    """
    stack, marks, memo, storages, labels = [], [], {}, {}, []
    for op, arg, _ in pickletools.genops(f):
        match op.name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case code if code in _LITERALS:
                stack.append(arg)
            case code if code in _FRESH:
                stack.append(_FRESH[code]())
            case "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                memo[len(memo) if arg is None else arg] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple([stack.pop() for _ in range(int(op.name[-1]))][::-1]))
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1].pairs.append((key, value))
            case "MARK":
                marks.append(stack)
                stack = []
            case "TUPLE":
                items, stack = stack, marks.pop()
                stack.append(tuple(items))
            case "APPENDS" | "ADDITEMS":
                items, stack = stack, marks.pop()
                stack[-1].extend(items)
            case "SETITEMS":
                items, stack = stack, marks.pop()
                stack[-1].pairs.extend(zip(items[::2], items[1::2], strict=True))
            case "BUILD":  # ignore attributes, such as a state dict's `_metadata`
                stack.pop()
            case "GLOBAL" | "INST":  # INST also calls; here it does not
                stack.append(_label(*str(arg).split(" ", 1)))
                labels.append(stack[-1])
                _require_harmless(labels[-1:] if op.name == "INST" else ())
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_label(module, name))
                labels.append(stack[-1])
            case "NEWOBJ":
                _, label = stack.pop(), stack.pop()
                stack.append(_skipped(label))
            case "BINPERSID":
                stack.append(_storage(stack.pop(), storages, size))
            case "REDUCE":
                arguments, label = stack.pop(), stack.pop()
                stack.append(_call(label, arguments))
            case code:
                raise UserError(f"uses pickle's {code}, which no tensor needs; {RESAVE}")
    _require_harmless(labels)
    return stack.pop(), storages


def _label(module: object, name: object) -> Label:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise UserError(f"refers to something without a name; {RESAVE}")
    if len(module) + len(name) > _MAX_NAME:
        raise UserError(f"refers to a name of more than {_MAX_NAME} characters; {RESAVE}")
    full = f"{module}.{name}"
    return Label(full, full in _LABELS or bool(_INERT.fullmatch(full)))


def _skipped(label: object) -> Skipped:
    """Return a placeholder for the object that pickle would create without a call."""
    if not isinstance(label, Label) or label.name in _LABELS:
        raise UserError(f"uses pickle's NEWOBJ in a way that no tensor needs; {RESAVE}")
    label.harmless = True
    return Skipped(label.name)


def _require_harmless(labels: Iterable[Label]) -> None:
    """Raise UserError for a label that neither tensors nor skipped objects need."""
    for label in labels:
        if not label.harmless:
            raise UserError(
                f"refers to {label.name!r:.100}, which no tensor needs and which could run code "
                f"(nothing was run): do not trust the file, or if it holds a whole model, {RESAVE}"
            )


def _storage(reference: object, storages: dict[str, Storage], size: int) -> Storage:
    match reference:
        # The fourth item, the device, does not matter; the legacy format's sixth is a view.
        case ("storage", Label(name=name), str(key), str(), int(numel), *view) if (
            name in _STORAGES and view in ([], [None]) and len(key) <= 64
        ):
            storage = Storage(key, _STORAGES[name], numel)
        case _:
            raise UserError(f"has a reference to something other than a plain storage; {RESAVE}")
    if not 0 <= storage.nbytes <= size:
        raise UserError(f"storage {key!r} claims more bytes than the file has; {AGAIN}")
    same = storages.setdefault(key, storage)
    if (same.dtype, same.numel) != (storage.dtype, storage.numel):
        raise UserError(f"storage {key!r} is stated in two ways; {AGAIN}")
    return same


def _call(label: object, arguments: object) -> object:
    """Return what the function that the label names would return for the arguments."""
    name = label.name if isinstance(label, Label) else "no function"
    match name, arguments:
        case "collections.OrderedDict", ():
            return Dict([])
        case "collections.OrderedDict", (list(pairs),):  # as Python 2 wrote it
            return Dict(pairs)
        case "torch.Size", (tuple(shape),):
            return shape
        case "torch._utils._rebuild_parameter", (Tensor() as tensor, _, _):
            return tensor
        case "torch._utils._rebuild_tensor_v2", (storage, offset, shape, strides, _, _):
            return _tensor(storage, offset, shape, strides)
        case "torch._utils._rebuild_tensor", (storage, offset, shape, strides):  # before 0.4
            return _tensor(storage, offset, shape, strides)
    if isinstance(label, Label) and (own := _of_own_class(label, arguments)):
        return own
    if isinstance(label, Label) and name not in _LABELS:
        _require_harmless([Label(name, bool(_INERT.fullmatch(name)))])
        return Skipped(name)
    raise UserError(f"calls {name} with other arguments than PyTorch does; {AGAIN}")


def _of_own_class(label: Label, arguments: object) -> Label | Skipped | None:
    """What pickle writes of somebody's own class as a call: a class in it, or a member of an
    enumeration by its name or its value.
    """
    given = arguments if isinstance(arguments, tuple) else ()
    if len(given) == 1 and _is_own_class(label.name):
        label.harmless = True
        return Skipped(label.name)
    owner, name = given if len(given) == 2 else (None, None)
    if label.name in _GETATTR and isinstance(owner, Label) and _is_own_class(owner.name):
        label.harmless = owner.harmless = True
        return _label(owner.name, name)
    return None


def _is_own_class(name: str) -> bool:
    """Whether a name is a class's, by its capital, and neither Python's own nor a tensor's."""
    module, *_, last = name.split(".")
    return last[:1].isupper() and module not in sys.stdlib_module_names and name not in _LABELS


def _tensor(storage: object, offset: Any, shape: object, strides: object) -> Tensor:
    """Return the tensor; UserError unless it lies in its storage and is no larger than that."""
    if not (
        isinstance(storage, Storage)
        and isinstance(shape, tuple)
        and isinstance(strides, tuple)
        and len(shape) == len(strides) <= _MAX_RANK
        and all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *strides))
    ):
        raise UserError(f"has a tensor with invalid arguments; {AGAIN}")
    count = math.prod(shape)
    span = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if count else 0
    if max(count, offset + span) > storage.numel:
        raise UserError(f"has a tensor larger than its storage, or partly outside it; {RESAVE}")
    # The stride of an axis of length 1 is never used, and may be any number.
    strides = tuple(s if count and n > 1 else 0 for n, s in zip(shape, strides, strict=True))
    return Tensor(storage, offset, shape, strides)
