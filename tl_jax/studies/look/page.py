"""How a look at a base is shown: filters, every layer, what excites channels, all in the plane."""

import collections
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

from tl_jax.base.base import Base
from tl_jax.data.task import Task
from tl_jax.measure.embedding import KEPT
from tl_jax.report import figures, html, pictures, study
from tl_jax.studies.look import MOST_CLASSES

MOST_CHANNELS = 8  # of a layer
SIDE = 112  # pixels of a feature map, of an image beside it
NAMES = {"tsne": "t-SNE", "umap": "UMAP"}


def write(
    workdir: pathlib.Path,
    result: dict,
    *,
    base: Base,
    task: Task,
    shape: tuple[int, ...],
    filters: tuple[str, np.ndarray],
    image: PIL.Image.Image,
    maps: dict[str, np.ndarray],
    excited: Sequence[Any],
    plane: Any,
) -> None:
    """Write the page and its tables; what is shown is what `study.compute` calls `material`."""
    layer = result["layer"]
    study.write(
        workdir,
        title=f"What {base.name} sees",
        lead="From the bottom to the top: the filters on the image itself, what every layer makes "
        "of one image, which images a channel likes best, and all of them in the plane.",
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
    """The layer and the channels that were looked at."""
    return f"layer {result['layer']}, channels {', '.join(map(str, result['channels']))}"


def _filters(layer: str, kernel: np.ndarray) -> study.Section:
    """The filters (h, w, C, K) of the lowest convolution."""
    height, width, channels, count = kernel.shape
    text = (
        "The lowest filters look at the pixels, so that they can be looked at as images. Edges, "
        "bars and spots of colour are what nearly every network trained on photographs finds "
        "first, and what most tasks can use: these layers are general."
    )
    largest = np.abs(kernel).max((0, 1, 2))
    caption = (
        f"{layer}: {count} filters of {height} × {width} × {channels}; grey is zero, and each has "
        f"the scale of its own largest weight, {largest.min():.2g} to {largest.max():.2g}"
    )
    picture = study.Picture("filters", caption, html.png(pictures.filters(kernel)))
    return study.Section("First-layer filters", text, (picture,))


def _every_layer(seen: PIL.Image.Image, name: str, maps: dict[str, np.ndarray]) -> study.Section:
    """The image as it was seen, and the maps (H, W, C) that every layer makes of it."""
    shown = [study.Picture("image", f"{name}, as the base sees it", html.jpeg(seen))]
    for layer, own in maps.items():
        best = pictures.strongest(own, MOST_CHANNELS)
        bounds = own[..., best].min(), own[..., best].max()
        tiles = [pictures.feature_map(own[..., c], side=SIDE, bounds=bounds) for c in best]
        caption = f"{layer}: {_size(own.shape)}; channels {', '.join(map(str, best))}"
        grid = html.png(pictures.grid(tiles, columns=MOST_CHANNELS))
        shown.append(study.Picture(f"layer_{layer}", f"{caption}; {_scale(*bounds)}", grid))
    text = (
        f"Of every layer in forward order the {MOST_CHANNELS} channels that vary most over the "
        "image, all on one scale, which is said below them, a rectangle for each position. Towards "
        "the bottom one still sees the image, its edges and textures; towards the top there are "
        "few positions left, and what is bright there stands for parts and kinds of things. "
        "Layers without positions are not shown."
    )
    return study.Section("One image at every layer", text, tuple(shown))


def _excited(base: Base, task: Task, layer: str, excited: Sequence[Any]) -> study.Section:
    """The images that excite each channel most, and where."""
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
        f"Of all {len(task.ids):,} images those with the greatest mean activation, first on the "
        "left, and how many are of which class; below each, where it is excited, if the layer has "
        "positions. Unless one was asked for, the channels are those whose activation on the "
        "training split goes most with being of each of the classes, "
        f"{MOST_CLASSES} at most."
    )
    columns = ("channel", "place", "image", "class", "mean activation")
    title = "What excites a channel most"
    table = study.Table("excited", title, columns, rows)
    return study.Section(title, text, tuple(shown), (table,))


def _plane(
    task: Task, layer: str, examples: np.ndarray, points: dict[str, np.ndarray]
) -> study.Section:
    """Maps (n, 2) of the layer's features for the `examples` (n,), by method."""
    labels = task.labels[examples]
    shown = [study.Picture(m, NAMES[m], figures.scatter(p, labels)) for m, p in points.items()]
    text = (
        f"The features of {layer} for {len(examples):,} images, {KEPT} principal components at "
        "most, in the plane, where neighbours stay near each other. Distances between groups, and "
        "their sizes, say little. The numbers are the classes', as in the table."
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


def _seen(base: Base, image: PIL.Image.Image, side: int) -> PIL.Image.Image:
    """The part of the image that goes into the base, in RGB, enlarged or reduced to `side`."""
    pixels = base.preprocessing.fit(image)
    seen = PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    return seen.resize((side, side), PIL.Image.Resampling.LANCZOS)


def _scale(low: float, high: float) -> str:
    """What the shades of feature maps mean."""
    return f"{low:.2g} (dark) to {high:.2g} (bright)"


def _size(shape: Sequence[int]) -> str:
    """(56, 56, 24) -> '56 × 56, 24 channels'."""
    *sides, channels = shape
    return " × ".join(map(str, sides)) + ", " * bool(sides) + f"{channels} channels"
