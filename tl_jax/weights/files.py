"""Any weight file: arrays by the names they have in it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tl_jax.errors import UserError
from tl_jax.weights import hdf5, keras_file, safetensors_file, torch_file
from tl_jax.weights.reading import AGAIN, reading

_KERAS_ARCHIVE = (b"metadata.json", b"config.json", b"model.weights.h5")  # what may come first
INDEX = ".index.json"  # of weights in several files, as the Hugging Face hub has them
_MAX_INDEX = 2**22  # bytes
_WHAT = "give a weight file of PyTorch (.pth), Keras (.h5) or safetensors"


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Array by name, from a file of PyTorch, Keras or safetensors, which its content tells, or from
    all that a `.index.json` names.

    Raises UserError for whatever is not a whole and harmless weight file.
    """
    path = Path(path)
    if path.name.endswith(INDEX):
        return _of_shards(path)
    with reading(path), path.open("rb") as file:
        read_state_dict = _reader(file.read(64))
    return read_state_dict(path)


def digest(path: str | Path) -> str:
    """The SHA-256 of the file, 64 hexadecimal digits; of an index, of those of its files."""
    path = Path(path)
    if not path.name.endswith(INDEX):
        return torch_file.sha256(path)
    digests = [torch_file.sha256(shard) for shard in _shards(path)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _of_shards(index: Path) -> dict[str, np.ndarray]:
    """The arrays of all files that an index names."""
    arrays: dict[str, np.ndarray] = {}
    shards = _shards(index)
    for shard, names in shards.items():
        found = read(shard)
        if found.keys() != names:
            line = f"{shard}: has not the arrays that {index.name} says; {AGAIN}"
            raise UserError(line)
        arrays |= found
    return arrays


def _shards(index: Path) -> dict[Path, set[str]]:
    """The names of the arrays by file, which lie beside the index, in the files' order."""
    with reading(index), index.open("rb") as file:
        content = file.read(_MAX_INDEX + 1)
        if len(content) > _MAX_INDEX:
            raise UserError(f"is longer than {_MAX_INDEX} bytes; take another file")
        shards: dict[str, set[str]] = {}
        for name, shard in json.loads(content)["weight_map"].items():
            if Path(shard).name != shard or shard.endswith(INDEX):
                raise UserError(f"names {shard!r:.80}, which is no weight file beside it; {AGAIN}")
            shards.setdefault(shard, set()).add(name)
        return {index.with_name(shard): shards[shard] for shard in sorted(shards)}


def is_export(path: str | Path) -> bool:
    """Whether it is a file of `tl_jax.base.file`, damaged perhaps; False if there is no file."""
    try:
        return safetensors_file.EXPORT in safetensors_file.metadata(path)
    except UserError:
        return False


def _reader(head: bytes) -> Callable[[Path], dict[str, np.ndarray]]:
    if head.startswith(hdf5.SIGNATURE):
        return keras_file.read_state_dict
    if head[8:9] == b"{" and 0 in head[:8]:  # the header's length, which no text looks like
        return safetensors_file.read_state_dict
    if head.startswith(b"PK\x03\x04") and head[30:].startswith(_KERAS_ARCHIVE):
        raise UserError(
            "is a .keras archive, a whole model; load it in Keras and save it by "
            "model.save('name.h5')"
        )
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return torch_file.read_state_dict
    if not head:
        raise UserError(f"is empty; {AGAIN}")
    if head.lstrip().startswith(b"<"):
        raise UserError("is a web page, not a weight file; fetch the file that the page offers")
    if head.startswith(b"version https://git-lfs"):
        raise UserError("is a Git LFS pointer, not a weight file; run 'git lfs pull'")
    raise UserError(f"is not a weight file of a known kind; {_WHAT}")
