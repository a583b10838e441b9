"""Read any weight file: its arrays by name."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tl_jax.errors import UserError
from tl_jax.weights import hdf5, keras_file, safetensors_file, torch_file
from tl_jax.weights.reading import AGAIN, reading

_KERAS_ARCHIVE = (b"metadata.json", b"config.json", b"model.weights.h5")  # any may come first
INDEX = ".index.json"  # names the files of split weights, as on the Hugging Face hub
_MAX_INDEX = 2**22  # bytes
_GIVE = "give a weight file of PyTorch (.pth), Keras (.h5) or safetensors"


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays by name of a file of PyTorch, Keras or safetensors, whose content tells
    which, or of all files that a `.index.json` names.

    UserError if the file is not a whole and harmless weight file.
    """
    path = Path(path)
    if path.name.endswith(INDEX):
        return _of_shards(path)
    with reading(path), path.open("rb") as file:
        read_state_dict = _reader(file.read(64))
    return read_state_dict(path)


def digest(path: str | Path) -> str:
    """Return the file's SHA-256 in hexadecimal; for an index, the hash of its files' hashes."""
    path = Path(path)
    if not path.name.endswith(INDEX):
        return torch_file.sha256(path)
    digests = [torch_file.sha256(shard) for shard in _shards(path)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _of_shards(index: Path) -> dict[str, np.ndarray]:
    """Return the arrays of all files that an index names."""
    arrays: dict[str, np.ndarray] = {}
    shards = _shards(index)
    for shard, names in shards.items():
        part = read(shard)
        if part.keys() != names:
            raise UserError(f"{shard}: does not have the arrays that {index.name} names; {AGAIN}")
        arrays |= part
    return arrays


def _shards(index: Path) -> dict[Path, set[str]]:
    """Return the names of the arrays by file, in the files' order; files lie beside the index."""
    with reading(index), index.open("rb") as file:
        content = file.read(_MAX_INDEX + 1)
        if len(content) > _MAX_INDEX:
            raise UserError(f"is longer than {_MAX_INDEX} bytes; take another file")
        shards: dict[str, set[str]] = {}
        for name, shard in json.loads(content)["weight_map"].items():
            if Path(shard).name != shard or shard.endswith(INDEX):
                raise UserError(f"names {shard!r:.80}, not a weight file beside it; {AGAIN}")
            shards.setdefault(shard, set()).add(name)
        return {index.with_name(shard): shards[shard] for shard in sorted(shards)}


def is_export(path: str | Path) -> bool:
    """Whether `tl_jax.base.file` wrote the file, damaged or not; False if there is no file."""
    try:
        return safetensors_file.EXPORT in safetensors_file.metadata(path)
    except UserError:
        return False


def _reader(head: bytes) -> Callable[[Path], dict[str, np.ndarray]]:
    if head.startswith(hdf5.SIGNATURE):
        return keras_file.read_state_dict
    if head[8:9] == b"{" and 0 in head[:8]:  # the header's length; no text begins so
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
    raise UserError(f"is not a weight file of a known kind; {_GIVE}")
