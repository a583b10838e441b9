"""Images without labels, from which a self-supervised objective learns."""

import dataclasses
import os

import numpy as np

from tl_jax.data.files import path_of
from tl_jax.data.splits import complete
from tl_jax.data.task import Task
from tl_jax.data.tasks.folder import gallery, tell_skipped
from tl_jax.errors import UserError


def images(
    path: str | os.PathLike, *, seed: int, val: float = 0.1, test: float = 0.1, large: bool = False
) -> Task:
    """A task of all images below a folder, however they lie there, split at random.

    Files that cannot be decoded are left out and listed in `Task.skipped`. `large`: see `folder`.
    """
    found, root = gallery(path, large=large), path_of(path)
    count = len(found.ids)
    tell_skipped(root, found.skipped, count + len(found.skipped))
    if count < 3:
        raise UserError(f"{str(root)!r} has {count} images, and three splits need three")
    everything = {"train": np.arange(count)}
    splits = complete(everything, np.zeros(count, int), seed=seed, val=val, test=test)
    place = str(root.absolute())
    return dataclasses.replace(found, classes=(), truth={}, splits=splits, folder=place)
