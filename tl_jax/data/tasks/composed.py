"""Tasks of boxes in composed scenes: digits, or stamps of a drawing program, on photographs."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import PIL.Image

from tl_jax import registry
from tl_jax.data.boxes.scenes import Parts, Scene
from tl_jax.data.boxes.scenes import composed as compose
from tl_jax.data.boxes.splits import within_budget
from tl_jax.data.boxes.truth import padded
from tl_jax.data.packaged import DEBIAN, fetched
from tl_jax.data.splits import complete
from tl_jax.data.task import Task
from tl_jax.errors import takes_whole, unknown

COUNT, SIDE, THINGS = 100_000, (32, 1024), 50  # at the most
LARGEST = 256  # pixels of a stamp's longer side
STAMPS = (
    *(DEBIAN, "tuxpaint-stamps-default", "2022.06.04-1"),
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
)
PHOTOS = (
    *(DEBIAN, "tuxpaint-data", "1:0.9.28-sdl2-1"),
    "f5d0de8f9a70d2efc1241d19f26168cb8bf279f1b77abd3631e7a1a55c40e5e5",
)
# Those that have both photographs and drawings
CLASSES = ("animals", "food", "town", "vehicles")


def composed(
    objects: str,
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    labelled: int = 0,
    count: int = 600,
    size: int = 160,
    most: int = 3,
    style: str = "",
) -> Task:
    """Square scenes of `size` pixels, each with one to `most` things on a photograph, and their
    boxes. `objects`: one of `SOURCES`.

    "digits" are handwritten ones, on regions of two photographs, all of which scikit-learn ships.
    "stamps" are things of four classes out of Tux Paint, on its photographs; `style` "photo", the
    default, or "drawing". The things and the photographs of test, or regions of these, are in no
    other split, and those of val not in train; of "digits" the regions of all splits are of the
    same two photographs. `seed` draws splits and scenes. `labelled`: how many scenes to train
    on, 0: all; `val` is cut in proportion.
    """
    takes_whole(count, "count=", 3, COUNT)
    takes_whole(size, "size=", *SIDE)
    takes_whole(most, "most=", 1, THINGS)
    if objects not in SOURCES:
        raise unknown("objects of the task 'composed'", objects, SOURCES)
    source, given = SOURCES[objects], {"style": style} if style else {}
    registry.require_options(f"task 'composed:{objects}'", given, registry.parameters(source))
    parts, shares = source(**given), {"seed": seed, "val": val, "test": test}
    splits = _divided(np.zeros(count, int), **shares)
    scenes = scenes_of(parts, splits, side=size, most=most, **shares)
    ids = tuple(map(str, range(count)))
    drawn = repr((PIL.__version__, scenes))
    return Task(
        name=f"composed_{objects}",
        asks="boxes",
        classes=parts.classes,
        ids=ids,
        open=lambda number: scenes[int(number)].drawn(parts),
        truth=padded(
            [scene.boxes(parts) for scene in scenes], np.full((count, 2), size), ids, most
        ),
        splits=within_budget(splits, labelled, seed=seed),
        fingerprint=hashlib.sha256((_content(parts) + drawn).encode()).hexdigest(),
    )


def scenes_of(
    parts: Parts,
    splits: Mapping[str, np.ndarray],
    *,
    seed: int,
    side: int,
    most: int,
    **shares: float,
) -> list[Scene]:
    """Return a scene for each number in the splits, composed of what is in its split alone: of
    things and of photographs each split has its share, `val` and `test`.
    """
    things = _divided(parts.labels, seed=seed, **shares)
    grounds = _divided(np.zeros(len(parts.grounds), int), seed=seed, **shares)
    found = {
        number: compose(
            parts,
            np.random.default_rng([seed, number]),
            side=side,
            most=most,
            things=things[split],
            grounds=grounds[split],
        )
        for split, numbers in splits.items()
        for number in numbers.tolist()
    }
    return [found[number] for number in sorted(found)]


def _divided(strata: np.ndarray, **shares) -> dict[str, np.ndarray]:
    return complete({"train": np.arange(len(strata))}, strata, **shares)


def _content(parts: Parts) -> str:
    """A hash of the parts."""
    whole = hashlib.sha256()
    for array in (*parts.things, *parts.grounds):
        whole.update(repr(array.shape).encode() + array.tobytes())
    return whole.hexdigest()


@functools.lru_cache(maxsize=1)
def digits() -> Parts:
    """Return digits, opaque where they are dark, and regions of two photographs."""
    from sklearn import datasets  # seconds to import

    loaded: Any = datasets.load_digits(return_X_y=True)
    pixels, labels = loaded
    opaque = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    things = [_cut(np.stack([one] * 4, -1)) for one in opaque]
    grounds = [
        region
        for photograph in datasets.load_sample_images().images
        for strip in np.array_split(photograph, 2)
        for region in np.array_split(strip, 3, axis=1)
    ]
    return Parts(tuple("0123456789"), things, labels, grounds, tinted=True)


@functools.lru_cache(maxsize=2)
def stamps(style: str = "photo") -> Parts:
    """Return the stamps of `CLASSES`, and photographs."""
    if style not in ("photo", "drawing"):
        raise unknown("style", style, ("photo", "drawing"))
    root = fetched(*STAMPS, member="usr/share/tuxpaint/stamps")
    photographs = fetched(*PHOTOS, member="usr/share/tuxpaint/templates")
    found = [
        (label, _cut(_opened(path, "RGBA")))
        for label, name in enumerate(CLASSES)
        for path in _stamps(root / name, style)
    ]
    labels, things = zip(*found, strict=True)
    grounds = [_opened(path, "RGB") for path in sorted(photographs.glob("*.jpg"))]
    return Parts(CLASSES, things, np.array(labels), grounds)


def _stamps(folder: Path, style: str) -> Iterator[Path]:
    """Drawings are in folders of their own."""
    for path in sorted(folder.rglob("*.png")):
        if ("cartoon" in path.relative_to(folder).parts) == (style == "drawing"):
            yield path


def _opened(path: Path, mode: str) -> np.ndarray:
    """A file of a package whose checksum is known."""
    with PIL.Image.open(path) as image:
        whole = image.convert(mode)
    if mode == "RGBA":
        whole.thumbnail((LARGEST, LARGEST), PIL.Image.Resampling.LANCZOS)
    return np.asarray(whole)


def _cut(thing: np.ndarray) -> np.ndarray:
    """A thing (h, w, 4) without the transparent edges around it."""
    rows, columns = ((np.flatnonzero(thing[..., 3].any(axis))) for axis in (1, 0))
    return np.ascontiguousarray(thing[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


SOURCES: dict[str, Callable[..., Parts]] = {"digits": digits, "stamps": stamps}
