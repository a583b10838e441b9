"""Weight files as people's training scripts write them, without PyTorch."""

import argparse
import enum
import hashlib
import io
import json
import pathlib
import pickle

import numpy as np
import pytest
import safetensors.numpy
from parity import fixtures
from test_torch_file import (
    archive,
    both_formats,
    call,
    label,
    literal,
    ordered,
    refused,
    storage,
    tensor,
)

from tl_jax.base.load import from_state_dict, load_base
from tl_jax.chain.variables import fingerprint
from tl_jax.errors import UserError
from tl_jax.weights.torch_file import read_state_dict, sha256

STATE = fixtures.state_dict(fixtures.load("torchvision-resnet18-224-s0").meta)
LAST = {name: np.asarray(array + 1, np.float32) for name, array in STATE.items()}
WANTED = fingerprint(from_state_dict("resnet18", STATE).variables)
OTHER = fingerprint(from_state_dict("resnet18", LAST).variables)
BESIDE = {
    "criterion.weight": np.ones(10, np.float32),
    "acc.tp": np.ones(10, np.int64),
    "n_averaged": np.array(3),
}


def under(prefix: str, state=STATE) -> dict[str, np.ndarray]:
    return {f"{prefix}{name}": array for name, array in state.items()}


def loaded(state, **how) -> str:
    return fingerprint(from_state_dict("resnet18", state, **how).variables)


def complaint(state, **how) -> str:
    with pytest.raises(UserError) as error:
        from_state_dict("resnet18", state, **how)
    (line,) = str(error.value).splitlines()
    return line


PREFIXES = ("module.", "net.", "model.", "backbone.", "encoder.", "_model.", "student.",
            "module._orig_mod.", "state_dict.model.module.backbone.")  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_stands_in_front_of_the_names_is_found(prefix, caplog):
    assert loaded(under(prefix)) == WANTED
    assert not caplog.text
    for state in (BESIDE | under(prefix), under(prefix) | under(prefix, BESIDE)):
        caplog.clear()
        assert loaded(state) == WANTED
        assert "left out what is no part of the net" in caplog.text
        assert all(name in caplog.text for name in BESIDE)


@pytest.mark.parametrize(
    ("fixture", "name"),
    [
        ("timm-efficientnet_lite0-224-s0", "efficientnet_lite0"),
        ("timm-mobilenetv2_100-65-s1", "mobilenet_v2"),
        ("timm-inception_v4-161-s5", "inception_v4"),
    ],
)
def test_so_they_are_of_any_net(fixture, name):
    state = fixtures.state_dict(fixtures.load(fixture).meta)
    wanted = from_state_dict(name, state)
    found = from_state_dict(name, under("timm_model.", state) | BESIDE)
    assert found.architecture == wanted.architecture
    assert fingerprint(found.variables) == fingerprint(wanted.variables)


@pytest.mark.parametrize(
    ("first", "second"),
    [("model.", "model_ema.module."), ("student.", "teacher."), ("encoder_q.", "encoder_k.")],
)
def test_of_several_nets_one_is_asked_for(first, second, caplog):
    state = under(first) | under(second, LAST) | BESIDE
    line = complaint(state)
    assert "holds resnet18 2 times" in line and f"'file.pth#{first[:-1]}'" in line
    assert f"{second[:-1]!r}" in line
    assert loaded(state, part=first[:-1]) == WANTED
    assert loaded(state, part=second[:-1]) == loaded(state, part=second.split(".")[0]) == OTHER
    assert "left out" in caplog.text
    line = complaint(state, part="modle")
    assert line.startswith("unknown part of the file 'modle'; ") and first[:-1] in line


def test_what_is_not_beside_the_net_is_still_refused():
    deeper = STATE | {"layer1.2.conv1.weight": STATE["layer1.1.conv1.weight"]}
    assert "the file also has 'layer1.2.conv1.weight'" in complaint(deeper)
    assert "also has 'layer1.2.conv1.weight'" in complaint(under("model.", deeper))
    lacking = {n: a for n, a in (under("model.") | BESIDE).items() if "layer3.1.bn2" not in n}
    line = complaint(lacking)
    assert "the file lacks batch_stats/stage3_block2" in line and "'criterion.weight'" in line
    headless = {n: a for n, a in under("encoder.").items() if ".fc." not in n}
    inside = headless | {"encoder.fc2.weight": np.ones(3)}
    assert "all but the classifier is there" in complaint(inside)
    assert from_state_dict("resnet18", headless).layers[-1] == "pool"
    of_another = fixtures.state_dict(fixtures.load("timm-mobilenetv2_100-65-s1").meta)
    assert "of another architecture" in complaint(of_another)
    assert "of another architecture" in complaint(under("model.", of_another))


@pytest.mark.parametrize("prefix", ["encoder.", "module.backbone."])
def test_an_encoder_beside_a_projector_gives_a_base_cut_below_the_classifier(prefix, caplog):
    """As SimCLR, BYOL and their kin leave it."""
    encoder = {n: a for n, a in under(prefix).items() if ".fc." not in n}
    sizes = {"projector.0": (64, 512), "projector.2": (16, 64)}
    beside = {f"{name}.weight": np.ones(shape, np.float32) for name, shape in sizes.items()}
    base = from_state_dict("resnet18", beside | encoder)
    assert base.layers[-1] == base.architecture.cut == "pool"
    whole = from_state_dict("resnet18", STATE)
    assert fingerprint(base.variables) == fingerprint(whole.cut("pool").variables)
    assert "the weights have no head: the base ends at pool" in caplog.text
    assert "left out what is no part of the network: 'projector.0.weight'" in caplog.text


@pytest.mark.parametrize("channels", [1, 4])
def test_a_stem_for_other_channels_than_three_says_so_itself(channels, caplog):
    rng = np.random.default_rng(0)
    stem = rng.normal(size=(64, channels, 7, 7)).astype(np.float32)
    base = from_state_dict("resnet18", under("net.", STATE | {"conv1.weight": stem}))
    assert base.preprocessing.channels == channels and base.preprocessing.input_shape[3] == channels
    usual = from_state_dict("resnet18", STATE)
    assert base.preprocessing == usual.preprocessing.with_channels(channels)
    assert f"the stem of these weights reads {channels} channels" in caplog.text
    kernel = base.variables["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, stem.transpose(2, 3, 1, 0))
    pixels = rng.integers(0, 256, (40, 40, channels), np.uint8)
    assert base.resized(32).predict([pixels]).shape == (1, len(STATE["fc.bias"]))


def test_a_stem_of_another_size_is_still_of_another_architecture():
    stem = np.ones((64, 1, 3, 3), np.float32)
    assert "of another shape" in complaint(STATE | {"conv1.weight": stem})


def test_a_file_of_another_kind_has_its_prefixes_too(tmp_path):
    path = tmp_path / "hf.safetensors"
    safetensors.numpy.save_file(under("timm_model."), path)
    base = load_base("resnet18", path)
    assert fingerprint(base.variables) == WANTED and base.digest == sha256(path)
    safetensors.numpy.save_file(under("model.") | under("ema.", LAST), path)
    base = load_base("resnet18", f"{path}#ema")
    assert fingerprint(base.variables) == OTHER and base.weights == f"{path}#ema"
    with pytest.raises(UserError, match="hf.safetensors: holds resnet18 2 times, as 'ema', 'm"):
        load_base("resnet18", path)


def test_weights_in_several_files(tmp_path):
    names = list(STATE)
    state = {name: np.asarray(array) for name, array in STATE.items()}
    files = {f"model-0000{n + 1}-of-00002.safetensors": names[n::2] for n in (0, 1)}
    for file, inside in files.items():
        safetensors.numpy.save_file({name: state[name] for name in inside}, tmp_path / file)
    places = {name: file for file, inside in files.items() for name in inside}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    base = load_base("resnet18", index)
    assert fingerprint(base.variables) == WANTED
    digests = "".join(sha256(tmp_path / file) for file in files)
    assert base.digest == hashlib.sha256(digests.encode()).hexdigest()
    first, second = files
    hostile = {
        "does not have the arrays": {"fc.weight": first},
        "not a weight file beside it": {"fc.weight": f"../{first}"},
        "does not exist": places | {"other": "other.safetensors"},
        "cannot be read": 3,
    }
    for words, weight_map in hostile.items():
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(UserError, match=words):
            load_base("resnet18", index)
    index.write_text("[" * 100_000)
    with pytest.raises(UserError, match="cannot be read"):
        load_base("resnet18", index)


def written(path: pathlib.Path, checkpoint: dict[str, object]) -> pathlib.Path:
    """A checkpoint: dictionaries of arrays become state dicts, bytes stand as they are."""
    arrays: dict[str, np.ndarray] = {}

    def body(value) -> bytes:
        if isinstance(value, bytes):
            return value
        if isinstance(value, dict):
            return ordered({key: body(inner) for key, inner in value.items()})
        value = np.asarray(value)
        value = value.astype("<f4" if value.dtype.kind == "f" else "<i8")
        key = str(len(arrays))
        arrays[key] = value
        strides = tuple(step // value.itemsize for step in value.strides)
        kind = "Float" if value.dtype.kind == "f" else "Long"
        return tensor(storage(kind, key, value.size), value.shape, strides)

    return archive(path, body(checkpoint), arrays)


def test_the_checkpoint_of_a_training_script(tmp_path, caplog):
    """As torchvision's reference script writes it: model, average, optimizer, arguments."""
    momentum = {0: {"momentum_buffer": STATE["conv1.weight"]}}
    path = written(tmp_path / "last.pth", {
        "model": under("module."),
        "model_ema": {"n_averaged": np.array(3), **under("module.module.", LAST)},
        "optimizer": {"state": momentum, "param_groups": b"]"},
        "epoch": literal(3),
        "args": pickle.dumps(argparse.Namespace(lr=0.1, out=None), protocol=2)[2:-1],
    })  # fmt: skip
    with pytest.raises(UserError, match="as 'model.module', 'model_ema.module.module'; say which"):
        load_base("resnet18", path)
    assert fingerprint(load_base("resnet18", f"{path}#model").variables) == WANTED
    assert fingerprint(load_base("resnet18", f"{path}#model_ema").variables) == OTHER
    assert "'model_ema.n_averaged'" in caplog.text and "momentum" not in caplog.text


class Config(dict):
    """Somebody's own dictionary with attributes."""


class Settings:
    """Somebody's own class; to build one is noticed."""

    built = 0

    def __new__(cls):
        cls.built += 1
        return super().__new__(cls)

    def __setstate__(self, state):
        raise AssertionError("was built")


class Mode(enum.Enum):
    """Somebody's own enumeration."""

    TRAIN = "train"
    TEST = ("test", 2)


class Outer:
    """Somebody's own class with an enumeration in it."""

    class Inner(enum.IntFlag):
        A = 1


INERT = {
    "member": Mode.TEST,
    "member inside": {"mode": [Outer.Inner.A]},
    "namespace": argparse.Namespace(lr=0.1, nested=argparse.Namespace(of=[1, 2])),
    "paths": {"out": pathlib.PurePosixPath("a/b")},
    "best": np.float64(71.2),
    "classes": {"a", "b"},
    "dictionary": Config(lr=0.1, inner=Config(a=[1])),
    "array": np.arange(3),
}


@both_formats
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", INERT)
def test_objects_beside_the_tensors_are_passed_over(tmp_path, write, protocol, kind):
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol)
    pickler.fast = True  # without memo, so that it can stand inside another pickle
    pickler.dump(INERT[kind])
    value = buffer.getvalue()[11 if protocol == 4 else 2 : -1]  # behind PROTO and FRAME
    weight = tensor(storage(), (2, 3), (3, 1))
    for body in ({"w": weight, "args": value}, {"args": value, "w": weight}):
        read = read_state_dict(write(tmp_path / "a.pth", ordered(body)))
        assert list(read) == ["w"] and read["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


@both_formats
def test_they_are_not_built(tmp_path, write):
    thing = Settings()
    thing.lr = 0.1
    value = pickle.dumps(thing, protocol=2)
    with pytest.raises(AssertionError, match="was built"):
        pickle.loads(value)
    before = Settings.built
    weight = tensor(storage(), (2, 3), (3, 1))
    body = ordered({"w": weight, "args": value[2:-1]})
    assert list(read_state_dict(write(tmp_path / "a.pth", body))) == ["w"]
    assert Settings.built == before
    assert "whole object of the class 'test_checkpoint_files.Settings'" in refused(
        write(tmp_path / "b.pth", value[2:-1])
    )
    whole = ordered({"model": value[2:-1], "epoch": literal(3)})
    assert "holds no tensors, but a whole object" in refused(write(tmp_path / "b.pth", whole))


@both_formats
def test_a_call_of_anything_else_is_still_refused(tmp_path, write):
    weight = tensor(storage(), (2, 3), (3, 1))
    for name in ("os.system", "builtins.eval", "argparse.FileType", "numpy.load", "pathlib.os",
                 "subprocess.Popen", "builtins.getattr"):  # fmt: skip
        for value in (call(name, literal("true")), label(name)):
            line = refused(write(tmp_path / "a.pth", ordered({"w": weight, "args": value})))
            assert repr(name) in line and "nothing was run" in line


@both_formats
def test_enumerations_are_neither_called_nor_looked_into(tmp_path, write, monkeypatch):
    """By value, and by name as Python 3.11.0 wrote them."""
    called = []
    monkeypatch.setattr(Mode, "_missing_", classmethod(lambda cls, value: called.append(value)))
    member = "test_checkpoint_files.Mode"
    weight = tensor(storage(), (2, 3), (3, 1))
    by_name = call("builtins.getattr", label(member), literal("TRAIN"))
    for value in (call(member, literal("nothing")), by_name):
        body = ordered({"w": weight, "args": value})
        assert list(read_state_dict(write(tmp_path / "a.pth", body))) == ["w"]
    assert not called
    deep = b"".join(label("builtins.getattr") + b"(" for _ in range(60)) + label(member)
    deep += (literal("A" * 20) + b"tR") * 60  # each a name longer than the last
    line = refused(write(tmp_path / "a.pth", ordered({"w": weight, "args": deep})))
    assert "a name of more than" in line
    for owner, name in (("os.System", "system"), (member, "mro")):
        value = call("builtins.getattr", label(owner), literal(name)) + b"(" + literal(1) + b"tR"
        line = refused(write(tmp_path / "a.pth", ordered({"w": weight, "args": value})))
        assert "nothing was run" in line


@both_formats
def test_dictionaries_without_end_are_not_walked_through(tmp_path, write):
    """Each of many entries is the same dictionary of many entries."""
    inner = b"}q\x01(" + b"".join(literal(str(n)) + b"N" for n in range(3000)) + b"u"
    body = b"}(" + literal("a") + inner
    body += b"".join(literal(f"x{n}") + b"h\x01" for n in range(3000)) + b"u"
    assert "entries" in refused(write(tmp_path / "a.pth", body))
    long = ordered({"x" * 300: tensor(storage(), (2, 3), (3, 1))})
    assert "a name of more than" in refused(write(tmp_path / "a.pth", long))
