"""State dicts out of PyTorch's `.pth`, `.pt` and `.bin` files, with numpy and without PyTorch.

Both formats of `torch.save` are read: the zip archive, and the older ("legacy") row of five
pickles with the raw storages behind. Format: torch/serialization.py and torch/_utils.py in
https://github.com/pytorch/pytorch

A pickle is a program, and such a file may come from a stranger. The interpreter here can neither
import nor call: a global is a label out of a short list, and `_call` spells out what the few that
may be called amount to. A pickle is bounded in length, and no operation takes time or memory
beyond its own bytes: nothing is hashed but short strings, and nothing that a few bytes can refer
to many times over is copied, compared, printed or walked through.
"""

import hashlib
import io
import math
import pickletools
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from tl_jax.errors import UserError
from tl_jax.weights.reading import AGAIN, reading

_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_PICKLE = 2**22  # bytes: some 25 000 tensors; at worst, 600 MB of memory and some seconds
_MAX_RANK = 32  # numpy's before 2.0
_WRAPPED = ("state_dict", "model_state_dict", "model", "net")  # where checkpoints keep weights
_RESAVE = "save a plain state dict with a current PyTorch, or take another file"

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


@dataclass(eq=False, slots=True)
class _Label:
    name: str


@dataclass(eq=False, slots=True)
class _Dict:
    # Pairs and no dict: to hash a key may take for ever (nested tuples, colliding integers).
    pairs: list[tuple[object, object]]


@dataclass(eq=False, slots=True)
class _Storage:
    key: str
    dtype: np.dtype
    numel: int

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize


@dataclass(eq=False, slots=True)
class _Tensor:
    storage: _Storage
    offset: int  # in elements, as the strides
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_Parts = tuple[dict[str, _Tensor], dict[str, bytes]]  # tensors by name, bytes by storage key


def sha256(path: str | Path) -> str:
    """The SHA-256 of the file, 64 hexadecimal digits."""
    with Path(path).open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Tensor by name, in the file's order, from a state dict that `torch.save` wrote.

    A checkpoint that holds the state dict under 'state_dict' or 'model' is unwrapped. The arrays
    are read-only; tensors that share a storage in the file share memory. Where the file's name
    ends in eight hexadecimal digits (`resnet18-f37072fd.pth`), its SHA-256 has to begin with them.
    Raises UserError for whatever is not a whole and harmless file of that kind.
    """
    path = Path(path)
    with reading(path), path.open("rb") as f:
        head = f.read(4)
        if head != b"PK\x03\x04" and head[:1] != b"\x80":
            raise UserError("is not a PyTorch file; give one that torch.save wrote")
        _check_name(path)
        f.seek(0)
        read = _read_zip if head.startswith(b"PK") else _read_legacy
        tensors, buffers = read(f, path.stat().st_size)
        return {name: _array(t, buffers[t.storage.key]) for name, t in tensors.items()}


def _check_name(path: Path) -> None:
    named = re.search(r"-([0-9a-f]{8})\.(?:pth|pt|bin)$", path.name)
    if named and not (found := sha256(path)).startswith(named[1]):
        raise UserError(
            f"its SHA-256 begins with {found[:8]}, not with {named[1]} as its name says: truncated "
            f"or altered; {AGAIN}, or rename it if these digits are no checksum"
        )


def _read_zip(f: BinaryIO, size: int) -> _Parts:
    with zipfile.ZipFile(f) as archive:
        entries = archive.infolist()
        # torch.save compresses nothing; so no entry, nor all together, can exceed the file.
        if any(e.compress_type or e.compress_size != e.file_size for e in entries):
            raise UserError(f"is a compressed archive, and torch.save writes none; {_RESAVE}")
        if sum(e.file_size for e in entries) > size:
            raise UserError(f"its entries claim more bytes than the file has; {AGAIN}")
        sizes = {e.filename: e.file_size for e in entries}
        roots = [name.split("/")[0] for name in sizes if re.fullmatch("[^/]+/data.pkl", name)]
        if len(roots) != 1:
            raise UserError("is an archive, but not a PyTorch file; give one that torch.save wrote")
        root = roots[0]
        if sizes[f"{root}/data.pkl"] > _MAX_PICKLE:
            raise UserError(f"its pickle is longer than {_MAX_PICKLE} bytes; {_RESAVE}")
        # PyTorch before 2.1 did not note the byte order.
        if f"{root}/byteorder" in sizes and archive.read(f"{root}/byteorder") != b"little":
            raise UserError(f"was written on a big-endian machine; {_RESAVE}")
        value, storages = _unpickle(io.BytesIO(archive.read(f"{root}/data.pkl")), size)
        tensors = _state_dict(value)
        buffers = {}
        for key in {t.storage.key for t in tensors.values()}:
            if sizes[f"{root}/data/{key}"] != storages[key].nbytes:
                raise UserError(f"storage {key!r} is not of the size stated; {AGAIN}")
            buffers[key] = archive.read(f"{root}/data/{key}")
    return tensors, buffers


def _read_legacy(f: BinaryIO, size: int) -> _Parts:
    head = io.BytesIO(f.read(_MAX_PICKLE))
    if _unpickle(head, size)[0] != _MAGIC:
        raise UserError("is a pickle, but not a PyTorch file; give one that torch.save wrote")
    _unpickle(head, size)  # the protocol, always 1001
    system, _ = _unpickle(head, size)
    if ("little_endian", True) not in system.pairs:
        raise UserError(f"was written on a big-endian machine; {_RESAVE}")
    value, storages = _unpickle(head, size)
    keys, _ = _unpickle(head, size)
    tensors = _state_dict(value)
    if not all(isinstance(key, str) for key in keys):
        raise UserError(f"its list of storages is no list of names; {AGAIN}")
    f.seek(head.tell())
    used = {t.storage.key for t in tensors.values()}
    buffers = {}
    for key in keys:
        storage = storages.pop(key)
        if f.read(8) != storage.numel.to_bytes(8, "little"):
            raise UserError(f"storage {key!r} is not of the size stated; {AGAIN}")
        if f.tell() + storage.nbytes > size:
            raise UserError(f"is truncated in storage {key!r}; {AGAIN}")
        if key in used:
            buffers[key] = f.read(storage.nbytes)
        else:
            f.seek(storage.nbytes, io.SEEK_CUR)
    return tensors, buffers


def _array(tensor: _Tensor, buffer: bytes) -> np.ndarray:
    dtype = tensor.storage.dtype
    strides = [s * dtype.itemsize for s in tensor.strides]
    return np.ndarray(tensor.shape, dtype, buffer, tensor.offset * dtype.itemsize, strides)


def _state_dict(value: object) -> dict[str, _Tensor]:
    if not isinstance(value, _Dict):
        raise UserError(f"holds no dictionary of tensors; {_RESAVE}")
    # The first entry tells: a state dict's is a tensor, an optimizer's ('state') is not.
    inner = [
        (key, entry)
        for key, entry in value.pairs
        if isinstance(entry, _Dict) and entry.pairs and isinstance(entry.pairs[0][1], _Tensor)
    ]
    # A scalar beside the weights is a record, such as the best accuracy so far.
    beside = any(isinstance(entry, _Tensor) and entry.shape for _, entry in value.pairs)
    if len(inner) == 1 and inner[0][0] in _WRAPPED and not beside:
        value = inner[0][1]
    elif inner:
        names = ", ".join(f"{key!r:.40}" for key, _ in inner[:5] if isinstance(key, str))
        raise UserError(
            f"which tensors are the model's is unclear, some being in {names}; {_RESAVE}"
        )
    tensors = {}
    for key, entry in value.pairs:
        if not isinstance(key, str) or key in tensors:
            raise UserError(f"has a key that is no string or comes twice; {_RESAVE}")
        if not isinstance(entry, _Tensor):
            raise UserError(f"its entry {key!r:.80} is no tensor; {_RESAVE}")
        tensors[key] = entry
    if not tensors:
        raise UserError(f"holds no tensors; {_RESAVE}")
    return tensors


_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING",
}  # fmt: skip
_FRESH = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": lambda: _Dict([]),
}  # fmt: skip


def _unpickle(f: io.BytesIO, size: int) -> tuple[Any, dict[str, _Storage]]:
    """The value of the next pickle in `f`, and the storages that it names, by key.

    `size` is the file's, in bytes. Operations that tensors do without are refused.
    """
    stack, marks, memo, storages = [], [], {}, {}
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
            case "APPENDS":
                items, stack = stack, marks.pop()
                stack[-1].extend(items)
            case "SETITEMS":
                items, stack = stack, marks.pop()
                stack[-1].pairs.extend(zip(items[::2], items[1::2], strict=True))
            case "BUILD":  # attributes, such as a state dict's `_metadata`: none is set
                stack.pop()
            case "GLOBAL" | "INST":  # INST would call as well; here it does not
                stack.append(_label(*str(arg).split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_label(module, name))
            case "BINPERSID":
                stack.append(_storage(stack.pop(), storages, size))
            case "REDUCE":
                arguments, label = stack.pop(), stack.pop()
                stack.append(_call(label, arguments))
            case code:
                raise UserError(f"uses pickle's {code}, which no tensor needs; {_RESAVE}")
    return stack.pop(), storages


def _label(module: object, name: object) -> _Label:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise UserError(f"refers to something that has no name; {_RESAVE}")
    if (full := f"{module}.{name}") not in _LABELS:
        raise UserError(
            f"refers to {full!r:.100}, which no tensor needs and which could run code (nothing was "
            f"run): do not trust the file, or if it holds a whole model, {_RESAVE}"
        )
    return _Label(full)


def _storage(reference: object, storages: dict[str, _Storage], size: int) -> _Storage:
    match reference:
        # The device is of no interest. The legacy format's sixth item is a view of the storage.
        case ("storage", _Label(name=name), str(key), str(), int(numel), *view) if (
            name in _STORAGES and view in ([], [None]) and len(key) <= 64
        ):
            storage = _Storage(key, _STORAGES[name], numel)
        case _:
            raise UserError(f"has a reference that is not to a plain storage; {_RESAVE}")
    if not 0 <= storage.nbytes <= size:
        raise UserError(f"storage {key!r} claims more bytes than the file has; {AGAIN}")
    same = storages.setdefault(key, storage)
    if (same.dtype, same.numel) != (storage.dtype, storage.numel):
        raise UserError(f"storage {key!r} is stated in two ways; {AGAIN}")
    return same


def _call(label: object, arguments: object) -> object:
    """What PyTorch's function of that name makes of the arguments."""
    name = label.name if isinstance(label, _Label) else "no function"
    match name, arguments:
        case "collections.OrderedDict", ():
            return _Dict([])
        case "collections.OrderedDict", (list(pairs),):  # Python 2 wrote its items so
            return _Dict(pairs)
        case "torch.Size", (tuple(shape),):
            return shape
        case "torch._utils._rebuild_parameter", (_Tensor() as tensor, _, _):
            return tensor
        case "torch._utils._rebuild_tensor_v2", (storage, offset, shape, strides, _, _):
            return _tensor(storage, offset, shape, strides)
        case "torch._utils._rebuild_tensor", (storage, offset, shape, strides):  # before 0.4
            return _tensor(storage, offset, shape, strides)
    raise UserError(f"calls {name} in another way than PyTorch does; {AGAIN}")


def _tensor(storage: object, offset: Any, shape: object, strides: object) -> _Tensor:
    """The view, if each element lies in the storage and they are no more than the storage has."""
    if not (
        isinstance(storage, _Storage)
        and isinstance(shape, tuple)
        and isinstance(strides, tuple)
        and len(shape) == len(strides) <= _MAX_RANK
        and all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *strides))
    ):
        raise UserError(f"has a tensor with senseless arguments; {AGAIN}")
    count = math.prod(shape)
    span = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if count else 0
    if max(count, offset + span) > storage.numel:
        raise UserError(f"has a tensor larger than its storage, or partly outside it; {_RESAVE}")
    # A stride that is never taken may be anything, without bound.
    strides = tuple(s if count and n > 1 else 0 for n, s in zip(shape, strides, strict=True))
    return _Tensor(storage, offset, shape, strides)
