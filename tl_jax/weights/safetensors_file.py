"""A reader of state dicts in safetensors files.

Format: https://github.com/huggingface/safetensors#format
"""

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open

from tl_jax.errors import UserError
from tl_jax.weights.reading import AGAIN, reading

EXPORT = "tl_jax"  # the key of the metadata that tl_jax/base/file.py writes
# What NumPy has; of others, such as F8_E4M3, the library says only that it failed.
_TYPES = {"BOOL", "F64", "F32", "F16", "BF16", *(f"{s}{n}" for s in "IU" for n in (8, 16, 32, 64))}
# Bytes: what the library itself takes. A tensor needs about 100, but our own files have their
# tokenizer there, and one of 250,000 words has 17 MB. A header is no longer than its file.
_MAX_HEADER = 100_000_000


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays by name, in the order of their bytes in the file.

    UserError if the file is not a whole and harmless safetensors file.
    """
    path = Path(path)
    with reading(path):
        header = _header(path)
        with safe_open(path, "numpy") as file:
            # The library has checked the offsets: they neither overlap nor leave gaps, so that the
            # arrays are no larger than the file.
            entries = json.loads(header, object_pairs_hook=_unique)
            _require_types(entries)
            arrays = {name: file.get_tensor(name) for name in file.offset_keys()}
        if not arrays:
            raise UserError("holds no arrays; give a file of weights")
        return arrays


def metadata(path: str | Path) -> dict[str, str]:
    """Return the header's metadata; the arrays are not read, and may be damaged.

    UserError if the file has no safetensors header.
    """
    path = Path(path)
    with reading(path):
        return dict(json.loads(_header(path)).get("__metadata__", {}))


def _header(path: Path) -> bytes:
    size = path.stat().st_size - 8
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size:
            raise UserError(f"is truncated, or not a safetensors file; {AGAIN}")
        if length > _MAX_HEADER:
            raise UserError(f"its header is longer than {_MAX_HEADER} bytes; take another file")
        return file.read(length)


def _require_types(entries: dict) -> None:
    for name, entry in entries.items():
        if name != "__metadata__" and entry["dtype"] not in _TYPES:
            raise UserError(
                f"its array {name!r:.80} is of the type {entry['dtype']!r:.20}, which cannot be "
                "read: save the weights as F32 or F16"
            )


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) < len(pairs):  # the library would take the last of equal names
        raise UserError(f"its header has a name twice; {AGAIN}")
    return unique
