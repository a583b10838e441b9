"""Measure reading images, here and with PyTorch's DataLoader: same files, decoder and worker count.

    python -m benchmarks.loader [--images=my_photos/]

Both turn JPEG and PNG files into normalised batches of 224 pixels, decode with Pillow and resize
with bicubic interpolation; ours uses threads, PyTorch's processes. They take turns. Without a
folder it writes files of noise and gradients, 500 x 375. It also measures `stored`: reading images
that were decoded before, as every epoch after the first does.
"""

import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

from absl import flags

from benchmarks.measure import IDLE, busy_cores
from experiments import cli

_IMAGES = flags.DEFINE_string("images", None, "A folder of images, one sub-folder for each class.")
_COUNT = flags.DEFINE_integer("count", 512, "Number of images to write.", lower_bound=64)
_BATCH = flags.DEFINE_integer("batch", 32, "Images in a batch.", lower_bound=1)
_TURNS = flags.DEFINE_integer("turns", 5, "Number of measurements of each.", lower_bound=2)


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    busy = busy_cores()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        folders = [pathlib.Path(_IMAGES.value)] if _IMAGES.value else written(folder, _COUNT.value)
        for path in folders:
            measure(path, folder / "cache")
    if busy > IDLE:
        print(f"machine NOT idle: {busy:.1f} cores busy before")


def measure(path: pathlib.Path, cache: pathlib.Path) -> None:
    """Print the rates of reading the images in a folder."""
    from tl_jax.data.preprocessing import imagenet
    from tl_jax.data.tasks.folder import folder

    task, preprocessing = folder(path, seed=0), imagenet(224, 256, "bicubic")
    ways = dict(ours(task, preprocessing, cache) | {"PyTorch": theirs(path, task.ids)})
    rates = {name: [] for name in ways}
    for turn in range(_TURNS.value + 1):  # the first warms up: compiling, starting workers
        for name, batches in ways.items():
            started = time.perf_counter()
            images = sum(batches())
            if turn:
                rates[name].append(images / (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{path.name}, {len(task.ids)} images, batches of {_BATCH.value}, images/s:")
    for name, values in rates.items():
        ratio = medians[name] / medians["PyTorch"]
        print(
            f"  {name:8} {medians[name]:8.0f} ({min(values):.0f} to {max(values):.0f}), "
            f"{ratio:.2f} x PyTorch"
        )


def ours(task, preprocessing, cache: pathlib.Path) -> dict[str, Callable[[], Iterator[int]]]:
    """Return passes over all images: decoded anew (`ours`), or decoded before (`stored`)."""
    import jax
    import numpy as np

    from tl_jax.data import loader
    from tl_jax.engine import prefix

    normalise = jax.jit(preprocessing.normalise)
    everything = np.arange(len(task.ids))

    def passes(inputs) -> Iterator[int]:
        def read(numbers):
            return inputs.read(everything[numbers], 0 * numbers), (numbers >= 0).sum()

        order = loader.once_order(len(everything), batch_size=_BATCH.value)
        for images, real in loader.read_ahead(order, read):
            jax.block_until_ready(normalise(images))
            yield int(real)

    decoded = prefix.decoded(task, preprocessing)
    stored = prefix.pixels(task, preprocessing, cache=cache)
    return {"ours": lambda: passes(decoded), "stored": lambda: passes(stored)}


def theirs(path: pathlib.Path, ids: tuple[str, ...]) -> Callable[[], Iterator[int]]:
    """Return passes of a DataLoader with as many worker processes as ours has threads."""
    import numpy as np
    import PIL.Image
    import torch

    from tl_jax.data.loader import threads
    from tl_jax.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD

    mean, std = (torch.tensor(v, dtype=torch.float32) for v in (IMAGENET_MEAN, IMAGENET_STD))

    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return len(ids)

        def __getitem__(self, index):
            image = PIL.Image.open(path / ids[index]).convert("RGB")
            scale = 256 / min(image.size)
            sides = [round(side * scale) for side in image.size]
            image = image.resize(sides, PIL.Image.Resampling.BICUBIC)
            left, top = [(side - 224) // 2 for side in sides]
            image = image.crop((left, top, left + 224, top + 224))
            return ((torch.from_numpy(np.array(image)) - mean) / std).permute(2, 0, 1)

    options = {"batch_size": _BATCH.value, "num_workers": threads(), "persistent_workers": True}
    batches = torch.utils.data.DataLoader(Images(), **options)
    return lambda: (len(batch) for batch in batches)


def written(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
    """Write a folder of `count` JPEG files and one of as many PNG files, each with two classes."""
    import numpy as np
    import PIL.Image

    rng = np.random.default_rng(0)
    slopes = np.add.outer(np.arange(375), np.arange(500))[..., None] / 4
    for number in range(count):
        noise = rng.integers(0, 32, (375, 500, 3))
        image = PIL.Image.fromarray((slopes + noise + rng.integers(0, 8, 3)).astype(np.uint8))
        for kind, options in (("jpg", {"quality": 90}), ("png", {})):
            path = folder / kind / f"class{number % 2}" / f"{number}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, **options)
    return [folder / "jpg", folder / "png"]


if __name__ == "__main__":
    cli.run(main)
