"""A task: a dataset made ready for transfer."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.data.images import Image
from tl_jax.errors import UserError

SPLITS = ("train", "val", "test")
# What a task may ask of an example (`Task.asks`), in words
WHAT = {
    "classes": "one class",
    "labels": "any of several labels",
    "numbers": "numbers",
    "boxes": "boxes",
    "captions": "captions",
}


class Truth(NamedTuple):
    """A further classification of a task's N examples."""

    classes: tuple[str, ...]
    rows: np.ndarray  # (N, C) float32: targets times their weight; zeros where there is no label


@dataclasses.dataclass(frozen=True)
class Task:
    """N examples, split into `train`, `val` and `test`: what goes in, and what is true of it.

    Of a classification, what the loss is trained on (`targets`, `weights`) and what is measured
    (`labels`; and for confidence-weighted accuracy `graded_labels`, `graded_weights`) are separate:
    raters' doubt can enter either.
    """

    name: str
    ids: tuple[str, ...]  # (N,) file name or row of each example
    splits: Mapping[str, np.ndarray]  # "train" / "val" / "test": sorted int64 indices, disjoint
    fingerprint: str  # hash of the N inputs and ids, for caches of what is computed of them
    # Arrays (N, ...). Of a classification: "labels" (N,) int32, what accuracy, F1 and AUC count;
    # "targets" (N, C) float32, rows that sum to 1, what the loss is trained towards, weighted by
    # "weights" (N,) float32; "graded_labels" (N,) int32, what weighted accuracy counts, weighted by
    # "graded_weights" (N,) float32
    truth: Mapping[str, np.ndarray]
    classes: tuple[str, ...] = ()  # or the names of labels or of numbers
    # What is asked of an example: "classes", one of them; "labels", any of them, whose "targets"
    # (N, C) are 1, 0 or, where nobody knows, NaN; "numbers" (N, D), or NaN. These two have
    # "targets" and "weights" alone. "boxes": a class for each of several rectangles, with the truth
    # of `tl_jax.data.boxes.truth` instead. "captions": "words" (N, K, T), numbers of the words of K
    # captions, where classes are the words, and "same" (N, K), equal for captions that are equal
    asks: str = "classes"
    # Further classifications, by name; those asked for have their rows in `truth` too
    # (`tl_jax.data.truths`)
    further: Mapping[str, Truth] = dataclasses.field(default_factory=dict)
    # example index -> image; thread-safe; None for a task without images
    open: Callable[[int], Image] | None = None
    texts: Sequence[str] = ()  # (N,) what was written, of a task of texts
    captions: Sequence[tuple[str, ...]] = ()  # (N,) what was written of each image
    # all other inputs, (N, ...) each
    arrays: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    channels: int = 3  # bands of every image: 1 where each is grey, 3 where some are in colour
    # levels of 16 bits a band that `open` makes 0 to 255; None: all
    grey_range: tuple[int, int] | None = None
    ordered: bool = False  # examples are parts of one stream: batches take them in order, in lanes
    # (N,) what must stay in one split, such as an example's patient; empty: nothing
    groups: tuple[str, ...] = ()
    folder: str = ""  # in which the images lie, and nothing else may be written
    skipped: tuple[str, ...] = ()  # files left out because they cannot be read
    tile: int = 0  # side of the tiles that the examples are, in pixels; 0: whole images
    wholes: tuple[str, ...] = ()  # (N,) of tiles: the image that each is cut out of
    published: tuple[dict, ...] = ()  # {"what", "metric", "figure", "source"}: others' results

    def __post_init__(self):
        if missing := [split for split in SPLITS if split not in self.splits]:
            raise UserError(f"the task {self.name!r} has no split {' and no '.join(missing)}")
        for name, array in self.truth.items():
            if len(array) != len(self.ids):
                raise UserError(
                    f"the task {self.name!r} has {len(self.ids)} examples, and {len(array)} rows "
                    f"of {name!r}"
                )

    def __getattr__(self, name: str) -> Any:
        # `task.labels` is `task.truth["labels"]`.
        own = self.__dict__
        if name in ("labels", "graded_labels", "graded_weights") and "asks" in own:
            self.require_classes()
        if name.startswith("_") or name not in (truth := own.get("truth", {})):
            raise AttributeError(f"task {own.get('name')!r} has no {name!r}")
        return truth[name]

    def require_classes(self) -> None:
        """UserError for a task that asks for something else than one class an example."""
        if self.asks != "classes":
            raise UserError(
                f"the task {self.name!r} asks for {WHAT[self.asks]}, and this is for tasks that "
                f"ask for {WHAT['classes']}"
            )

    def image(self, index: int) -> Image:
        """The example's image; UserError for a task without images."""
        if self.open is None:
            has = "texts and no" if self.texts else "no"
            raise UserError(f"the task {self.name!r} has {has} images")
        return self.open(index)

    def with_truth(self, **arrays: np.ndarray) -> "Task":
        """The task with some of its truth replaced, (N, ...) each."""
        return dataclasses.replace(self, truth={**self.truth, **arrays})
