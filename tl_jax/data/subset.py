"""Some classes of a task, a task among more classes than its own, and one without its labels."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.data import splits
from tl_jax.data.task import Task
from tl_jax.errors import UserError, unknown


def group(classes: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return the classes of these names; UserError for an unknown one or fewer than two."""
    for name in names:
        if name not in classes:
            raise unknown("class", name, classes)
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise UserError(f"give at least two classes, each once; got {', '.join(names)!r}")
    return tuple(names)


def relabelled(task: Task, classes: Sequence[str]) -> Task:
    """Return the task with labels that are numbers of `classes`, which may be more than its own.

    UserError, with the near miss, for a class of the task that is not among them.
    """
    for name in task.classes:
        if name not in classes:
            raise unknown(f"class of {task.name!r}", name, classes)
    columns = np.array([classes.index(name) for name in task.classes], np.int32)
    truth = {name: columns[task.truth[name]] for name in ("labels", "graded_labels")}
    targets = np.zeros((len(task.ids), len(classes)), np.float32)
    targets[:, columns] = task.truth["targets"]
    return dataclasses.replace(task.with_truth(targets=targets, **truth), classes=tuple(classes))


def without_labels(task: Task) -> Task:
    """Return the task's inputs alone, of which nothing is true."""
    return dataclasses.replace(task, name=f"{task.name} without labels", classes=(), truth={})


def left_out(task: Task) -> Task:
    """Return the task without labels, which trains on all examples outside val and test.

    Those are its training examples, and what a label budget left out of train and of val.
    """
    judging = np.concatenate([task.splits["val"], task.splits["test"]])
    rows = np.setdiff1d(np.arange(len(task.ids)), judging)
    splits = {"train": rows, "val": rows[:0], "test": rows[:0]}
    return dataclasses.replace(without_labels(task), splits=splits)


class ClassSubset(NamedTuple):
    """Some classes of a task, as a task of their own that shares its examples."""

    task: Task
    classes: tuple[str, ...]

    @property
    def class_numbers(self) -> np.ndarray:
        """The number of each of the task's classes in the subset, or -1: (C,) int32."""
        order = {name: number for number, name in enumerate(self.classes)}
        return np.array([order.get(name, -1) for name in self.task.classes], np.int32)

    def rows(self, split: str, *, per_class: int = 0, seed: int = 0) -> np.ndarray:
        """Return the split's examples (n,) of these classes, `per_class` of each (0: all)."""
        rows = self.task.splits[split]
        rows = rows[self.class_numbers[self.task.labels[rows]] >= 0]
        if per_class:
            names = np.array(self.task.classes)[self.task.labels[rows]]
            rows = rows[splits.budget(np.arange(len(rows)), names, per_class=per_class, seed=seed)]
        return rows

    def alone(self, *, per_class: int = 0, seed: int = 0) -> Task:
        """Return the subset as a `Task`, without the other examples.

        A budget cuts only train: the study's trainings keep their last weights, so no label of val
        chooses anything.
        """
        members = np.flatnonzero(self.class_numbers[self.task.labels] >= 0)
        columns = [self.task.classes.index(name) for name in self.classes]
        rows_of = {name: self.rows(name) for name in self.task.splits}
        rows_of["train"] = self.rows("train", per_class=per_class, seed=seed)
        truth = {name: array[members] for name, array in self.task.truth.items()}
        truth["targets"] = truth["targets"][:, columns]
        for name in ("labels", "graded_labels"):
            truth[name] = self.class_numbers[truth[name]]
        digest = hashlib.sha256(repr((self.task.fingerprint, self.classes)).encode()).hexdigest()
        return dataclasses.replace(
            self.task,
            classes=self.classes,
            ids=tuple(self.task.ids[i] for i in members),
            open=self.task.open and (lambda index: self.task.image(int(members[index]))),
            wholes=tuple(self.task.wholes[i] for i in members) if self.task.wholes else (),
            groups=tuple(self.task.groups[i] for i in members) if self.task.groups else (),
            texts=tuple(self.task.texts[int(i)] for i in members) if self.task.texts else (),
            truth=truth,
            further={n: t._replace(rows=t.rows[members]) for n, t in self.task.further.items()},
            arrays={name: array[members] for name, array in self.task.arrays.items()},
            splits={name: np.searchsorted(members, rows) for name, rows in rows_of.items()},
            fingerprint=digest,
        )
