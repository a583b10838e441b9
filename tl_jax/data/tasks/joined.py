"""Several tasks as one, in which each is a class: dogs against flowers."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tl_jax.data.images import common_bands
from tl_jax.data.splits import divide
from tl_jax.data.task import SPLITS, Task
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.errors import UserError


def parts(tasks: str) -> list[str]:
    """The names that 'tfds:stanford_dogs+tfds:tf_flowers' joins; UserError for fewer than two."""
    names = [name.strip() for name in tasks.split("+")]
    if len(names) < 2 or "" in names or len(set(names)) < len(names):
        raise UserError(f"joined takes two or more tasks, as in 'one+other'; got {tasks!r}")
    return names


def joined(
    tasks: str,
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    data_dir: str | os.PathLike | None = None,
) -> Task:
    """Tasks of images joined by '+', each of them a class of its own name.

    Each keeps its own splits. `data_dir` is that of the parts which are TFDS datasets.
    """
    from tl_jax.data.tasks import load_task  # which loads this module

    options: dict[str, Any] = {"seed": seed, "val": val, "test": test}
    where: dict[str, Any] = {"data_dir": data_dir} if data_dir else {}
    loaded = [
        load_task(name, **options, **(where if name.startswith("tfds:") else {}))
        for name in parts(tasks)
    ]
    if texts := [task.name for task in loaded if task.open is None]:
        raise UserError(f"joined takes tasks of images; {texts[0]!r} has none")
    if wide := [task.name for task in loaded if task.grey_range]:
        raise UserError(f"joined takes images of 8 bits; {wide[0]!r} has 16")
    return _joined(loaded, options | {"per_class": per_class})


def _joined(loaded: Sequence[Task], options: dict[str, Any]) -> Task:
    sizes = [len(task.ids) for task in loaded]
    starts = np.cumsum([0, *sizes])
    labels = np.repeat(np.arange(len(loaded)), sizes)
    classes = tuple(task.name for task in loaded)
    given = {
        split: np.concatenate([s + t.splits[split] for s, t in zip(starts, loaded, strict=False)])
        for split in SPLITS
    }

    def open_row(index: int):
        return loaded[labels[index]].image(int(index - starts[labels[index]]))

    digest = hashlib.sha256(repr([task.fingerprint for task in loaded]).encode()).hexdigest()
    return Task(
        name=" and ".join(classes),
        classes=classes,
        ids=tuple(f"{task.name}/{name}" for task in loaded for name in task.ids),
        open=open_row,
        truth=unweighted(labels, len(classes)),
        splits=divide(given, np.array(classes)[labels], **options),
        fingerprint=digest,
        channels=common_bands({task.name: task.channels for task in loaded}),
    )
