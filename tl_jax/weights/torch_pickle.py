"""The pickles in PyTorch's files, read without running anything.

A pickle is a program, and such a file may come from a stranger. The interpreter here can neither
import nor call: a global is a label out of a short list, and `_call` spells out what the few that
may be called amount to. A pickle is bounded in length, and no operation takes time or memory
beyond its own bytes: nothing is hashed but short strings, and nothing that a few bytes can refer
to many times over is copied, compared, printed or walked through without a bound.

What training scripts keep beside the tensors (an `argparse.Namespace`, paths, numbers of NumPy,
members of their own enumerations) is passed over: such an object is a mark on the stack that takes
whatever is put into it and keeps nothing.
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

_MAX_RANK = 32  # numpy's before 2.0
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
# What plain values are written with that tensors do without; to call these changes nothing.
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
    name: str
    harmless: bool = True


@dataclass(eq=False, slots=True)
class Dict:
    # Pairs and no dict: to hash a key may take for ever (nested tuples, colliding integers).
    pairs: list[tuple[object, object]]


@dataclass(eq=False, slots=True)
class Passed:
    """An object that is not built, of the class of that name; what is put into it is dropped."""

    name: str

    @property
    def pairs(self) -> list:
        return []

    def append(self, _item: object) -> None:
        pass

    extend = append


@dataclass(eq=False, slots=True)
class Storage:
    key: str
    dtype: np.dtype
    numel: int

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize


@dataclass(eq=False, slots=True)
class Tensor:
    storage: Storage
    offset: int  # in elements, as the strides
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
}  # fmt: skip
_FRESH = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": lambda: Dict([]),
    "EMPTY_SET": lambda: Passed("set"),
}  # fmt: skip


def unpickle(f: io.BytesIO, size: int) -> tuple[Any, dict[str, Storage]]:
    """The value of the next pickle in `f`, and the storages that it names, by key.

    `size` is the file's, in bytes. Operations that tensors do without are refused.
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
            case "BUILD":  # attributes, such as a state dict's `_metadata`: none is set
                stack.pop()
            case "GLOBAL" | "INST":  # INST would call as well; here it does not
                stack.append(_label(*str(arg).split(" ", 1)))
                labels.append(stack[-1])
                _require_harmless(labels[-1:] if op.name == "INST" else ())
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_label(module, name))
                labels.append(stack[-1])
            case "NEWOBJ":
                _, label = stack.pop(), stack.pop()
                stack.append(_passed(label))
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
        raise UserError(f"refers to something that has no name; {RESAVE}")
    if len(module) + len(name) > _MAX_NAME:
        raise UserError(f"refers to a name of more than {_MAX_NAME} characters; {RESAVE}")
    full = f"{module}.{name}"
    return Label(full, full in _LABELS or bool(_INERT.fullmatch(full)))


def _passed(label: object) -> Passed:
    """The object that pickle would make of a class without a call."""
    if not isinstance(label, Label) or label.name in _LABELS:
        raise UserError(f"uses pickle's NEWOBJ in a way that no tensor needs; {RESAVE}")
    label.harmless = True
    return Passed(label.name)


def _require_harmless(labels: Iterable[Label]) -> None:
    """UserError that names what is neither a tensor's nor the class of an object passed over."""
    for label in labels:
        if not label.harmless:
            raise UserError(
                f"refers to {label.name!r:.100}, which no tensor needs and which could run code "
                f"(nothing was run): do not trust the file, or if it holds a whole model, {RESAVE}"
            )


def _storage(reference: object, storages: dict[str, Storage], size: int) -> Storage:
    match reference:
        # The device is of no interest. The legacy format's sixth item is a view of the storage.
        case ("storage", Label(name=name), str(key), str(), int(numel), *view) if (
            name in _STORAGES and view in ([], [None]) and len(key) <= 64
        ):
            storage = Storage(key, _STORAGES[name], numel)
        case _:
            raise UserError(f"has a reference that is not to a plain storage; {RESAVE}")
    if not 0 <= storage.nbytes <= size:
        raise UserError(f"storage {key!r} claims more bytes than the file has; {AGAIN}")
    same = storages.setdefault(key, storage)
    if (same.dtype, same.numel) != (storage.dtype, storage.numel):
        raise UserError(f"storage {key!r} is stated in two ways; {AGAIN}")
    return same


def _call(label: object, arguments: object) -> object:
    """What PyTorch's function of that name makes of the arguments."""
    name = label.name if isinstance(label, Label) else "no function"
    match name, arguments:
        case "collections.OrderedDict", ():
            return Dict([])
        case "collections.OrderedDict", (list(pairs),):  # Python 2 wrote its items so
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
        return Passed(name)
    raise UserError(f"calls {name} in another way than PyTorch does; {AGAIN}")


def _of_own_class(label: Label, arguments: object) -> Label | Passed | None:
    """What pickle writes of somebody's own class as a call: a class in it, or a member of an
    enumeration by its name or its value.
    """
    given = arguments if isinstance(arguments, tuple) else ()
    if len(given) == 1 and _is_own_class(label.name):
        label.harmless = True
        return Passed(label.name)
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
    """The view, if each element lies in the storage and they are no more than the storage has."""
    if not (
        isinstance(storage, Storage)
        and isinstance(shape, tuple)
        and isinstance(strides, tuple)
        and len(shape) == len(strides) <= _MAX_RANK
        and all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *strides))
    ):
        raise UserError(f"has a tensor with senseless arguments; {AGAIN}")
    count = math.prod(shape)
    span = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if count else 0
    if max(count, offset + span) > storage.numel:
        raise UserError(f"has a tensor larger than its storage, or partly outside it; {RESAVE}")
    # A stride that is never taken may be anything, without bound.
    strides = tuple(s if count and n > 1 else 0 for n, s in zip(shape, strides, strict=True))
    return Tensor(storage, offset, shape, strides)
