"""Features at every layer equal what the base gives layer by layer."""

import dataclasses
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.base.load import load_base
from tl_jax.data import views
from tl_jax.data.tasks.arrays import from_arrays
from tl_jax.errors import UserError
from tl_jax.measure.features import of_layers, pooled_shape

LAYERS = ("stage1_block1", "stage2_block1", "pool")


@pytest.fixture(scope="module")
def base():
    return load_base("resnet18", "random:1").resized(32)


@pytest.fixture(scope="module")
def task():
    images = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3)).astype(np.uint8)
    return from_arrays("noise", images, np.arange(70) % 2, seed=0, val=0.2, test=0.2)


def one_by_one(base, task, layer):
    images = jnp.concatenate([base.preprocessing(task.open(i)) for i in range(len(task.ids))])
    return base(images, layer=layer)


def test_they_are_the_means_over_space_in_the_order_of_the_task(base, task, tmp_path):
    found = of_layers(base, task, layers=LAYERS, cache=tmp_path)
    assert tuple(found) == LAYERS
    for name, features in found.items():
        wanted = one_by_one(base, task, name)
        assert features.shape == wanted.shape[1:]
        wanted = wanted.mean((1, 2)) if wanted.ndim == 4 else wanted
        np.testing.assert_allclose(features.rows, wanted, rtol=1e-4, atol=1e-5)


def test_in_several_views_they_are_those_of_each_view(base, task, tmp_path):
    found = of_layers(base, task, layers=LAYERS, views="crops", cache=tmp_path)
    plain = of_layers(base, task, layers=LAYERS, cache=tmp_path)
    pixels = base.preprocessing.fitted([task.open(i) for i in range(len(task.ids))])
    for name in LAYERS:
        rows = found[name].rows
        assert rows.shape == (10, *plain[name].rows.shape)
        np.testing.assert_allclose(rows[0], plain[name].rows, rtol=1e-4, atol=1e-5)
        for number, place in ((1, 1), (14, 8)):  # a corner's number follows 0, 1, 8, 9, ..., 13
            images = base.preprocessing.normalise(views.view(pixels, number))
            wanted = base(images, layer=name)
            wanted = wanted.mean((1, 2)) if wanted.ndim == 4 else wanted
            np.testing.assert_allclose(rows[place], wanted, rtol=1e-4, atol=1e-5)


def test_without_a_cache_nothing_is_kept(base, task, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for cache in ("", None):
        found = of_layers(base, task, layers=LAYERS, cache=cache)
        wanted = of_layers(base, task, layers=LAYERS, cache=tmp_path / "kept")
        for name in LAYERS:
            np.testing.assert_array_equal(found[name].rows, wanted[name].rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "kept"]
    assert not list((tmp_path / "here").iterdir())


def test_pooled_to_a_budget_they_keep_some_space(base, task, tmp_path):
    found = of_layers(base, task, layers=LAYERS, pool="adaptive:1024", cache=tmp_path)
    features = found["stage1_block1"]  # (8, 8, 64)
    assert features.pooled == (4, 4, 64) and features.rows.shape == (70, 1024)
    maps = np.asarray(one_by_one(base, task, "stage1_block1"))
    means = maps.reshape(70, 4, 2, 4, 2, 64).mean((2, 4)).reshape(70, -1)
    np.testing.assert_allclose(features.rows, means, rtol=1e-4, atol=1e-5)


def test_the_order_in_which_layers_are_named_does_not_matter_and_all_is_the_rule(
    base, task, tmp_path
):
    assert tuple(of_layers(base, task, layers=LAYERS[::-1], cache=tmp_path)) == LAYERS
    assert tuple(of_layers(base, task, cache=tmp_path)) == base.layers[:-1]


def test_a_second_time_nothing_is_computed(base, task, tmp_path, monkeypatch):
    first = of_layers(base, task, layers=LAYERS, cache=tmp_path)
    monkeypatch.setattr("tl_jax.measure.features._mapped", lambda *_: lambda fixed: None)
    again = of_layers(base, task, layers=LAYERS, cache=tmp_path)
    for name in LAYERS:
        np.testing.assert_array_equal(first[name].rows, again[name].rows)


def test_what_they_take_is_asked_for_with_the_images(base, task, tmp_path, monkeypatch):
    """A byte less than both need is refused while nothing is there; the images alone would fit."""
    images, rows = 70 * 32 * 32 * 3, 70 * (64 + 128 + 512) * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=images + rows - 1))
    said = "0.4 MB are needed .decoded images: 0.2 MB, features of 3 layers: 0.2 MB"
    with pytest.raises(UserError, match=said):
        of_layers(base, task, layers=LAYERS, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=images + rows))
    assert tuple(of_layers(base, task, layers=LAYERS, cache=tmp_path / "cache")) == LAYERS


@pytest.mark.parametrize(
    ("shape", "pool", "wanted"),
    [
        ((56, 56, 64), "mean", (1, 1, 64)),
        ((56, 56, 64), "adaptive:9000", (11, 11, 64)),  # 12 * 12 * 64 = 9216 are too many
        ((7, 7, 2048), "adaptive:9000", (2, 2, 2048)),
        ((7, 7, 2048), "adaptive:1000", (1, 1, 2048)),
        ((3, 5, 8), "adaptive:9000", (3, 3, 8)),
        ((512,), "adaptive:9000", (512,)),
    ],
)
def test_pooled_shapes(shape, pool, wanted):
    assert pooled_shape(shape, pool) == wanted


def test_a_task_without_images_is_refused(base, task, tmp_path):
    without = dataclasses.replace(task, open=None)
    with pytest.raises(UserError, match="no images"):
        of_layers(base, without, layers=LAYERS, cache=tmp_path)
    with pytest.raises(UserError, match="'noise' has no images"):
        without.image(0)
    assert task.image(3).size == (32, 32)


def test_what_is_not_finite_is_named_with_layer_and_example(base, task, tmp_path):
    broken = jax.tree.map(np.copy, base.variables)
    broken["params"]["stage2_block1"]["conv2"]["norm"]["bias"][:] = np.inf
    broken = dataclasses.replace(base, variables=broken)
    with pytest.raises(UserError, match="stage2_block1.*not finite.*example '0'"):
        of_layers(broken, task, layers=LAYERS, cache=tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"layers": ("stage2_blok1",)}, "stage2_block1"), ({"pool": "max"}, "mean or adaptive")],
)
def test_unknown_layers_and_rules_are_refused(base, task, tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        of_layers(base, task, cache=tmp_path, **change)
