"""Labels that an example's annotations give, where a dataset has no such class of its own."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

VEHICLES = 3  # the first types of KITTI's objects: car, van, truck
NO_VEHICLE = 1000.0  # metres


class Derived(NamedTuple):
    """A class for each example, computed from one of its features."""

    feature: str
    classes: tuple[str, ...]
    number: Callable[[Any], int]  # the feature of one example -> the number of its class


def _bin(value: float, edges: tuple[float, ...]) -> int:
    """The number of the last of the ascending edges that lies below the value."""
    return int(np.searchsorted(edges, value)) - 1


def _closest_object(objects: Mapping[str, Any]) -> int:
    distances = np.asarray(objects["pixel_coords"])[:, 2]
    return _bin(distances.min(), (0.0, 8.0, 8.5, 9.0, 9.5, 10.0))


def _closest_vehicle(objects: Mapping[str, Any]) -> int:
    ahead = np.asarray(objects["location"], float).reshape(-1, 3)[:, 2]
    distances = ahead[np.asarray(objects["type"]) < VEHICLES]
    return _bin(distances.min(initial=NO_VEHICLE), (-100.0, 8.0, 20.0, 999.0))


# By the name that stands for a label, those of VTAB (Zhai et al. 2019, arXiv:1910.04867, and its
# code, google-research/task_adaptation): CLEVR's number of objects and distance to the closest one,
# KITTI's distance to the closest vehicle, dSprites' positions and orientations in 16 groups.
LABELS = {
    "clevr_count": Derived(
        "objects", tuple(map(str, range(3, 11))), lambda objects: len(objects["size"]) - 3
    ),
    "clevr_distance": Derived(
        "objects", ("to 8", "to 8.5", "to 9", "to 9.5", "to 10", "above 10"), _closest_object
    ),
    "kitti_distance": Derived(
        "objects", ("to 8 m", "to 20 m", "above 20 m", "no vehicle"), _closest_vehicle
    ),
    "dsprites_location": Derived(
        "label_x_position", tuple(map(str, range(16))), lambda position: int(position) * 16 // 32
    ),
    "dsprites_orientation": Derived(
        "label_orientation", tuple(map(str, range(16))), lambda turn: int(turn) * 16 // 40
    ),
}
