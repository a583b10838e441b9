"""The page of a look at a base: filters, every layer, channels' favourite images, a map."""

import collections
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

from tl_jax.base.base import Base
from tl_jax.data.images import Image, seen
from tl_jax.data.task import Task
from tl_jax.measure.embedding import KEPT
from tl_jax.report import figures, html, pictures, study
from tl_jax.studies.look import MOST_CLASSES

MOST_CHANNELS = 8  # shown of a layer
SIDE = 112  # pixels of a feature map, and of an image beside it
NAMES = {"tsne": "t-SNE", "umap": "UMAP"}


def write(
    workdir: pathlib.Path,
    result: dict,
    *,
    base: Base,
    task: Task,
    shape: tuple[int, ...],
    filters: tuple[str, np.ndarray],
    image: Image,
    maps: dict[str, np.ndarray],
    excited: Sequence[Any],
    plane: Any,
) -> None:
    """Write the page and its tables from the `material` of `study.compute`."""
    layer = result["layer"]
    study.write(
        workdir,
        title=f"What {base.name} sees",
        lead="From bottom to top: the filters that read the image, the feature maps of one image "
        "at every layer, the images that excite a channel most, and a map of all images.",
        sections=[
            _filters(*filters),
            _every_layer(_seen(base, image, 2 * SIDE), result["image"], maps),
            _excited(base, task, layer, excited),
            _plane(task, layer, plane.examples, plane.points),
        ],
        facts={
            "base": base.name,
            "weights": base.weights,
            "input": f"{base.preprocessing.size} × {base.preprocessing.size}",
            "task": f"{task.name}, {len(task.ids):,} images",
            "layer": f"{layer}, {_size(shape)}",
        },
        result=result,
    )


def summary(result: dict) -> str:
    """Return the layer and the channels that the page shows."""
    return f"layer {result['layer']}, channels {', '.join(map(str, result['channels']))}"


def _filters(layer: str, kernel: np.ndarray) -> study.Section:
    """Return the section of the lowest convolution's filters (h, w, C, K)."""
    height, width, channels, count = kernel.shape
    text = (
        "The lowest filters read pixels, so they can be shown as images. Nearly every network "
        "trained on photographs learns edges, bars and spots of colour first, and most tasks can "
        "use them: these layers are general."
    )
    largest = np.abs(kernel).max((0, 1, 2))
    caption = (
        f"{layer}: {count} filters of {height} × {width} × {channels}; grey is zero, and each is "
        f"scaled by its own largest weight, {largest.min():.2g} to {largest.max():.2g}"
    )
    picture = study.Picture("filters", caption, html.png(pictures.filters(kernel)))
    return study.Section("First-layer filters", text, (picture,))


def _every_layer(seen: PIL.Image.Image, name: str, maps: dict[str, np.ndarray]) -> study.Section:
    """Return the section of the image and its feature maps (H, W, C) at every layer."""
    shown = [study.Picture("image", f"{name}, as the base sees it", html.jpeg(seen))]
    for layer, of_layer in maps.items():
        best = pictures.strongest(of_layer, MOST_CHANNELS)
        bounds = of_layer[..., best].min(), of_layer[..., best].max()
        tiles = [pictures.feature_map(of_layer[..., c], side=SIDE, bounds=bounds) for c in best]
        caption = f"{layer}: {_size(of_layer.shape)}; channels {', '.join(map(str, best))}"
        grid = html.png(pictures.grid(tiles, columns=MOST_CHANNELS))
        shown.append(study.Picture(f"layer_{layer}", f"{caption}; {_scale(*bounds)}", grid))
    text = (
        f"For every layer in forward order: the {MOST_CHANNELS} channels that vary most over the "
        "image, with a rectangle for each position. The channels of a layer share one scale, "
        "given below them. Near the bottom the maps still show the image, its edges and textures; "
        "near the top few positions are left, and bright ones stand for parts and kinds of things. "
        "Layers without positions are not shown."
    )
    return study.Section("One image at every layer", text, tuple(shown))


def _excited(base: Base, task: Task, layer: str, excited: Sequence[Any]) -> study.Section:
    """Return the section of the images that excite each channel most, and where."""
    shown, rows = [], []
    for channel, examples, activations, images, maps in excited:
        tiles, scale = [_seen(base, image, SIDE) for image in images], ""
        if maps is not None:
            bounds = min(0.0, maps.min()), maps.max()
            scale = f"; {_scale(*bounds)}"
            tiles += [pictures.feature_map(m, side=SIDE, bounds=bounds) for m in maps]
        classes = [task.classes[task.labels[i]] for i in examples]
        counts = ", ".join(f"{n} {name}" for name, n in collections.Counter(classes).items())
        grid = html.png(pictures.grid(tiles, columns=len(examples)))
        caption = f"Channel {channel} of {layer}: {counts}{scale}"
        shown.append(study.Picture(f"channel_{channel}", caption, grid))
        lines = zip(examples, classes, activations, strict=True)
        rows += [
            (str(channel), rank, task.ids[i], name, activation)
            for rank, (i, name, activation) in enumerate(lines, 1)
        ]
    text = (
        f"Those of all {len(task.ids):,} images that have the greatest mean activation, the "
        "greatest on the left, and the number of each class among them; below each image, if the "
        "layer has positions, where the channel is active. Unless the config names a channel, each "
        f"class ({MOST_CLASSES} at most) has the channel whose activation correlates most with it "
        "on the training split."
    )
    columns = ("channel", "place", "image", "class", "mean activation")
    title = "What excites a channel most"
    table = study.Table("excited", title, columns, rows)
    return study.Section(title, text, tuple(shown), (table,))


def _plane(
    task: Task, layer: str, examples: np.ndarray, points: dict[str, np.ndarray]
) -> study.Section:
    """Return the section of maps (n, 2), by method, of the layer's features for `examples` (n,)."""
    labels = task.labels[examples]
    shown = [study.Picture(m, NAMES[m], figures.scatter(p, labels)) for m, p in points.items()]
    text = (
        f"The features of {layer} for {len(examples):,} images, reduced to at most {KEPT} "
        "principal components and mapped into the plane so that neighbours stay near each other. "
        "Distances between groups, and their sizes, say little. Numbers are those of the classes "
        "in the table."
    )
    counts = [int((labels == c).sum()) for c in range(len(task.classes))]
    classes = [(n, *row) for n, row in enumerate(zip(task.classes, counts, strict=True), 1)]
    axes = [f"{NAMES[m]} {axis}" for m in points for axis in "xy"]
    coordinates = np.hstack([np.empty((len(examples), 0)), *points.values()]).tolist()
    rows = [
        (task.ids[i], task.classes[task.labels[i]], *xy)
        for i, xy in zip(examples, coordinates, strict=True)
    ]
    tables = (
        study.Table("classes", "Classes", ("number", "class", "images"), classes),
        study.Table("points", "Every image", ("image", "class", *axes), rows),
    )
    return study.Section("All images in the plane", text, tuple(shown), tables)


def _seen(base: Base, image: Image, side: int) -> PIL.Image.Image:
    """Return the part of the image that the base sees, in RGB, resized to `side` pixels."""
    pixels = seen(base.of_images.fit(image)).convert("RGB")
    return pixels.resize((side, side), PIL.Image.Resampling.LANCZOS)


def _scale(low: float, high: float) -> str:
    """Return what the shades of feature maps mean."""
    return f"{low:.2g} (dark) to {high:.2g} (bright)"


def _size(shape: Sequence[int]) -> str:
    """Return a shape as text: (56, 56, 24) -> '56 × 56, 24 channels'."""
    *sides, channels = shape
    return " × ".join(map(str, sides)) + ", " * bool(sides) + f"{channels} channels"
