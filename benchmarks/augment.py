"""Measure random augmentation, in milliseconds of a compiled call on a batch, or draw a picture.

    python -m benchmarks.augment [--batch=32] [--size=224] [--channels=3] [--only=crop]
    python -m benchmarks.augment --png=docs/augmentation.png

It prints the median of several calls on uint8 images, with least and greatest in brackets; the
processor time of a call on all cores, which says more on a machine that is not idle; and the
seconds of compilation. With --png it only draws the picture.
"""

import statistics
import time
from importlib.metadata import version

import jax
import numpy as np
import PIL.Image
import PIL.ImageDraw
from absl import flags

from benchmarks.measure import busy_cores, idle_note
from experiments import cli
from tl_jax.data import augment
from tl_jax.data.augment.base import Batch

_BATCH = flags.DEFINE_integer("batch", 32, "Images in a batch.", lower_bound=2)
_SIZE = flags.DEFINE_integer("size", 224, "Side of an image in pixels.", lower_bound=8)
_CHANNELS = flags.DEFINE_integer("channels", 3, "Channels of an image.", lower_bound=1)
_TURNS = flags.DEFINE_integer("turns", 15, "Number of measured calls.", lower_bound=1)
_ONLY = flags.DEFINE_string("only", "", "Only measure augmentations whose text contains this.")
_PNG = flags.DEFINE_string("png", "", "Save a contact sheet there instead.")

TOGETHER = ("crop+flip", "flip+crop", "flip+crop+jitter", "randaugment+erase(0.25)+mixup")


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    if _PNG.value:
        sheet().save(_PNG.value, optimize=True)
        return
    busy = busy_cores()
    columns = "augmentation", "ms a batch", "core-ms", "images/s", "compile, s"
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for text in (*augment.AUGMENTATIONS, *TOGETHER):
        if _ONLY.value in text:
            compiling, times, used = measured(text, _BATCH.value, _SIZE.value, _CHANNELS.value)
            middle = statistics.median(times)
            spread = f"{middle:.1f} ({min(times):.1f} to {max(times):.1f})"
            rate = f"{1e3 * _BATCH.value / middle:.0f}"
            print(f"| {text} | {spread} | {used:.1f} | {rate} | {compiling:.1f} |", flush=True)
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "dm-pix"))
    shape = f"{_BATCH.value} x {_SIZE.value} x {_SIZE.value} x {_CHANNELS.value}"
    print(f"{shape} uint8, {_TURNS.value} calls, {jax.default_backend()}; {versions}", end="")
    print(idle_note(busy))


def measured(text: str, batch: int, size: int, channels: int) -> tuple[float, list[float], float]:
    """Return seconds of compilation, milliseconds of each call, and median ms of processor time."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, size, size, channels), np.uint8)
    examples = batch_of(images)
    key, apply = jax.random.key(0), augment.make(text)
    started = time.perf_counter()
    program = jax.jit(apply).lower(key, examples).compile()
    compiling, times, used = time.perf_counter() - started, [], []
    for turn in range(_TURNS.value + 1):
        key = jax.random.fold_in(key, turn)
        started, used_before = time.perf_counter(), time.process_time()
        jax.block_until_ready(program(key, examples))
        if turn:  # the first call warms up
            times.append(1e3 * (time.perf_counter() - started))
            used.append(1e3 * (time.process_time() - used_before))
    return compiling, times, statistics.median(used)


def batch_of(images: np.ndarray) -> Batch:
    """Return a batch of these images, each with its own class."""
    weights, targets = np.ones(len(images), np.float32), np.eye(len(images), dtype=np.float32)
    return jax.device_put({"inputs": {"image": images}, "targets": targets, "weights": weights})


SHOWN = (
    "crop",
    "flip(0.5, 0.5)",
    "shift(16)",
    "jitter",
    "randaugment",
    "erase(1)",
    "mixup(1)",  # mixes visibly; training draws most shares near 0 or 1
    "cutmix",
)
TILE, SCALE, DRAWS, GAP, LABEL = 72, 2, 4, 3, 92  # pixels, except SCALE and DRAWS
CELLS = (0, 67)  # both are defective; the second is polycrystalline


def photos() -> tuple[np.ndarray, np.ndarray]:
    """Return two pairs of images (2, S, S, C) uint8: cells of ELPV, and scikit-learn's photos."""
    from sklearn.datasets import load_sample_image

    from tl_jax.data.tasks.elpv import elpv

    cells = [elpv(seed=0).open(number) for number in CELLS]
    images = [PIL.Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("flower", "china")]
    squares = [image.crop((106, 0, 533, 427)) for image in images]
    side = TILE * SCALE

    def stacked(pair: list[PIL.Image.Image]) -> np.ndarray:
        pixels = np.stack([np.asarray(image.resize((side, side))) for image in pair])
        return pixels.reshape(2, side, side, -1)

    return stacked(cells), stacked(squares)


def sheet() -> PIL.Image.Image:
    """Draw a row for each augmentation: a cell and a photo, each unchanged and in several draws."""
    pairs, step = photos(), TILE + GAP
    width = LABEL + 2 * (1 + DRAWS) * step + 3 * GAP
    page = PIL.Image.new("RGB", (width, GAP + len(SHOWN) * step), "white")
    for row, text in enumerate(SHOWN):
        top = GAP + row * step
        PIL.ImageDraw.Draw(page).text((GAP, top + TILE // 2 - 6), text, fill="#33373d")
        for number, pair in enumerate(pairs):
            for column, pixels in enumerate([pair[0], *drawn(text, pair)]):
                tile = PIL.Image.fromarray(pixels.squeeze()).convert("RGB").resize((TILE, TILE))
                left = LABEL + (number * (1 + DRAWS) + column) * step + number * 3 * GAP
                page.paste(tile, (left, top))
    return PIL.Image.fromarray(np.asarray(page) | 7)  # half the bytes, and white stays white


def drawn(text: str, pair: np.ndarray) -> list[np.ndarray]:
    """Return the first image of a pair, augmented several times.

    Mixtures draw a partner for each image, the other one or itself; draws where it mixes with
    itself are skipped.
    """
    apply, images = jax.jit(augment.make(text)), []
    for seed in range(100):
        batch = apply(jax.random.key(seed), batch_of(pair))
        mixes = not np.array_equal(batch["targets"], np.eye(2))
        if len(images) < DRAWS and (mixes or not text.startswith(("mixup", "cutmix"))):
            first = np.asarray(batch["inputs"]["image"][0])
            images.append(np.rint(first).astype(np.uint8))
    return images


if __name__ == "__main__":
    cli.run(main)
