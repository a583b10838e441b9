"""Rankings as lines and as a contact sheet, and their quality as a table for the terminal."""

import pathlib
from collections.abc import Mapping, Sequence

import PIL.Image

from tl_jax.data.images import Image
from tl_jax.data.task import Task
from tl_jax.measure.retrieval import Quality
from tl_jax.report import pictures
from tl_jax.report.text import visible
from tl_jax.studies.search import AT

Ranking = Sequence[tuple[int, float]]  # indices and similarities, best first
SHOWN = 200  # characters of a text


def lines(ranking: Ranking, task: Task, gallery: str) -> str:
    """Return a line with similarity and file for each image, with the beginning of each text."""

    def cells(i: int) -> tuple[str, ...]:
        if task.texts:
            return task.ids[i], " ".join(task.texts[i].split())[:SHOWN]
        return (str(pathlib.Path(gallery) / task.ids[i]),)

    return "\n".join("\t".join([f"{x:.4f}", *map(visible, cells(i))]) for i, x in ranking)


def sheet(query: Image, ranking: Ranking, images: Task) -> PIL.Image.Image:
    """Draw the query beside the images of the ranking."""
    labels = [f"{n}   {x:.3f}\n{visible(images.ids[i])}" for n, (i, x) in enumerate(ranking, 1)]
    return pictures.contact_sheet(query, [images.image(i) for i, _ in ranking], labels)


def table(by_layer: Mapping[str, tuple[int, Quality]]) -> str:
    """Return a line for each layer: features, mean average precision, recall."""
    recalls = "".join(f"{f'recall@{k}':>11}" for k in AT)
    rows = [f"{'layer':<20}{'features':>9}{'mAP':>9}{recalls}"]
    for layer, (count, quality) in by_layer.items():
        recalls = "".join(f"{100 * x:9.1f} %" for x in quality.recall.values())
        rows.append(f"{layer:<20}{count:>9}{100 * quality.average_precision:7.1f} %{recalls}")
    return "\n".join(rows)
