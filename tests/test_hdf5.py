"""HDF5 files that h5py wrote, some of them as a stranger might, and damaged ones."""

import functools
import mmap
import struct
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_files import (
    W,
    add_legacy,
    add_numbered,
    assert_same,
    both_layouts,
    legacy,
    plain_legacy,
    plain_numbered,
    refused,
)

from tl_jax.errors import UserError
from tl_jax.weights import hdf5
from tl_jax.weights.keras_file import read_state_dict


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", "<i8", "u1"])
def test_element_types(tmp_path, dtype):
    array = np.array([[0, 1, 3, 100]], dtype)
    for shape in ((1, 4), (2, 2, 1), (4,)):
        path = legacy(tmp_path / "a.h5", {"a": {"a/kernel": array.reshape(shape)}})
        assert_same(read_state_dict(path), {"a/kernel": array.reshape(shape)})
    assert_same(read_state_dict(legacy(path, {"a": {"n": array[0, 3]}})), {"a/n": array[0, 3]})
    assert_same(read_state_dict(legacy(path, {"a": {"n": array[:0]}})), {"a/n": array[:0]})


def test_bfloat16(tmp_path):
    bits = np.array([0x3F80, 0xC000, 0x4049, 0x7F80], "<u2")  # the upper halves of float32
    path = legacy(tmp_path / "a.h5", {"a": {"kernel": bits.view("V2")}})
    array = read_state_dict(path)["a/kernel"]
    assert array.dtype.name == "bfloat16" and array.tolist() == [1, -2, 3.140625, np.inf]


def test_a_group_with_many_members(tmp_path):
    """Its names are in a tree of more than one level."""
    layers = {f"layer{i}": {f"layer{i}/kernel": W + i} for i in range(600)}
    expected = {name: array for arrays in layers.values() for name, array in arrays.items()}
    assert_same(read_state_dict(legacy(tmp_path / "a.h5", layers)), expected)


def test_an_array_in_its_own_header(tmp_path):
    with h5py.File(plain_numbered(tmp_path / "a.h5"), "a") as file:
        del file["layers/dense/vars/0"]
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        space, group = h5py.h5s.create_simple(W.shape), file["layers/dense/vars"].id
        made = h5py.h5d.create(group, b"0", h5py.h5t.IEEE_F32LE, space, plan)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, W)
    assert_same(read_state_dict(tmp_path / "a.h5"), {"fc/kernel": W, "fc/bias": W[0]})


@settings(deadline=None)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=99),
    st.integers(0, 9),
)
def test_text_is_read_as_h5py_reads_it(text, others):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        with h5py.File(path, "w") as file:
            for i in range(others):
                file.attrs[f"other{i}"] = str(i) * 50 * i
            file.attrs["name"] = text
            assert file.attrs["name"] == text
        with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            root = hdf5.root(raw)
            found = hdf5.attributes(root)
            assert hdf5.text(root.file, found["name"]) == text and len(found) == others + 1


def external_link(file: h5py.File, other: Path) -> None:
    file["layers/dense/vars/0"] = h5py.ExternalLink(other, "secret")


def soft_link(file: h5py.File, other: Path) -> None:
    file["layers/dense/vars/0"] = h5py.SoftLink("/layers/dense/vars/1")


def external_storage(file: h5py.File, other: Path) -> None:
    places = [(other, 0, h5py.h5f.UNLIMITED)]
    file.create_dataset("layers/dense/vars/0", (2, 3), "<f4", external=places)


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((2, 3), "<f4")
    layout[:] = h5py.VirtualSource(other, "secret", (2, 3), "<f4")
    file.create_virtual_dataset("layers/dense/vars/0", layout)


def compressed(file: h5py.File, other: Path) -> None:
    file.create_dataset("layers/dense/vars/0", (2**30,), "<f4", compression="gzip")


def filtered(file: h5py.File, other: Path) -> None:
    file.create_dataset("layers/dense/vars/0", data=W, compression="lzf")


def in_chunks(file: h5py.File, other: Path) -> None:
    file.create_dataset("layers/dense/vars/0", (1,), "<f4", maxshape=(None,), chunks=(2**29,))


def never_written(file: h5py.File, other: Path) -> None:
    file.create_dataset("layers/dense/vars/0", (2**40,), "<f4")


def never_written_but_small(file: h5py.File, other: Path) -> None:
    file.create_dataset("layers/dense/vars/0", (6,), "<f4")


def many_names_for_one_array(file: h5py.File, other: Path) -> None:
    file["layers/dense/vars/0"] = np.zeros(10**6, "<f4")
    for i in range(1, 40):
        add_numbered(file, {f"layers/dense_{i}": (f"fc{i}", [])})
        file[f"layers/dense_{i}/vars/0"] = file["layers/dense/vars/0"]


def objects(file: h5py.File, other: Path) -> None:
    file.create_dataset("layers/dense/vars/0", data=["a", "b"], dtype=h5py.string_dtype())


def references(file: h5py.File, other: Path) -> None:
    file.create_dataset("layers/dense/vars/0", data=[file.ref], dtype=h5py.ref_dtype)


def records(file: h5py.File, other: Path) -> None:
    file["layers/dense/vars/0"] = np.zeros(3, [("a", "<f4"), ("b", "<f4")])


def nothing(file: h5py.File, other: Path) -> None:
    file["layers/dense/vars/0"] = h5py.Empty("<f4")


def a_group(file: h5py.File, other: Path) -> None:
    file.create_group("layers/dense/vars/0")


def a_circle(file: h5py.File, other: Path) -> None:
    file["layers/dense/vars/0"] = W
    file["layers/dense/layers"] = file["layers"]


def a_second_place(file: h5py.File, other: Path) -> None:
    file["layers/dense/vars/0"] = W
    file["layers/dense_1"] = file["layers/dense"]


def too_deep(file: h5py.File, other: Path) -> None:
    file["layers/dense/vars/0"] = W
    file.create_group("layers" + "/a" * 40)


HOSTILE = {
    external_link: "has links, or groups or arrays of an unusual kind",
    soft_link: "has a link instead of '0'",
    external_storage: "'fc/kernel' is compressed, in pieces or in another file",
    virtual: "'fc/kernel' is compressed, in pieces or in another file",
    compressed: "'fc/kernel' is compressed, in pieces or in another file",
    filtered: "'fc/kernel' is compressed, in pieces or in another file",
    in_chunks: "'fc/kernel' is compressed, in pieces or in another file",
    never_written: "'fc/kernel' claims more bytes than the file has",
    never_written_but_small: "'fc/kernel' refers to bytes beyond its end",
    many_names_for_one_array: "claims more bytes than the file has",
    objects: "'fc/kernel' is not an array of numbers",
    references: "'fc/kernel' is not an array of numbers",
    records: "'fc/kernel' is not an array of numbers",
    nothing: "'fc/kernel' is not an array of numbers",
    a_group: "'fc/kernel' is not an array",
    a_circle: "two arrays with the name 'fc/kernel'",
    a_second_place: "two arrays with the name 'fc/kernel'",
    too_deep: "groups more than 32 deep",
}


@pytest.mark.parametrize("attack", HOSTILE, ids=lambda attack: attack.__name__)
def test_hostile_contents_are_refused_before_memory_is_taken(tmp_path, attack):
    with h5py.File(tmp_path / "other", "w") as file:
        file["secret"] = W
    with h5py.File(plain_numbered(tmp_path / "a.h5"), "a") as file:
        del file["layers/dense/vars/0"]
        attack(file, tmp_path / "other")
    tracemalloc.start()
    assert HOSTILE[attack] in refused(tmp_path / "a.h5")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


def test_legacy_files_with_links_or_strays(tmp_path):
    with h5py.File(plain_legacy(tmp_path / "a.h5"), "a") as file:
        file["fc2"] = h5py.SoftLink("/fc")
    assert "a link instead of 'fc2'" in refused(tmp_path / "a.h5")
    with h5py.File(plain_legacy(tmp_path / "a.h5"), "a") as file:
        file["model_weights"] = h5py.ExternalLink("b.h5", "/")
    assert "has links" in refused(tmp_path / "a.h5")
    with h5py.File(plain_legacy(tmp_path / "a.h5"), "a") as file:
        file["stray"] = W
    assert "'stray' belongs to no layer" in refused(tmp_path / "a.h5")


def test_newer_forms_of_hdf5_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        add_legacy(file, {"fc": {"fc/kernel": W}})
    assert "of an unusual kind" in refused(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w", track_order=True) as file:
        add_legacy(file, {"fc": {"fc/kernel": W}})
    assert "of an unusual kind" in refused(tmp_path / "a.h5")


def test_a_crowd_is_refused(tmp_path, monkeypatch):
    path = plain_legacy(tmp_path / "a.h5")
    monkeypatch.setattr(hdf5, "_MOST", 200)
    assert len(read_state_dict(path)) == 2
    monkeypatch.setattr(hdf5, "_MOST", 100)
    assert "too many groups and arrays" in refused(path)


@pytest.mark.parametrize("name", [b"bytes", ["a", "list"], 3, "long" * 300, h5py.Empty("<f4")])
def test_names_that_are_no_plain_text(tmp_path, name):
    with h5py.File(plain_numbered(tmp_path / "a.h5"), "a") as file:
        file["layers/dense/vars"].attrs["name"] = np.bytes_(name) if name == b"bytes" else name
    assert "no plain name" in refused(tmp_path / "a.h5")


def altered(path: Path, at: int, field: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + len(field)] = field
    path.write_bytes(data)
    return path


def test_text_that_lies_about_its_length_or_place(tmp_path):
    data = plain_numbered(tmp_path / "a.h5").read_bytes()
    heap = data.index(b"GCOL")
    reference = data.index(struct.pack("<IQI", 2, heap, 1))  # length, heap, number of the text
    for length in (0, 1, 3, 2**31, 2**32 - 1):  # the HDF5 library takes 4 GB
        path = altered(plain_numbered(tmp_path / "a.h5"), reference, struct.pack("<I", length))
        assert "no plain name" in refused(path)
    for at, field in [
        (heap, b"X"),
        (heap + 16, bytes(16)),  # a text of no length and no number: the HDF5 library never returns
        (heap + 24, struct.pack("<Q", 2**63)),
        (reference + 4, struct.pack("<Q", 96)),
        (reference + 12, struct.pack("<I", 7)),
    ]:
        assert "no plain name" in refused(altered(plain_numbered(tmp_path / "a.h5"), at, field))
    path = altered(plain_numbered(tmp_path / "a.h5"), reference + 4, struct.pack("<Q", 2**64 - 1))
    assert "beyond its end" in refused(path)


def test_an_array_with_fewer_bytes_than_its_shape_needs(tmp_path):
    path = plain_legacy(tmp_path / "a.h5")
    data = path.read_bytes()
    layout = b"\3\1" + struct.pack("<2Q", data.index(W.tobytes()), W.nbytes)
    altered(path, data.index(layout) + 10, struct.pack("<Q", W.nbytes - 4))
    assert "'fc/kernel' is incomplete" in refused(path)


def test_groups_that_hold_themselves(tmp_path, monkeypatch):
    """The list of a group's members leads to itself; the members' names have no end."""
    monkeypatch.setattr(hdf5, "_MOST", 2**16)
    data = plain_legacy(tmp_path / "a.h5").read_bytes()
    tree = data.index(b"TREE")
    heap = data.index(b"HEAP")
    path = altered(plain_legacy(tmp_path / "a.h5"), tree + 32, struct.pack("<Q", tree))
    assert "too many groups and arrays" in refused(path)
    path = altered(plain_legacy(tmp_path / "a.h5"), tree + 4, b"\0\xff\xff\xff")
    refused(path)
    path = altered(plain_legacy(tmp_path / "a.h5"), heap + 24, struct.pack("<Q", 2**63))
    refused(path)


@both_layouts
def test_truncated_files_are_refused(tmp_path, write):
    data = write(tmp_path / "a.h5").read_bytes()
    for length in [*range(0, len(data), 97), len(data) - 1]:
        (tmp_path / "b.h5").write_bytes(data[:length])
        assert refused(tmp_path / "b.h5")


@both_layouts
@settings(max_examples=200, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_damaged_bytes_are_refused_or_harmless(write, changes):
    content = bytearray(whole(write))
    places = [i for i, byte in enumerate(content) if byte]  # most of such a file is zeros
    for place, byte in changes:
        content[places[place % len(places)]] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        path.write_bytes(content)
        try:
            read = read_state_dict(path)
        except UserError as error:
            assert "\n" not in str(error)
            return
        assert sum(a.nbytes for a in read.values()) <= len(content)


@functools.cache
def whole(write: Callable[[Path], Path]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder) / "a.h5").read_bytes()
