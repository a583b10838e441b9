"""A look at a base: outputs of every layer, images that excite a channel, a map of a task."""

import importlib.util
import pathlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from tl_jax import interrupt
from tl_jax.base.base import Base
from tl_jax.data.images import Image, open_file
from tl_jax.data.task import Task
from tl_jax.errors import UserError, unknown
from tl_jax.measure.embedding import METHODS
from tl_jax.measure.features import LayerFeatures, of_layers
from tl_jax.runs.subject import base_of, outline_of, task_of
from tl_jax.studies.look import MOST_CLASSES

MOST_IMAGES = 8  # for each channel
MOST_POINTS = 3000  # in the plane; if there are more images, a random sample


class Excited(NamedTuple):
    """The images with the greatest mean activation of a channel, the greatest first."""

    channel: int
    examples: list[int]  # their indices in the task
    activations: list[float]
    images: list[Image]
    maps: np.ndarray | None  # (n, H, W) of the channel; None if the layer has no positions


class Plane(NamedTuple):
    """Features of some examples, mapped into the plane."""

    examples: np.ndarray  # (n,) their indices in the task
    points: dict[str, np.ndarray]  # (n, 2) by method


def check(config: Any) -> None:
    """Raise UserError for a layer, channel, map or image that does not exist."""
    base = outline_of(config)
    layer, shape = shown_layer(config, base)
    if not -1 <= config.channel < shape[-1]:
        raise UserError(f"channel {config.channel} of {layer!r}: it has 0 to {shape[-1] - 1}")
    for method in config.maps:
        if method not in METHODS:
            raise unknown("map", method, METHODS)
    if "umap" in config.maps and importlib.util.find_spec("umap") is None:
        raise UserError("UMAP needs umap-learn: pip install tl_jax[studies], or leave it out")
    if config.image:
        open_file(config.image)


def shown_layer(config: Any, base: Base) -> tuple[str, tuple[int, ...]]:
    """Return the layer whose channels are shown, and the shape of its output for one image.

    If the config names no layer, it is the highest one that has maps.
    """
    shapes = base.chain.shapes(base.of_images.example)[1]
    layer = config.layer or next(n for n in reversed(base.layers) if len(shapes[n].shape) == 4)
    base.chain.index(layer)
    return layer, shapes[layer].shape[1:]


def data(config: Any) -> dict[str, Task]:
    """Return the task that a results folder belongs to."""
    return {"": task_of(config, config.seed)}


def compute(config: Any, workdir: pathlib.Path) -> dict:
    """Look at a base as the config says; most of the output is `material` for the page."""
    started = time.monotonic()
    base, task = base_of(config), task_of(config, seed=config.seed)
    layer, shape = shown_layer(config, base)
    name, image = _image(config, task)
    features = of_layers(base, task, layers=[layer], cache=config.cache)[layer]
    train = task.splits["train"]
    channels = [config.channel]
    if config.channel < 0:
        classes = min(len(task.classes), MOST_CLASSES)
        channels = preferred(features.rows[train], task.labels[train], classes)
    material: dict[str, Any] = {
        "base": base,
        "task": task,
        "shape": shape,
        "filters": first_filters(base),
        "image": image,
        "maps": every_layer(base, image),
    }
    interrupt.check()
    material["excited"] = [excited(base, task, layer, features, c) for c in channels]
    interrupt.check()
    material["plane"] = plane(features.rows, config.maps, seed=config.seed)
    return {
        "layer": layer,
        "channels": channels,
        "image": name,
        "seconds": time.monotonic() - started,
        "material": material,
    }


def _image(config: Any, task: Task) -> tuple[str, Image]:
    """Return name and pixels of the image whose feature maps are drawn."""
    if not config.image:
        first = int((task.labels == len(task.classes) - 1).argmax())
        return task.ids[first], task.image(first)
    return config.image, open_file(config.image)


def preferred(rows: np.ndarray, labels: np.ndarray, classes: int) -> list[int]:
    """Return for each of the classes the channel that correlates most with it.

    `rows` (N, D) are features, `labels` (N,) classes. Each channel appears once.
    """
    channels = [int(correlation(rows, labels == c).argmax()) for c in range(classes)]
    return list(dict.fromkeys(channels))


def correlation(rows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation (D,) of each feature (N, D) with being `inside` (N,).

    It is 0 where either is constant.
    """
    rows = np.asarray(rows, np.float64) - np.mean(rows, 0, dtype=np.float64)
    inside = inside - np.mean(inside)
    scale = np.sqrt((rows**2).sum(0) * (inside**2).sum())
    return inside @ rows / np.where(scale > 0, scale, 1)


def first_filters(base: Base) -> tuple[str, np.ndarray]:
    """Return layer and kernel (h, w, C, K) of the lowest convolution, channels in RGB order."""
    params = base.variables["params"]
    leaves: dict[str, dict[Any, Any]] = {n: flatten_dict(params.get(n, {})) for n in base.layers}
    layer, kernel = next(
        (name, leaf)
        for name in base.layers
        for path, leaf in leaves[name].items()
        if path[-1] == "kernel" and leaf.ndim == 4
    )
    return layer, kernel[:, :, ::-1] if base.of_images.order == "BGR" else kernel


def every_layer(base: Base, image: Image) -> dict[str, np.ndarray]:
    """Return the feature maps (H, W, C) of the image for every layer that has positions."""
    layers = base.layers[: base.layers.index(base.bottleneck) + 1]
    by_layer = outputs(base, base.of_images(image), layers)
    return {
        layer: np.asarray(maps[0])
        for layer, maps in by_layer.items()
        if maps.ndim == 4 and maps.shape[1] * maps.shape[2] > 1
    }


def excited(base: Base, task: Task, layer: str, features: LayerFeatures, channel: int) -> Excited:
    """Return the images that excite a channel of the layer most, and its maps of them."""
    activations = features.rows[:, channel]
    best = np.argsort(-activations, kind="stable")[:MOST_IMAGES].tolist()
    images = [task.image(i) for i in best]
    maps = None
    if len(features.shape) == 3 and features.shape[0] > 1:
        maps = np.asarray(outputs(base, base.of_images(images), [layer])[layer])[..., channel]
    return Excited(channel, best, activations[best].tolist(), images, maps)


def plane(rows: np.ndarray, methods: Sequence[str], *, seed: int) -> Plane:
    """Map features (N, D) into the plane by each of the methods; at most `MOST_POINTS` of them."""
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.permutation(len(rows))[:MOST_POINTS])
    return Plane(sample, {m: METHODS[m](rows[sample], seed=seed) for m in methods})


def outputs(base: Base, images: Any, layers: Sequence[str]) -> dict[str, jax.Array]:
    """Return the outputs of the layers for preprocessed images (N, S, S, C), by name, forwards."""
    chain = base.chain.cut(layers[-1])
    taps = jax.jit(lambda v, x: chain.apply(v, x, taps=layers).taps)(base.variables, images)
    return {layer: taps[layer] for layer in layers}
