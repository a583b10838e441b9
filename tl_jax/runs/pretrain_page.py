"""The page of a pretraining: how it learned, whether features collapsed, who is near whom."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tl_jax.base.base import Base
from tl_jax.data.images import seen
from tl_jax.data.task import Task
from tl_jax.report import html, pictures, plots, study
from tl_jax.report.study import Picture, Section, Table

SIDE = 72  # pixels of an image
NAMES = {"spread": "spread", "rank": "effective rank", "knn": "accuracy of 20 neighbours"}


def write(
    workdir: pathlib.Path,
    result: dict[str, Any],
    *,
    base: Base,
    task: Task,
    neighbours: Sequence[Sequence[int]],
) -> pathlib.Path:
    """Write report.html and its files from a result of `tl_jax.runs.pretrain`; return the page.

    `neighbours`: rows of example numbers, an image and those nearest to it.
    """
    before, after = result["before"], result["after"]
    lead = (
        f"{result['config']['objective']} has trained {base.name} on {task.name}, without labels. "
    )
    if "knn" in after:
        lead += (
            f"The 20 nearest training images tell the class of {100 * after['knn']:.1f} % of the "
            f"images that it has not seen; with the first weights, of {100 * before['knn']:.1f} %. "
        )
    lead += (
        f"But {result['collapsed']}." if result["collapsed"] else "The features have not collapsed."
    )
    counts = ", ".join(f"{n:,} of {split}" for split, n in result["task"]["images"].items())
    return study.write(
        workdir,
        title=f"Features of {task.name} without labels",
        lead=lead,
        sections=[_learning(result), _collapse(result), _nearest(base, task, neighbours)],
        facts={
            "base": base.name,
            "begun from": result["base"]["weights"],
            "features": base.layers[-1],
            "objective": result["config"]["objective"],
            "images": counts,
        },
        result=result,
    )


def _phases(result: dict[str, Any]) -> list[dict]:
    last = result["history"][-1]
    return [{"name": last["phase"], "best_epoch": last["epoch"]}]


def _learning(result: dict[str, Any]) -> Section:
    history = result["history"]
    shown = [
        Picture(f"curve_{series[0][0]}", title, plots.curves(history, _phases(result), series))
        for title, series in plots.panels(history)
        if series[0][0].startswith("train") and series[0][0] != "train_spread"
    ]
    columns = [c for c in history[0] if c.startswith(("train_", "val_")) and c != "train_seconds"]
    rows = [(row["epoch"], *(row[column] for column in columns)) for row in history]
    table = Table("epochs", "Epochs", ("epoch", *columns), rows)
    text = (
        "Every term of the loss by epoch. A loss that falls says that the pretext task is being "
        "learnt, not that the features are good. The last epoch is kept: nothing that is known "
        "without labels says which is best."
    )
    return Section("How it learned", text, tuple(shown), (table,))


def _collapse(result: dict[str, Any]) -> Section:
    text = (
        "Features that are the same for all images satisfy most objectives that compare views. "
        "Spread is the mean deviation of unit vectors times the root of their dimension: 1 where "
        "they point everywhere, 0 where all are the same; embeddings, which the loss compares, "
        "collapse first. Effective rank counts the directions in which features vary (Roy & "
        "Vetterli 2007). The accuracy of the 20 nearest training images, by cosine, reads labels, "
        "and chooses nothing."
    )
    history = result["history"]
    pictures_ = tuple(
        Picture(
            f"curve_{name}",
            title,
            plots.curves(history, _phases(result), _series(name, history[0])),
        )
        for name, title in NAMES.items()
        if f"val_{name}" in history[0]
    )
    rows = [
        (title, result["before"][name], result["after"][name])
        for name, title in NAMES.items()
        if name in result["after"]
    ]
    columns = ("of features", "first weights", "last weights")
    return Section(
        "Did it collapse?",
        text,
        pictures_,
        (Table("features", "Features of validation images", columns, rows),),
    )


def _series(name: str, row: dict) -> tuple[tuple[str, str, str], ...]:
    found = (
        (f"val_{name}", "features", plots.BLUE),
        (f"train_{name}", "embeddings, of a training batch", plots.ORANGE),
    )
    return tuple(series for series in found if series[0] in row)


def _nearest(base: Base, task: Task, neighbours: Sequence[Sequence[int]]) -> Section:
    expects = base.of_images

    def fitted(example: int) -> np.ndarray:
        return np.asarray(seen(expects.fit(task.image(example))).convert("RGB"))

    tiles = [pictures.enlarged(fitted(example), SIDE) for row in neighbours for example in row]
    sheet = pictures.grid(tiles, columns=len(neighbours[0]))
    text = (
        "The first of each row is a validation image; beside it are the training images whose "
        "features have the largest cosines with its own, the nearest first."
    )
    caption = f"Nearest training images at {base.layers[-1]}"
    return Section("Nearest neighbours", text, (Picture("neighbours", caption, html.png(sheet)),))
