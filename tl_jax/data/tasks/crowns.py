"""Crowns of trees in aerial photographs, with their boxes: Weinstein et al. 2020, "DeepForest",
Methods in Ecology and Evolution 11, 1743-1751, whose package ships three marked sites of the US
National Ecological Observatory Network.
"""

import dataclasses
from pathlib import Path

import numpy as np

from tl_jax.data.boxes import voc
from tl_jax.data.boxes.pictures import Picture, task_of
from tl_jax.data.boxes.splits import divided
from tl_jax.data.packaged import PYPI, fetched
from tl_jax.data.task import Task
from tl_jax.data.tiles import tiled

PACKAGE = (
    *(PYPI, "deepforest", "1.3.3"),
    "32487ec6047bd8f2fbe181826f749a6ba4496d88e647f604bc91bc2664813425",
)
TILE = 400  # pixels, as the authors cut them; 40 m


def tree_crowns(*, seed: int, val: float, test: float, labelled: int) -> Task:
    """Return the task of tiles of four photographs, in which every crown is a "tree".

    Whole regions of about two tiles by two are in one split, because tiles at an edge overlap, and
    neighbours show the same wood.
    """
    root = fetched(*PACKAGE, member="deepforest-1.3.3/deepforest/data")
    pictures, _ = voc.read(root)
    trees = {image: _of_trees(one) for image, one in pictures.items()}
    options = {"seed": seed, "val": val, "test": test}
    how = {"on_unreadable": "stop", "duplicates": "keep", "large": True}
    tiles = tiled(task_of("tree_crowns", root, trees, ("tree",), **options, **how), TILE)
    regions = regions_of(tiles.ids)
    splits = divided(tiles.truth, 1, groups=regions, labelled=labelled, **options)
    return dataclasses.replace(tiles, groups=tuple(regions), splits=splits)


def _of_trees(one: Picture) -> Picture:
    """The same boxes, be the tree dead or alive, which one of the photographs says."""
    return one._replace(boxes=[box._replace(label=0) for box in one.boxes])


def regions_of(ids: tuple[str, ...]) -> list[str]:
    """Return the region of each tile (`tiles.tiled`): two rows by two columns of tiles, or three
    where an image ends.
    """
    names, corners = zip(*(id_.rsplit("#", 1) for id_ in ids), strict=True)
    places = np.array([corner.split(",") for corner in corners], int)
    regions = np.zeros_like(places)
    for name in set(names):
        own = np.array(names) == name
        for axis in (0, 1):
            steps, number = np.unique(places[own, axis], return_inverse=True)
            regions[own, axis] = np.minimum(number // 2, max(0, len(steps) // 2 - 1))
    return [f"{Path(name).stem} {x},{y}" for name, (x, y) in zip(names, regions, strict=True)]
