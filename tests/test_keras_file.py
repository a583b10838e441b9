"""Keras's layouts, and what becomes of the names in them."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras_files import (
    W,
    add_legacy,
    assert_same,
    both_layouts,
    legacy,
    numbered,
    plain_numbered,
    refused,
)

from tl_jax.errors import UserError
from tl_jax.weights.keras_file import read_state_dict, renumbered


@both_layouts
def test_both_layouts(tmp_path, write):
    assert_same(read_state_dict(write(tmp_path / "a")), {"fc/kernel": W, "fc/bias": W[0]})


def test_a_whole_model_with_long_lists_of_names(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["model_config"] = "{}"
        layers = {f"conv{i}": {f"conv{i}/kernel": W + i, f"conv{i}/bias": W[0]} for i in range(9)}
        add_legacy(file.create_group("model_weights"), layers, pieces=2)
        add_legacy(file.create_group("optimizer_weights"), {"adam": {"adam/conv0_momentum": W}})
        file["model_weights"].create_group("top_level_model_weights").attrs["weight_names"] = []
    expected = {name: array for arrays in layers.values() for name, array in arrays.items()}
    assert_same(read_state_dict(tmp_path / "a.h5"), expected)


def test_layers_whose_names_have_slashes(tmp_path):
    names = ["conv1/conv", "conv1/bn", "b/expand", "b/expand/BatchNorm"]
    layers = {name: {f"{name}/x:0": W + i} for i, name in enumerate(names)}
    expected = {f"{name}/x": W + i for i, name in enumerate(names)}
    assert_same(read_state_dict(legacy(tmp_path / "a.h5", layers)), expected)


def test_the_names_of_2016(tmp_path):
    layers = {
        "block1_conv1": {"block1_conv1_W_1:0": W, "block1_conv1_b_1:0": W[0]},
        "bn2a_branch2a": {
            f"bn2a_branch2a_{leaf}_1:0": W[0] + i
            for i, leaf in enumerate(["gamma", "beta", "running_mean", "running_std"])
        },
    }
    expected = {
        "block1_conv1/kernel": W,
        "block1_conv1/bias": W[0],
        "bn2a_branch2a/gamma": W[0],
        "bn2a_branch2a/beta": W[0] + 1,
        "bn2a_branch2a/moving_mean": W[0] + 2,
        "bn2a_branch2a/moving_variance": W[0] + 3,
    }
    assert_same(read_state_dict(legacy(tmp_path / "a.h5", layers)), expected)


def test_paths_that_begin_with_the_model_and_models_among_the_layers(tmp_path):
    layers = {
        "fc": {"sequential_1/fc/kernel": W, "sequential_1/fc/bias": W[0]},
        "vgg": {"conv1/kernel": W, "conv2/kernel": W + 1},
    }
    expected = {"fc/kernel": W, "fc/bias": W[0], "conv1/kernel": W, "conv2/kernel": W + 1}
    assert_same(read_state_dict(legacy(tmp_path / "a.h5", layers)), expected)


def test_numbered_arrays_are_named_by_their_class(tmp_path):
    rows = [W[0] + i for i in range(4)]
    layers = {
        "layers/conv2d": ("stem", [W]),
        "layers/conv2d_1": ("mixed", [W, W[0]]),
        "layers/depthwise_conv2d": ("dw", [W, W[0]]),
        "layers/batch_normalization": ("bn", rows),
        "layers/batch_normalization_1": ("no_scale", rows[:3]),
        "layers/batch_normalization_11": ("statistics", rows[:2]),
        "layers/functional/layers/dense": ("fc", [W, W[0]]),
        "layers/dropout": ("dropout", []),
        "optimizer": ("adam", [np.int64(3), W]),
    }
    expected = {
        "stem/kernel": W,
        "mixed/kernel": W,
        "mixed/bias": W[0],
        "dw/depthwise_kernel": W,
        "dw/bias": W[0],
        "bn/gamma": rows[0],
        "bn/beta": rows[1],
        "bn/moving_mean": rows[2],
        "bn/moving_variance": rows[3],
        "no_scale/beta": rows[0],
        "no_scale/moving_mean": rows[1],
        "no_scale/moving_variance": rows[2],
        "statistics/moving_mean": rows[0],
        "statistics/moving_variance": rows[1],
        "fc/kernel": W,
        "fc/bias": W[0],
    }
    assert_same(read_state_dict(numbered(tmp_path / "a.weights.h5", layers)), expected)


def test_numbered_arrays_that_cannot_be_named(tmp_path):
    cases = {
        "3 arrays in 'layers/conv2d/vars'": {"layers/conv2d": ("conv", [W, W, W])},
        "1 arrays in": {"layers/batch_normalization": ("bn", [W])},
        "'layers/my_layer/vars'": {"layers/my_layer": ("mine", [W]), "layers/conv2d": ("c", [W])},
        "two arrays with the name 'c/kernel'": {
            "layers/conv2d": ("c", [W]),
            "layers/functional/layers/conv2d": ("c", [W]),
        },
        "has no plain name": {"layers/conv2d": ("", [W])},
        "holds no arrays": {"layers/conv2d": ("c", [])},
        "not one of Keras's weights": {"a/conv2d": ("c", [W])},
    }
    for words, layers in cases.items():
        assert words in refused(numbered(tmp_path / "a.h5", layers))
    with h5py.File(plain_numbered(tmp_path / "a.h5"), "a") as file:
        file["layers/dense/kernel"] = W
    assert "'layers/dense/kernel' belongs to no layer" in refused(tmp_path / "a.h5")
    with h5py.File(plain_numbered(tmp_path / "a.h5"), "a") as file:
        file.move("layers/dense/vars/1", "layers/dense/vars/2")
    assert "cannot be named" in refused(tmp_path / "a.h5")


@pytest.mark.parametrize("group", ["layers", "_layer_checkpoint_dependencies"])
def test_files_of_earlier_keras_3_say_what_to_do(tmp_path, group):
    with h5py.File(numbered(tmp_path / "a.h5", {f"{group}/conv2d": ("c", [W])}), "a") as file:
        del file[f"{group}/conv2d/vars"].attrs["name"]
    assert "Keras before 3.6" in refused(tmp_path / "a.h5")


def test_automatic_names_are_renumbered():
    names = [
        "conv2d_10/kernel:0", "conv2d_9/kernel:0", "conv2d_9/bias:0", "depthwise_conv2d/kernel",
        "batch_normalization_4/beta", "dense_7/bias", "conv2d_1_bn/beta", "conv2d_2a/kernel",
        "mixed/conv2d_3/kernel", "conv2d_5.weight", "conv2d_5",
    ]  # fmt: skip
    expected = [
        "conv2d_1/kernel", "conv2d_0/kernel", "conv2d_0/bias", "depthwise_conv2d_0/kernel",
        "batch_normalization_0/beta", "dense_0/bias", "conv2d_1_bn/beta", "conv2d_2a/kernel",
        "mixed/conv2d_3/kernel", "conv2d_5.weight", "conv2d_5",
    ]  # fmt: skip
    assert renumbered(dict(zip(names, range(11), strict=True))) == dict(
        zip(expected, range(11), strict=True)
    )
    with pytest.raises(UserError, match="two arrays with the name 'a/kernel'"):
        renumbered({"a/kernel": W, "a/kernel:0": W})


@given(st.lists(st.integers(0, 10**9 - 1), min_size=1, unique=True), st.booleans())
def test_renumbering_keeps_the_order_and_is_done_once(numbers, plain):
    """Plain: the first layer of a class has no number, and no other has 0."""
    names = {n: "dense/bias" if plain and n == 0 else f"dense_{n}/bias" for n in numbers}
    once = renumbered({names[n]: n for n in numbers})
    assert once == {f"dense_{i}/bias": n for i, n in enumerate(sorted(numbers))}
    assert renumbered(once) == once
