"""Pictures of a base: its filters, its feature maps, what excites a channel, a map of a task.

    python -m experiments.look --config=configs/look.py
    python -m experiments.look --config=configs/look.py --config.image=photo.png \
        --config.layer=stage5_block3 --config.channel=17
"""

import collections
import pathlib
import time

from absl import flags

from experiments import cli, study

flags.adopt_module_key_flags(study)

MOST = 8  # channels of a layer, images of a channel
CLASSES = 5  # whose channels are shown where no channel is asked for
SIDE = 112  # pixels of a feature map, of an image beside it
MOST_POINTS = 3000  # in the plane, drawn by lot of more
NAMES = {"tsne": "t-SNE", "umap": "UMAP"}


def work(config, workdir: pathlib.Path, name: str) -> dict:
    """All pictures, and the report they are in."""
    from tl_jax import interrupt
    from tl_jax.measure.features import of_layers
    from tl_jax.report import study as page
    from tl_jax.runs import results

    started = time.time()
    base, task = study.base_of(config), study.task_of(config, seed=config.seed)
    shapes = base.chain.shapes(base.preprocessing.input_shape)[1]
    layer = config.layer or next(n for n in reversed(base.layers) if len(shapes[n].shape) == 4)
    base.chain.index(layer)
    _check(config, layer, channels=shapes[layer].shape[-1])
    called, image = _image(config, task)
    features = of_layers(base, task, layers=[layer], cache=pathlib.Path(config.cache))[layer]
    own = task.splits["train"]
    channels = [config.channel]
    if config.channel < 0:
        channels = preferred(features.rows[own], task.labels[own], min(len(task.classes), CLASSES))
    sections = [first_filters(base), depth(base, image, called)]
    for section in (
        lambda: excited(base, task, layer, features, channels),
        lambda: plane(config, task, layer, features.rows),
    ):
        interrupt.check()
        sections.append(section())
    result = {
        "name": name,
        "config": config.to_dict(),
        "layer": layer,
        "channels": channels,
        "image": called,
        "seconds": time.time() - started,
        **results.provenance("look"),
    }
    facts = {
        "base": base.name,
        "weights": base.weights,
        "input": f"{base.preprocessing.size} × {base.preprocessing.size}",
        "task": f"{task.name}, {len(task.ids):,} images",
        "layer": f"{layer}, {_size(shapes[layer].shape[1:])}",
    }
    page.write(
        workdir,
        title=f"What {base.name} sees",
        lead="From the bottom to the top: the filters on the image itself, what every layer makes "
        "of one image, which images a channel likes best, and all of them in the plane.",
        sections=sections,
        facts=facts,
        result=result,
    )
    return result


def _check(config, layer: str, channels: int) -> None:
    """UserError for what is not there, before anything is computed."""
    import importlib.util

    from tl_jax.errors import UserError, unknown
    from tl_jax.measure.embedding import METHODS

    if not -1 <= config.channel < channels:
        raise UserError(f"channel {config.channel} of {layer!r}: it has 0 to {channels - 1}")
    for method in config.maps:
        if method not in METHODS:
            raise unknown("map", method, METHODS)
    if "umap" in config.maps and importlib.util.find_spec("umap") is None:
        raise UserError("UMAP needs umap-learn: pip install tl_jax[studies], or leave it out")


def _image(config, task):
    """The image whose feature maps are drawn, and what it is called."""
    from tl_jax.data.images import open_image
    from tl_jax.errors import UserError

    if not config.image:
        first = int((task.labels == len(task.classes) - 1).argmax())
        return task.ids[first], task.open(first)
    if not pathlib.Path(
        config.image
    ).is_file():  # nothing there, or a pipe, which one would wait on
        raise UserError(f"no such image: {config.image}")
    return config.image, open_image(config.image)


def preferred(rows, labels, classes: int) -> list[int]:
    """For each of the classes the channel that goes with it most; (N, D), (N,)."""
    found = [int(correlation(rows, labels == c).argmax()) for c in range(classes)]
    return list(dict.fromkeys(found))


def correlation(rows, inside):
    """(D,): of each feature with being `inside`, Pearson's; 0 where either is constant."""
    import numpy as np

    rows = np.asarray(rows, np.float64) - np.mean(rows, 0, dtype=np.float64)
    inside = inside - np.mean(inside)
    scale = np.sqrt((rows**2).sum(0) * (inside**2).sum())
    return inside @ rows / np.where(scale > 0, scale, 1)


def first_filters(base):
    """The filters of the lowest convolution."""
    from flax.traverse_util import flatten_dict

    from tl_jax.report import html, pictures
    from tl_jax.report.study import Picture, Section

    found = [
        (name, leaf)
        for name in base.layers
        for path, leaf in flatten_dict(base.variables["params"].get(name, {})).items()
        if path[-1] == "kernel" and leaf.ndim == 4
    ]
    layer, kernel = found[0]
    if base.preprocessing.order == "BGR":
        kernel = kernel[:, :, ::-1]
    height, width, channels, count = kernel.shape
    text = (
        "The lowest filters look at the pixels, so that they can be looked at as images. Edges, "
        "bars and spots of colour are what nearly every network trained on photographs finds "
        "first, and what most tasks can use: these layers are general."
    )
    caption = f"{layer}: {count} filters of {height} × {width} × {channels}; grey is zero"
    return Section(
        "First-layer filters", text, (Picture(caption, html.png(pictures.filters(kernel))),)
    )


def depth(base, image, called: str):
    """What every layer that has maps makes of the image."""
    import numpy as np

    from tl_jax.report import html, pictures
    from tl_jax.report.study import Picture, Section

    below = base.layers[: base.layers.index(base.bottleneck) + 1]
    found = outputs(base, base.preprocessing(image), below)
    shown = [Picture(f"{called}, as the base sees it", html.jpeg(_seen(base, image, 2 * SIDE)))]
    for layer, maps in found.items():
        if maps.ndim < 4 or maps.shape[1] * maps.shape[2] == 1:
            continue
        maps = np.asarray(maps[0])
        best = pictures.strongest(maps, MOST)
        tiles = [pictures.feature_map(maps[..., c], side=SIDE) for c in best]
        caption = f"{layer}: {_size(maps.shape)}; channels {', '.join(map(str, best))}"
        shown.append(Picture(caption, html.png(pictures.grid(tiles, columns=MOST))))
    text = (
        f"Of every layer in forward order the {MOST} channels that vary most over the image, each "
        "from its least (dark) to its greatest value (bright), a rectangle for each position. "
        "Towards the bottom one still sees the image, its edges and textures; towards the top "
        "there are few positions left, and what is bright there stands for parts and kinds of "
        "things. Layers without positions are not shown."
    )
    return Section("One image at every layer", text, tuple(shown))


def excited(base, task, layer: str, features, channels: list[int]):
    """The images that excite each channel most, and where."""
    import numpy as np

    from tl_jax.report import html, pictures
    from tl_jax.report.study import Picture, Section, Table

    shown, table = [], []
    for channel in channels:
        activations = features.rows[:, channel]
        best = np.argsort(-activations, kind="stable")[:MOST]
        images = [task.open(int(i)) for i in best]
        tiles = [_seen(base, image, SIDE) for image in images]
        if len(features.shape) == 3 and features.shape[0] > 1:
            maps = np.asarray(outputs(base, base.preprocessing(images), [layer])[layer])
            maps = maps[..., channel]
            bounds = min(0.0, maps.min()), maps.max()
            tiles += [pictures.feature_map(m, side=SIDE, bounds=bounds) for m in maps]
        kinds = collections.Counter(task.classes[task.labels[i]] for i in best)
        caption = f"Channel {channel} of {layer}: {', '.join(f'{n} {k}' for k, n in kinds.items())}"
        shown.append(Picture(caption, html.png(pictures.grid(tiles, columns=len(best)))))
        table += [
            (str(channel), place, task.ids[i], task.classes[task.labels[i]], float(activations[i]))
            for place, i in enumerate(best, 1)
        ]
    text = (
        f"Of all {len(task.ids):,} images those with the greatest mean activation, first on the "
        "left, and how many are of which class; below each, where it is excited, if the layer has "
        "positions. Unless one was asked for, the channels are those whose activation on the "
        f"training split goes most with being of each of the classes, {CLASSES} at most."
    )
    columns = ("channel", "place", "image", "class", "mean activation")
    name = "What excites a channel most"
    return Section(name, text, tuple(shown), (Table("excited", name, columns, table),))


def plane(config, task, layer: str, rows):
    """Maps of the layer's features, by the methods that the config names."""
    import numpy as np

    from tl_jax.measure.embedding import KEPT, METHODS
    from tl_jax.report import figures
    from tl_jax.report.study import Picture, Section, Table

    rng = np.random.default_rng(config.seed)
    own = np.sort(rng.permutation(len(rows))[:MOST_POINTS])
    labels = task.labels[own]
    points = {m: METHODS[m](rows[own], seed=config.seed) for m in config.maps}
    shown = [Picture(NAMES[m], figures.scatter(p, labels)) for m, p in points.items()]
    text = (
        f"The features of {layer} for {len(own):,} images, {KEPT} principal components at most, in "
        "the plane, where neighbours stay near each other. Distances between groups, and their "
        "sizes, say little. The numbers are the classes', as in the table."
    )
    counts = [int((labels == c).sum()) for c in range(len(task.classes))]
    classes = [(n, *row) for n, row in enumerate(zip(task.classes, counts, strict=True), 1)]
    axes = [f"{NAMES[m]} {axis}" for m in points for axis in "xy"]
    coordinates = np.hstack([np.empty((len(own), 0)), *points.values()]).tolist()
    named = [
        (task.ids[i], task.classes[task.labels[i]], *xy)
        for i, xy in zip(own, coordinates, strict=True)
    ]
    tables = (
        Table("classes", "Classes", ("number", "class", "images"), classes),
        Table("points", "Every image", ("image", "class", *axes), named),
    )
    return Section("All images in the plane", text, tuple(shown), tables)


def outputs(base, images, layers) -> dict:
    """The outputs of the layers for preprocessed images (N, S, S, C), by name, forwards."""
    import jax

    chain = base.chain.cut(layers[-1])
    found = jax.jit(lambda v, x: chain.apply(v, x, taps=layers).taps)(base.variables, images)
    return {layer: found[layer] for layer in layers}


def _seen(base, image, side: int):
    """The part of the image that goes into the base, in RGB, enlarged or reduced to `side`."""
    import PIL.Image

    pixels = base.preprocessing.fit(image)
    found = PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    return found.resize((side, side), PIL.Image.Resampling.LANCZOS)


def _size(shape) -> str:
    """(56, 56, 24) -> '56 × 56, 24 channels'."""
    *sides, channels = shape
    return (
        f"{' × '.join(map(str, sides))}, {channels} channels" if sides else f"{channels} channels"
    )


def _shown(result: dict) -> str:
    return f"layer {result['layer']}, channels {', '.join(map(str, result['channels']))}"


if __name__ == "__main__":
    cli.run(study.main(work, example="configs/look.py", shown=_shown))
