"""The worst mistakes of a run, with a small picture of each, or the beginning of its text."""

from collections.abc import Callable

import numpy as np
import PIL.Image

from tl_jax.data.images import seen
from tl_jax.data.task import Task
from tl_jax.errors import UserError
from tl_jax.report import html
from tl_jax.stats import intervals

MOST = 12
THUMBNAIL = 240  # pixels
MOST_CHARACTERS = 400  # of a text
Words = Callable[[str, int], list[tuple[str, float]]]


def of_classes(probabilities: np.ndarray, task: Task, words: Words | None = None) -> list[dict]:
    """Return the most confident mistakes on the test split, each with a small picture, or with the
    beginning of its text, whose words have a `share` from -1 to 1 of the weightiest one's weight.
    """
    test = task.splits["test"]
    labels = task.labels[test]
    rows = []
    for row in intervals.worst(probabilities, labels, most=MOST):
        index, predicted = int(test[row]), int(probabilities[row].argmax())
        said = {
            "true": task.classes[labels[row]],
            "predicted": task.classes[predicted],
            "probability": float(probabilities[row, predicted]),
            "of_true": float(probabilities[row, labels[row]]),
        }
        weight = (lambda text, own=predicted: words(text, own)) if words else None
        rows.append(shown(task, index, weight) | said)
    return rows


def of_others(losses: np.ndarray, task: Task, said: Callable[[int], tuple[str, str]]) -> list[dict]:
    """Return the examples of the test split of the greatest losses (n,); `said(row)` is what was
    predicted of one, and what is true.
    """
    test, rows = task.splits["test"], []
    for row in np.argsort(-np.nan_to_num(losses, nan=-1.0), kind="stable")[:MOST]:
        predicted, true = said(int(row))
        own = {"true": true, "predicted": predicted, "probability": None, "of_true": None}
        rows.append(shown(task, int(test[row])) | own)
    return rows


def shown(task: Task, index: int, weight: Callable | None = None) -> dict:
    """Return an example's id, and its picture or words."""
    return {
        "id": task.ids[index],
        "image": None if task.texts else _thumbnail(task, index),
        "words": _weighed(task.texts[index], weight) if task.texts else None,
    }


def _weighed(whole: str, weight: Callable | None) -> list[dict]:
    """Return the words of the beginning of a text, and how much each speaks for the answer."""
    found = weight(whole) if weight else [(whole, 0.0)]
    kept, length = [], 0
    for word, weight in found:
        kept.append((word[:MOST_CHARACTERS], weight))
        length += len(word)
        if length >= MOST_CHARACTERS:
            kept.append(("…", 0.0))
            break
    most = max(abs(weight) for _, weight in kept) or 1.0
    return [{"word": word, "share": weight / most} for word, weight in kept]


def _thumbnail(task: Task, index: int) -> str | None:
    """Return a small JPEG as a data URI; None if the image is gone since the run read it."""
    try:
        image = seen(task.image(index))
    except (OSError, UserError):
        return None
    image = image.convert("L" if image.mode == "L" else "RGB")  # a copy: the task may keep its own
    image.thumbnail((THUMBNAIL, THUMBNAIL), PIL.Image.Resampling.LANCZOS)
    return html.jpeg(image)
