"""Scenes composed of cut-out things on photographs, whose boxes are exact: "Cut, Paste and Learn",
Dwibedi et al. 2017, arXiv:1708.01642.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image

from tl_jax.data.boxes.truth import Box

SIDES = 0.2, 0.5  # of a thing's longer side, as shares of the scene's
COVERED = 0.2  # of the smaller of two boxes, at the most
TRIES = 20  # to find a place
LEAST = 0.5  # of a photograph's shorter side, that a scene shows


class Parts(NamedTuple):
    """What scenes are composed of."""

    classes: tuple[str, ...]
    things: Sequence[np.ndarray]  # (h, w, 4) each, uint8: RGB and how opaque
    labels: np.ndarray  # (T,) class of each thing
    grounds: Sequence[np.ndarray]  # (H, W, 3) each, uint8
    tinted: bool = False  # things have no colours of their own, and no mirror image


class Placed(NamedTuple):
    """A thing in a scene."""

    thing: int
    size: tuple[int, int]  # width and height, in pixels of the scene
    corner: tuple[int, int]  # left and upper edge
    mirrored: bool
    colour: tuple[int, ...]  # of a tinted thing


class Scene(NamedTuple):
    """Where everything is in a scene, a square of `side` pixels."""

    side: int
    ground: int
    window: tuple[int, int, int, int]  # of the photograph: left, upper, right and lower edge
    placed: tuple[Placed, ...]  # the last one on top

    def drawn(self, parts: Parts) -> PIL.Image.Image:
        """Return the picture."""
        bicubic = PIL.Image.Resampling.BICUBIC
        ground = PIL.Image.fromarray(parts.grounds[self.ground])
        picture = ground.resize((self.side,) * 2, bicubic, self.window)
        for one in self.placed:
            thing = sized(one, parts)
            picture.paste(thing, one.corner, thing)
        return picture

    def boxes(self, parts: Parts) -> list[Box]:
        """Return the box of each thing, whether or not another one covers a part of it: where it is
        at least half as opaque as it is anywhere. The area is that of these pixels.
        """
        found = []
        for one in self.placed:
            opaque = np.asarray(sized(one, parts))[..., 3].astype(int)
            solid = opaque >= max(1, opaque.max() / 2)
            (y1, y2), (x1, x2) = (np.flatnonzero(solid.any(axis))[[0, -1]] for axis in (1, 0))
            left, top = one.corner
            edges = float(left + x1), float(top + y1), float(left + x2 + 1), float(top + y2 + 1)
            found.append(Box(edges, int(parts.labels[one.thing]), area=float(solid.sum())))
        return found


def sized(one: Placed, parts: Parts) -> PIL.Image.Image:
    """Return a thing as it is in its scene, with how opaque it is."""
    pixels = parts.things[one.thing]
    if parts.tinted:
        pixels = np.concatenate([np.full_like(pixels[..., :3], one.colour), pixels[..., 3:]], -1)
    thing = PIL.Image.fromarray(pixels).resize(one.size, PIL.Image.Resampling.BICUBIC)
    return thing.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT) if one.mirrored else thing


def composed(
    parts: Parts,
    rng: np.random.Generator,
    *,
    side: int,
    most: int,
    things: np.ndarray,
    grounds: np.ndarray,
) -> Scene:
    """Return a scene of one to `most` of these things on one of these grounds, numbers of the
    parts. Classes are equally frequent, and so are the things of a class.
    """
    ground = int(rng.choice(grounds))
    window = _window(rng, parts.grounds[ground].shape)
    left, top, right, bottom = window
    bright = parts.grounds[ground][top:bottom, left:right].mean() > 127
    placed: list[Placed] = []
    for _ in range(rng.integers(1, most + 1)):
        label = rng.choice(np.unique(parts.labels[things]))
        thing = int(rng.choice(things[parts.labels[things] == label]))
        size = _size(rng, parts.things[thing].shape, side)
        colour = rng.integers(0, 96, 3) if bright else rng.integers(160, 256, 3)
        mirrored = bool(rng.random() < 0.5) and not parts.tinted
        for _ in range(TRIES):
            corner = rng.integers(0, side + 1 - np.array(size))
            one = Placed(thing, size, tuple(corner.tolist()), mirrored, tuple(colour.tolist()))
            if all(_covered(one, other) <= COVERED for other in placed):
                placed.append(one)
                break
    return Scene(side, ground, window, tuple(placed))


def _window(rng: np.random.Generator, shape: Sequence[int]) -> tuple[int, int, int, int]:
    """A random square of a photograph (H, W, 3)."""
    shorter = min(shape[:2])
    side = int(rng.integers(math.ceil(LEAST * shorter), shorter + 1))
    top, left = (int(rng.integers(0, length - side + 1)) for length in shape[:2])
    return left, top, left + side, top + side


def _size(rng: np.random.Generator, shape: Sequence[int], side: int) -> tuple[int, int]:
    """Width and height of a thing (h, w, 4) in a scene; the longer side's logarithm is uniform."""
    least, most = SIDES
    longer = side * least * (most / least) ** rng.random()
    width, height = (max(1, round(length * longer / max(shape[:2]))) for length in shape[1::-1])
    return width, height


def _covered(one: Placed, other: Placed) -> float:
    """The share of the smaller of two rectangles that is in both."""
    common = [
        max(0, min(a + m, b + n) - max(a, b))
        for a, m, b, n in zip(one.corner, one.size, other.corner, other.size, strict=True)
    ]
    return math.prod(common) / min(math.prod(one.size), math.prod(other.size))
