"""Files written here byte by byte, as https://github.com/huggingface/safetensors#format has it."""

import functools
import json
import struct
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import refusals
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.errors import UserError
from tl_jax.weights import safetensors_file
from tl_jax.weights.safetensors_file import metadata, read_state_dict


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


TWO = {"w": entry("F32", [2, 3], 4, 28), "b": entry("I32", [1], 0, 4)}
DATA = struct.pack("<i6f", 7, *range(6))


def written(path: Path, header: object, data: bytes = DATA, *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


refused = functools.partial(refusals.refused, read_state_dict)


def test_arrays_come_in_the_order_of_their_places(tmp_path):
    read = read_state_dict(written(tmp_path / "a", TWO))
    assert list(read) == ["b", "w"]
    assert read["b"].tolist() == [7] and read["b"].dtype == np.int32
    assert read["w"].tolist() == [[0, 1, 2], [3, 4, 5]] and read["w"].dtype == np.float32


def test_element_types(tmp_path):
    values = [0, 1, 3, 100]
    kinds = {"F64": "<f8", "F16": "<f2", "I64": "<i8", "I16": "<i2", "U8": "u1", "BOOL": "?"}
    for kind, dtype in kinds.items():
        array = np.array(values, dtype)
        path = written(tmp_path / "a", {"w": entry(kind, [4], 0, array.nbytes)}, array.tobytes())
        read = read_state_dict(path)["w"]
        assert read.dtype == array.dtype and read.tolist() == array.tolist()
    bits = np.array([0x3F80, 0xC000, 0x4049, 0x7F80], "<u2")  # the upper halves of float32
    path = written(tmp_path / "a", {"w": entry("BF16", [2, 2], 0, 8)}, bits.tobytes())
    brain = read_state_dict(path)["w"]
    assert brain.dtype.name == "bfloat16" and brain.tolist() == [[1, -2], [3.140625, np.inf]]


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2"])
def test_a_type_that_numpy_lacks_is_named(tmp_path, kind):
    path = written(tmp_path / "a", {"w": entry(kind, [4], 0, 4)}, bytes(4))
    said = refusals.refused(read_state_dict, path)
    assert said.startswith(f"its array 'w' is of the type '{kind}', which cannot be read: save")


def test_scalars_and_empty_arrays(tmp_path):
    header = {"w": entry("F32", [], 0, 4), "e": entry("F32", [0, 9], 4, 4)}
    read = read_state_dict(written(tmp_path / "a", header, struct.pack("<f", 5)))
    assert read["w"] == 5 and read["w"].shape == () and read["e"].shape == (0, 9)


def one(dtype: str, shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"w": entry(dtype, shape, start, end)}


HOSTILE = {
    "shape larger than its bytes": one("F32", [8], 0, 28),
    "shape smaller than its bytes": one("F32", [6], 0, 28),
    "larger than the file": one("F32", [2**40], 0, 2**42),
    "overflow": one("F32", [2**62, 4], 0, 0),
    "numpy cannot": one("F32", [0, 2**62], 0, 0),
    "ranks": one("F32", [1] * 100 + [7], 0, 28),
    "negative": one("F32", [-7], 0, 28),
    "reversed": one("F32", [7], 28, 0),
    "a gap": one("F32", [6], 4, 28),
    "bytes left over": one("F32", [6], 0, 24),
    "overlap": {"v": entry("F32", [4], 0, 16), "w": entry("F32", [4], 12, 28)},
    "the same bytes twice": {"v": entry("F32", [7], 0, 28), "w": entry("F32", [7], 0, 28)},
    "unknown type": one("F31", [7], 0, 28),
    "no type of numpy's": one("F8_E4M3", [28], 0, 28),
    "no entry": {"w": [1, 2]},
    "metadata that is no text": TWO | {"__metadata__": {"a": 1}},
    "no object": [1, 2],
    "no JSON": b"{nonsense}",
    "no text": b'{"\xff": 1}',
    "deep": b'{"w":' + b"[" * 10**6,
    "nothing": {},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_headers_are_refused_before_memory_is_taken(tmp_path, what):
    path = written(tmp_path / "a", HOSTILE[what], b"" if what == "nothing" else DATA)
    tracemalloc.start()
    refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23


@pytest.mark.parametrize("second", [entry("I32", [7], 0, 28), entry("F32", [7], 0, 28)])
def test_a_name_twice(tmp_path, second):
    first, second = json.dumps(entry("F32", [7], 0, 28)), json.dumps(second)
    header = f'{{"w": {first}, "w": {second}}}'.encode()
    assert "a name twice" in refused(written(tmp_path / "a", header))


def test_a_header_may_have_a_tokenizer_but_no_more_than_the_library_takes(tmp_path, monkeypatch):
    long = written(tmp_path / "a", {"__metadata__": {"a": "a" * 2**23}} | TWO)
    assert len(metadata(long)["a"]) == 2**23 and set(read_state_dict(long)) == set(TWO)
    monkeypatch.setattr(safetensors_file, "_MAX_HEADER", 2**23)
    assert "longer than" in refused(long)


def test_headers_that_lie_about_their_length(tmp_path):
    for length in (2**63, 2**64 - 1, 10**6):
        assert "is truncated" in refused(written(tmp_path / "a", TWO, length=length))
    for length in (0, 1, 50):
        refused(written(tmp_path / "a", TWO, length=length))


def test_what_is_no_file(tmp_path):
    assert "is a directory" in refused(tmp_path)
    assert "does not exist" in refused(tmp_path / "a")
    (tmp_path / "a").touch()
    refused(tmp_path / "a")


def test_metadata(tmp_path):
    path = tmp_path / "a"
    assert metadata(written(path, {"__metadata__": {"a": "b"}} | TWO, b"")) == {"a": "b"}
    assert metadata(written(path, TWO)) == {}
    for header in ({"__metadata__": 3}, [1], b"{", b"[" * 10**6):
        with pytest.raises(UserError, match="cannot be read"):
            metadata(written(path, header))


def test_every_truncation_is_refused(tmp_path):
    data = written(tmp_path / "a", TWO).read_bytes()
    for length in range(len(data)):
        (tmp_path / "b").write_bytes(data[:length])
        refused(tmp_path / "b")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_bytes_are_refused_or_harmless(changes):
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / "a", TWO)
        content = bytearray(path.read_bytes())
        for place, byte in changes:
            content[place % len(content)] = byte
        path.write_bytes(content)
        try:
            read = read_state_dict(path)
        except UserError as error:
            assert "\n" not in str(error)
            return
        assert sum(a.nbytes for a in read.values()) == len(DATA)
