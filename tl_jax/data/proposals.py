"""Boxes that may be objects, found without training: what a detector of given proposals reads."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax import registry
from tl_jax.errors import UserError, takes, takes_whole

MOST = 2000  # boxes of an image that are kept, of however many are found


class Finder(NamedTuple):
    """How boxes that may be objects are found."""

    find: Callable[[np.ndarray], np.ndarray]  # image (S, S, 3) uint8 -> boxes (P, 4) in pixels
    most: int  # that it finds in an image
    version: Callable[[], str]  # of what finds them: another may find others


def selective_search(most: int = 300, mode: str = "fast", least: int = 4) -> Finder:
    """Regions of similar colour and texture, merged greedily (Uijlings et al. 2013,
    doi:10.1007/s11263-013-0620-5), as OpenCV has it; `mode` is "fast" or "quality". Boxes with a
    side below `least` pixels are left out.

    Of these the first `most`, in the order of their rank by area times a number that is drawn
    (section 4.4, where the rank is that in the hierarchy): OpenCV's own order changes from call to
    call.

    UserError without the package opencv-contrib-python-headless.
    """
    takes_whole(most, "selective_search: most", 1, MOST)
    takes_whole(least, "selective_search: least", 1, 1000)
    takes(mode in ("fast", "quality"), "selective_search: mode", "fast or quality", mode)

    def find(image: np.ndarray) -> np.ndarray:
        cv2 = _opencv()
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(np.ascontiguousarray(image[..., ::-1]))
        if mode == "fast":
            search.switchToSelectiveSearchFast()
        else:
            search.switchToSelectiveSearchQuality()
        found = np.asarray(search.process(), np.float32).reshape(-1, 4)  # x, y, width, height
        found = np.unique(found[(found[:, 2:] >= least).all(1)], axis=0)
        rank = np.argsort(np.argsort(-found[:, 2] * found[:, 3], kind="stable"))
        drawn = np.random.default_rng(0).random(len(found))
        found = found[np.argsort((rank + 1) * drawn, kind="stable")][:most]
        return np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], 1)

    return Finder(find, most, lambda: _opencv().__version__)


def windows(
    sides: Sequence[float] = (0.1, 0.2, 0.4, 0.8), ratios: Sequence[float] = (0.5, 1, 2)
) -> Finder:
    """The same boxes of every image: `sides` (roots of the area, as shares of the image's side) in
    `ratios` of width to height, each every half side.
    """
    for name, values in (("sides", sides), ("ratios", ratios)):
        several = isinstance(values, list | tuple) and len(values) > 0
        fits = several and all(isinstance(v, int | float) and 0.01 <= v <= 10 for v in values)
        takes(fits, f"windows: {name}", "a list of numbers from 0.01 to 10", values)
    found = []
    for side, ratio in itertools.product(sides, ratios):
        width, height = np.minimum(1, [side * ratio**0.5, side / ratio**0.5])
        lefts, tops = _starts(width, side), _starts(height, side)
        found += [(x, y, x + width, y + height) for y, x in itertools.product(tops, lefts)]
        takes(len(found) <= MOST, "windows", f"at most {MOST} boxes an image", len(found))
    shares = np.array(found, np.float32)
    return Finder(lambda image: shares * len(image), len(shares), lambda: "")


PROPOSALS: dict[str, Callable[..., Finder]] = {
    f.__name__: f for f in (selective_search, windows)
}


def make(spec: str) -> Finder:
    """The finder that "selective_search(most=300)" says; UserError for a name or an option that
    there is not.
    """
    function, options = registry.chosen("proposals", spec, PROPOSALS)
    return function(**options)


def found_in(images: np.ndarray, finder: Finder) -> np.ndarray:
    """The boxes (N, P, 4) of images (N, S, S, 3), in shares of their side; P = `most`, and rows of
    0 are none.
    """
    rows = np.zeros((len(images), finder.most, 4), np.float32)
    for own, image in zip(rows, images, strict=True):
        boxes = finder.find(image)
        own[: len(boxes)] = boxes / len(image)
    return rows


def _starts(length: float, side: float) -> np.ndarray:
    """Where windows of this length begin, from edge to edge."""
    return np.linspace(0, 1 - length, max(1, round((1 - length) / (side / 2)) + 1))


def _opencv() -> Any:
    """OpenCV with its contributed modules; UserError if it is not installed."""
    try:
        import cv2

        cv2.ximgproc.segmentation  # noqa: B018 (the plain package lacks it)
    except (ImportError, AttributeError):
        raise UserError(
            "selective search needs OpenCV's contributed modules: pip install 'tl_jax[detection]', "
            "or take windows as proposals"
        ) from None
    return cv2
