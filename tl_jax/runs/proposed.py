"""A task's examples with boxes that may be objects, found once and kept."""

import dataclasses
import os

import numpy as np

from tl_jax import progress
from tl_jax.chain.detectors import PROPOSALS
from tl_jax.data import proposals
from tl_jax.data.files import path_of
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.data.task import Task
from tl_jax.engine import prefix, store
from tl_jax.engine.store import Store


def with_proposals(
    task: Task, preprocessing: Preprocessing, spec: str, *, cache: str | os.PathLike | None
) -> Task:
    """Return the task with the input `PROPOSALS` (N, P, 4), in shares of the prepared image's side.

    `spec` says how they are found (`tl_jax.data.proposals`). What is found is kept in the folder
    `cache`, by the images' content, `spec` and the version of what finds them.
    """
    finder, folder = proposals.make(spec), path_of(cache) if cache else None
    if folder is None:
        inputs = prefix.decoded(task, preprocessing)
    else:
        inputs = prefix.pixels(task, preprocessing, cache=folder)

    def compute(first: int, last: int) -> np.ndarray:
        return proposals.found_in(inputs.images(np.arange(first, last)), finder)

    count = len(task.ids)
    if folder is None:
        blocks = range(0, count, store.BLOCK)
        parts = progress.over(blocks, "propose", total=len(blocks), unit="blocks")
        rows = np.concatenate([compute(i, min(i + store.BLOCK, count)) for i in parts])
    else:
        how = spec, str(finder.most), finder.version()
        key = prefix.cache_key("proposals", inputs.key, *how)
        kept = Store(folder / key, (count, finder.most, 4), np.float32, f"proposals of {spec}")
        rows = store.build(kept, compute, progress=prefix.bar("propose"))
    most = max(1, int((rows[..., 2] > rows[..., 0]).sum(1).max()))
    arrays = {**task.arrays, PROPOSALS: np.array(rows[:, :most])}
    return dataclasses.replace(task, arrays=arrays)
