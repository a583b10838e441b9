"""A reader of state dicts in PyTorch's `.pth`, `.pt` and `.bin` files, without PyTorch.

It reads both formats of `torch.save`: the zip archive, and the older ("legacy") one of five pickles
followed by the raw storages. Format: torch/serialization.py and torch/_utils.py in
https://github.com/pytorch/pytorch
"""

import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tl_jax.errors import UserError
from tl_jax.weights.reading import AGAIN, reading
from tl_jax.weights.torch_pickle import RESAVE, Dict, Skipped, Tensor, unpickle

_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_PICKLE = 2**22  # bytes: some 25 000 tensors; at worst, 600 MB of memory and some seconds
_DEEPEST = 3  # levels of nested dictionaries that are searched for tensors
_MAX_ENTRIES = 2**17
_MAX_NAME = 200

_Parts = tuple[dict[str, Tensor], dict[str, bytes]]  # tensors by name, bytes by storage key


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of the file, 64 hexadecimal digits."""
    with Path(path).open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Return the tensors by name, in the file's order, of a state dict that `torch.save` wrote.

    In a checkpoint, the keys that lead to a tensor come before its name, as in
    `state_dict.conv1.weight`; other objects are skipped. The arrays are read-only; tensors that
    share a storage in the file share memory. If the file's name ends in eight hexadecimal digits
    (`resnet18-f37072fd.pth`), its SHA-256 must begin with them. UserError if the file is not a
    whole and harmless file of that kind.
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
    match = re.search(r"-([0-9a-f]{8})\.(?:pth|pt|bin)$", path.name)
    if match and not (digest := sha256(path)).startswith(match[1]):
        raise UserError(
            f"its SHA-256 begins with {digest[:8]}, not with {match[1]} as its name says, so it is "
            f"truncated or altered; {AGAIN}, or rename it if these digits are not a checksum"
        )


def _read_zip(f: BinaryIO, size: int) -> _Parts:
    with zipfile.ZipFile(f) as archive:
        entries = archive.infolist()
        # torch.save compresses nothing, so the entries together cannot exceed the file.
        if any(e.compress_type or e.compress_size != e.file_size for e in entries):
            raise UserError(f"is a compressed archive, which torch.save never writes; {RESAVE}")
        if sum(e.file_size for e in entries) > size:
            raise UserError(f"its entries claim more bytes than the file has; {AGAIN}")
        sizes = {e.filename: e.file_size for e in entries}
        roots = [name.split("/")[0] for name in sizes if re.fullmatch("[^/]+/data.pkl", name)]
        if len(roots) != 1:
            raise UserError("is an archive, but not a PyTorch file; give one that torch.save wrote")
        root = roots[0]
        if sizes[f"{root}/data.pkl"] > _MAX_PICKLE:
            raise UserError(f"its pickle is longer than {_MAX_PICKLE} bytes; {RESAVE}")
        # PyTorch before 2.1 did not record the byte order.
        if f"{root}/byteorder" in sizes and archive.read(f"{root}/byteorder") != b"little":
            raise UserError(f"was written on a big-endian machine; {RESAVE}")
        value, storages = unpickle(io.BytesIO(archive.read(f"{root}/data.pkl")), size)
        tensors = _state_dict(value)
        buffers = {}
        for key in {t.storage.key for t in tensors.values()}:
            if sizes[f"{root}/data/{key}"] != storages[key].nbytes:
                raise UserError(f"storage {key!r} is not of the size stated; {AGAIN}")
            buffers[key] = archive.read(f"{root}/data/{key}")
    return tensors, buffers


def _read_legacy(f: BinaryIO, size: int) -> _Parts:
    head = io.BytesIO(f.read(_MAX_PICKLE))
    if unpickle(head, size)[0] != _MAGIC:
        raise UserError("is a pickle, but not a PyTorch file; give one that torch.save wrote")
    unpickle(head, size)  # the protocol, always 1001
    system, _ = unpickle(head, size)
    if ("little_endian", True) not in system.pairs:
        raise UserError(f"was written on a big-endian machine; {RESAVE}")
    value, storages = unpickle(head, size)
    keys, _ = unpickle(head, size)
    tensors = _state_dict(value)
    if not all(isinstance(key, str) for key in keys):
        raise UserError(f"its list of storages is not a list of names; {AGAIN}")
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


def _array(tensor: Tensor, buffer: bytes) -> np.ndarray:
    dtype = tensor.storage.dtype
    strides = [s * dtype.itemsize for s in tensor.strides]
    return np.ndarray(tensor.shape, dtype, buffer, tensor.offset * dtype.itemsize, strides)


def _state_dict(value: object) -> dict[str, Tensor]:
    """Return the tensors by name; the keys of enclosing dictionaries come before the name."""
    if isinstance(value, Skipped):
        raise UserError(f"is a whole object of the class {value.name!r:.80}; {RESAVE}")
    if not isinstance(value, Dict):
        raise UserError(f"holds no dictionary of tensors; {RESAVE}")
    groups, count = [], 0  # of each dictionary, its tensors by name
    todo: list[tuple[str, Dict]] = [("", value)]
    for prefix, dictionary in todo:
        count += len(dictionary.pairs)
        if count > _MAX_ENTRIES:
            raise UserError(f"has more than {_MAX_ENTRIES} entries; {RESAVE}")
        named = [(key, entry) for key, entry in dictionary.pairs if isinstance(key, str)]
        tensors = {f"{prefix}{_short(k)}": e for k, e in named if isinstance(e, Tensor)}
        total = sum(isinstance(entry, Tensor) for _, entry in dictionary.pairs)
        if total > len(tensors) and (tensors or not prefix):
            raise UserError(f"has a key that is not a string or comes twice; {RESAVE}")
        groups.append(tensors)
        if prefix.count(".") < _DEEPEST:
            inner = [(key, entry) for key, entry in named if isinstance(entry, Dict)]
            todo += [(f"{prefix}{_short(key)}.", entry) for key, entry in inner]
    # A scalar beside the weights is a record, such as the best accuracy so far.
    shaped = [tensors for tensors in groups if any(t.shape for t in tensors.values())]
    merged = {name: tensor for tensors in shaped or groups for name, tensor in tensors.items()}
    if not merged:
        objects = [e.name for _, e in value.pairs if isinstance(e, Skipped)]
        besides = f", but a whole object of the class {objects[0]!r:.80}" if objects else ""
        raise UserError(f"holds no tensors{besides}; {RESAVE}")
    if len(merged) < sum(map(len, shaped or groups)):
        raise UserError(f"has a name that comes twice; {RESAVE}")
    return merged


def _short(key: str) -> str:
    if len(key) > _MAX_NAME:
        raise UserError(f"has a name of more than {_MAX_NAME} characters; {RESAVE}")
    return key
