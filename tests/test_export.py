import dataclasses
import functools
import json
import os
import resource
import stat
import struct

import jax
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tl_jax import models
from tl_jax.base import file as export
from tl_jax.base.architecture import Architecture
from tl_jax.chain.programs import forward
from tl_jax.errors import UserError

examples = functools.partial(
    settings, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
BASE, FORM, CUT, SHAPE = "resnet18", "torchvision", "stage1_block1", (2, 32, 32, 3)


def made() -> export.Model:
    architecture = Architecture(BASE, FORM, 3, cut=CUT, head="linear", dropout=0.2)
    preprocessing = dataclasses.replace(models.family(BASE).preprocessing(BASE, FORM), size=32)
    variables = architecture.chain().init(0, SHAPE)
    return export.Model(architecture, variables, preprocessing, ("bar", "Scheibe", "方"), "flips")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    export.save(path, made())
    return path


def test_what_was_saved_is_read(saved):
    model, found = made(), export.load(saved)
    jax.tree.map(np.testing.assert_array_equal, found.variables, model.variables)
    assert found[2:] == model[2:]
    assert found.chain.names == ("stem", "stage1_block1", "head")
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    logits = [
        forward(m.chain, m.variables, m.preprocessing.normalise(pixels)) for m in (model, found)
    ]
    np.testing.assert_array_equal(*logits)
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_anyone_can_read_the_arrays(saved):
    arrays = safetensors.numpy.load_file(saved)
    wanted = made().variables["params"]["head"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(arrays["params/head/Dense_0/kernel"], wanted)
    assert "batch_stats/stem/conv/norm/mean" in arrays


def test_arrays_on_a_device_are_saved_as_well(tmp_path):
    model = made()
    variables = jax.tree.map(jax.numpy.asarray, model.variables)
    export.save(tmp_path / "m", model._replace(variables=variables))
    found = export.load(tmp_path / "m").variables
    jax.tree.map(np.testing.assert_array_equal, found, model.variables)


def test_who_may_read_a_model_is_as_for_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        export.save(tmp_path / "m", made())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o640


def test_a_missing_file_is_said(tmp_path):
    for path in (tmp_path / "model.safetensors", tmp_path):
        with pytest.raises(UserError, match="no model there: .* does not exist"):
            export.load(path)


def test_a_full_disk_is_said_and_what_was_there_stays(saved, tmp_path):
    path = tmp_path / saved.name
    path.write_bytes(saved.read_bytes())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(UserError, match="cannot be written, is the disk full"):
            export.save(path, made())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == saved.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == [saved.name]


def refused(path) -> str:
    with pytest.raises(UserError) as caught:
        export.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def data_starts(content: bytes) -> int:
    return 8 + struct.unpack("<Q", content[:8])[0]


@examples(max_examples=15)
@given(data=st.data(), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_parameters_is_found(saved, tmp_path, data, bit):
    content = bytearray(saved.read_bytes())
    content[data.draw(st.integers(data_starts(content), len(content) - 1))] ^= 1 << bit
    (tmp_path / "m").write_bytes(content)
    assert "differ from their checksum" in refused(tmp_path / "m")


@examples(max_examples=15)
@given(data=st.data())
def test_a_truncated_file_is_refused(saved, tmp_path, data):
    content = saved.read_bytes()
    ends = st.integers(0, data_starts(content)) | st.integers(0, len(content) - 1)
    (tmp_path / "m").write_bytes(content[: data.draw(ends)])
    assert "is damaged or not a model" in refused(tmp_path / "m")


@examples(max_examples=30)
@given(data=st.data(), byte=st.integers(0, 255))
def test_a_damaged_header_is_refused_or_is_a_model(saved, tmp_path, data, byte):
    content = bytearray(saved.read_bytes())
    content[data.draw(st.integers(0, data_starts(content) - 1))] = byte
    (tmp_path / "m").write_bytes(content)
    try:
        found = export.load(tmp_path / "m")
    except UserError as error:
        assert "\n" not in str(error)
    else:  # white space, say: nothing that is said there has changed
        jax.tree.map(np.testing.assert_array_equal, found.variables, made().variables)
        assert found[2:] == made()[2:]


def altered(saved, path, change, **arrays):
    """The file with other metadata, or other arrays where a name is given."""
    with safetensors.safe_open(saved, "numpy") as file:
        about = json.loads(file.metadata()["tl_jax"])
        kept = {name: file.get_tensor(name) for name in file.keys()}
    text = change(about)
    text = json.dumps(about) if text is None else text
    safetensors.numpy.save_file(kept | arrays, path, {"tl_jax": text})
    return path


HOSTILE = {
    "not json": lambda about: "{",
    "deep": lambda about: "[" * 100_000,
    "a list": lambda about: "[1]",
    "a number": lambda about: "7",
    "null": lambda about: "null",
    "no base": lambda about: about.pop("architecture") and None,
    "no checksum": lambda about: about.pop("checksum") and None,
    "another base": lambda about: about["architecture"].update(name="resnet50"),
    "unknown base": lambda about: about["architecture"].update(name="../../etc/passwd"),
    "no name": lambda about: about["architecture"].update(name=["resnet18"]),
    "another cut": lambda about: about["architecture"].update(cut="stage1_block2"),
    "unknown cut": lambda about: about["architecture"].update(cut="stage9_block1"),
    "cut at the head": lambda about: about["architecture"].update(cut="head"),
    "cut at nothing": lambda about: about["architecture"].update(cut=None),
    "fewer classes": lambda about: about.update(classes=["a", "b"]),
    "another form": lambda about: about["architecture"].update(form="keras"),
    "no form": lambda about: about["architecture"].update(form=None),
    "another head": lambda about: about["architecture"].update(head="vgg_head"),
    "unknown head": lambda about: about["architecture"].update(head="eval"),
    "more of the architecture": lambda about: about["architecture"].update(eval="1"),
    "dropout of text": lambda about: about["architecture"].update(dropout="much"),
    "another number of classes": lambda about: about["architecture"].update(classes=4),
    "a huge number of classes": lambda about: about["architecture"].update(classes=10**12),
    "half a class": lambda about: about["architecture"].update(classes=2.5),
    "other channels": lambda about: about["preprocessing"].update(channels=1),
    "huge channels": lambda about: about["preprocessing"].update(channels=10**9),
    "no classes": lambda about: about.update(classes=7),
    "unknown views": lambda about: about.update(views="all"),
    "senseless views": lambda about: about.update(views=[]),
    "unknown field": lambda about: about["preprocessing"].update(eval="1"),
    "huge": lambda about: about["preprocessing"].update(size=10**12),
    "size of text": lambda about: about["preprocessing"].update(size="32"),
    "size of a fraction": lambda about: about["preprocessing"].update(size=32.5),
    "means of another number": lambda about: about["preprocessing"].update(mean=[1.0, 2.0]),
    "means of text": lambda about: about["preprocessing"].update(mean="zero"),
    "deep means": lambda about: about["preprocessing"].update(mean=[[1.0], [2.0]]),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_does_not_fit_together_is_refused(saved, tmp_path, what):
    message = refused(altered(saved, tmp_path / "m", HOSTILE[what]))
    assert str(tmp_path / "m") in message


@pytest.mark.parametrize(
    "array",
    [np.zeros(4, np.float32), np.zeros((512, 3), np.float16), np.zeros((64, 3), np.float64)],
)
def test_other_arrays_are_refused(saved, tmp_path, array):
    for name in ("params/head/Dense_0/kernel", "params/head/extra"):
        path = altered(saved, tmp_path / "m", lambda about: None, **{name: array})
        assert "its parameters are not those of Architecture(name='resnet18'" in refused(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "m"
    for content in (b"", b"\x80\x04.", os.urandom(1000), struct.pack("<Q", 2**60) + b"{}"):
        path.write_bytes(content)
        assert "is damaged or not a model of tl_jax" in refused(path)
    safetensors.numpy.save_file({"x": np.zeros(3)}, path)
    assert "is damaged or not a model of tl_jax" in refused(path)
