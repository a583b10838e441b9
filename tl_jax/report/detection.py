"""The page of a detector: average precision, curves, what its errors cost, and the worst images."""

import itertools
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tl_jax.data.task import Task
from tl_jax.errors import UserError
from tl_jax.report import boxes, html, study
from tl_jax.report.figures import COLOURS
from tl_jax.report.plots import BLUE, Drawing, percent, points
from tl_jax.stats.detection import errors
from tl_jax.stats.detection.matches import Matches
from tl_jax.stats.detection.precision import curve, matched, of_matches
from tl_jax.stats.detection.shown import OVERLAP, best_score, marks
from tl_jax.stats.detection.spread import RESAMPLES, intervals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 12  # images
CURVES = len(COLOURS)  # classes that have a curve of their own
NAMES = {
    "map": "AP, mean over classes",
    "ap50": "AP at overlap 0.5",
    "ap75": "AP at overlap 0.75",
    "small": "AP of small boxes, below 32² pixels",
    "medium": "AP of medium boxes",
    "large": "AP of large boxes, above 96² pixels",
    "recall": "recall, mean over overlaps",
}
RULES = {
    "coco": "COCO's: 101 recalls, overlaps 0.50 to 0.95",
    "voc": "VOC's: exact area, overlap above 0.5",
    "voc07": "VOC 2007's: 11 recalls, overlap above 0.5",
}


def write(
    directory: pathlib.Path,
    *,
    detections: Mapping[str, np.ndarray],
    task: Task,
    examples: np.ndarray,
    result: dict,
    rule: str = "coco",
) -> pathlib.Path:
    """Write `directory`/report.html and the files of its tables and pictures; return the page.

    detections: "boxes" (n, K, 4), "scores" and "classes" (n, K) of the task's `examples` (n,), in
    pixels of the images, as the task's own truth is. `result` has the provenance
    (`tl_jax.runs.results.provenance`). UserError for a task of something else than boxes.
    """
    if task.asks != "boxes":
        raise UserError(f"the task {task.name!r} has no boxes to compare detections with")
    truths = {name: array[examples] for name, array in task.truth.items()}
    of_classes = matched(detections, truths, classes=task.classes, rule=rule)
    said = of_matches(of_classes, detections, truths, classes=task.classes, rule=rule)
    spread = intervals(of_classes, rule)
    return study.write(
        directory,
        title=f"Boxes in {task.name}",
        lead="Average precision is the mean precision over recall: of detections by falling score, "
        "how many are right while more and more of the boxes are found.",
        sections=[
            _figures(said, spread, task, of_classes),
            _errors(errors(detections, truths, classes=task.classes)),
            _worst(detections, truths, task, examples, best_score(of_classes)),
        ],
        facts={
            "task": f"{task.name}, {len(examples):,} images judged",
            "boxes": f"{sum(row['n'] for row in said['per_class']):,}",
            "classes": f"{len(task.classes):,}",
            "rule": RULES.get(rule, rule),
        },
        result=result,
    )


def _figures(
    said: dict[str, Any], spread: dict[str, Any], task: Task, of_classes: list[Matches]
) -> study.Section:
    none = (None, None)
    bounds = {"map": spread["map"]}
    rows = [
        (what, said[name], *(bounds.get(name) or none))
        for name, what in NAMES.items()
        if name in said
    ]
    per_class = sorted(
        (
            (row["name"], row["n"], row["ap"], *(own or none))
            for row, own in zip(said["per_class"], spread["per_class"], strict=True)
        ),
        key=lambda row: (row[2] is None, row[2]),
    )
    columns = {"value": "%", "AP": "%", "from": "%", "to": "%"}
    return study.Section(
        "How many boxes it finds",
        f"Intervals are 95 % by {RESAMPLES} draws of the images (percentile bootstrap, moved to "
        "the figure): by how much it varies with the images judged, not with the training. A class "
        "without boxes has no figure.",
        pictures=(study.Picture("curves", _caption(of_classes), curves(of_classes, task.classes)),),
        tables=(
            study.Table("figures", "Figures", ("figure", "value", "from", "to"), rows, columns),
            study.Table(
                "per_class",
                "By class, the weakest first",
                ("class", "boxes", "AP", "from", "to"),
                per_class,
                columns,
            ),
        ),
    )


def _caption(of_classes: list[Matches]) -> str:
    few = f" of the {CURVES} classes with the most boxes" if len(of_classes) > CURVES else ""
    return f"Precision over recall{few}, at an overlap of 0.5"


def curves(of_classes: list[Matches], classes: tuple[str, ...]) -> Drawing:
    """Draw precision over recall of the classes that have the most boxes."""
    counts = [int(matches.positives.sum()) for matches in of_classes]
    order = [c for c in np.argsort(counts)[::-1][:CURVES] if counts[c]]

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for label, colour in zip(order, itertools.cycle(COLOURS), strict=False):
            recall, precision = curve(of_classes[label], 0)
            name = classes[label].replace("$", r"\$")
            axes.plot(np.append(0, recall), np.append(1, precision), color=colour, label=name)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(percent)
        if order:
            figure.legend(loc="outside right upper", handlelength=1.4)

    return Drawing(draw, width=6.4, height=3.8)


def _errors(said: dict[str, Any]) -> study.Section:
    rows = [(row["kind"], row["what"], row["count"], row["cost"]) for row in said["errors"]]

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        costs = [row["cost"] or 0 for row in said["errors"]]
        axes.barh([row["kind"] for row in said["errors"]], costs, color=BLUE, height=0.6)
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.grid(True, axis="x")
        axes.set_xlabel("points of AP at overlap 0.5")
        axes.xaxis.set_major_formatter(points)

    return study.Section(
        "What its errors cost",
        "Each kind of error mended alone: by how much AP at overlap 0.5 would rise (Bolya et al. "
        "2020, TIDE, arXiv:2008.08115). A box is meant from an overlap of 0.1 on. Costs do not add "
        "up, because one error hides another.",
        pictures=(study.Picture("errors", "Points of AP that each kind costs", Drawing(draw)),),
        tables=(
            study.Table(
                "errors",
                "Errors by kind",
                ("kind", "what", "errors", "cost"),
                rows,
                {"cost": "points"},
            ),
        ),
    )


def _worst(
    detections: Mapping[str, np.ndarray],
    truths: Mapping[str, np.ndarray],
    task: Task,
    examples: np.ndarray,
    least: float,
) -> study.Section:
    marked = marks(detections, truths, least)
    mistakes = marked.mistakes(truths)
    order = np.argsort(-mistakes, kind="stable")[:MOST]
    pictures = []
    for place, row in enumerate(order.tolist()):
        shown = drawn(detections, truths, task, int(examples[row]), row, marked)
        name = task.ids[int(examples[row])]
        caption = f"{name}: {int(mistakes[row])} mistakes"
        pictures.append(study.Picture(f"worst_{place + 1}", caption, shown))
    score = "none is right" if np.isinf(least) else f"scores from {least:.2f} on"
    return study.Section(
        "The worst images",
        "Images with the most mistakes, wrong detections and missed boxes. White: a box. Grey: one "
        "that need not be found. Blue: a detection that is right. Orange: one that is wrong. "
        f"Detections are shown where F1 is the greatest ({score}), and are right from an overlap "
        f"of {OVERLAP:g} on.",
        pictures=tuple(pictures),
    )


def drawn(detections, truths, task: Task, example: int, row: int, marked) -> str:
    """Return the picture of an example, with its boxes and detections, as a data URI."""
    picture, scale = boxes.canvas(task.image(example))
    true, aside = truths["classes"][row] >= 0, truths["ignored"][row]
    for which, colour in ((true & aside, boxes.ASIDE), (true & ~aside, boxes.TRUE)):
        boxes.draw(picture, truths["boxes"][row][which], colour=colour, scale=scale, width=1)
    for which, colour in ((marked.right, boxes.RIGHT), (~marked.right, boxes.WRONG)):
        own = np.flatnonzero(marked.shown[row] & which[row])
        labels = [f"{score:.2f}" for score in detections["scores"][row][own].tolist()]
        if len(task.classes) > 1:
            names = [task.classes[label] for label in detections["classes"][row][own]]
            labels = [f"{name} {label}" for name, label in zip(names, labels, strict=True)]
        there = detections["boxes"][row][own]
        boxes.draw(picture, there, colour=colour, labels=labels, scale=scale)
    return html.jpeg(picture)
