"""What a run's page shows of captions: what was told of images, or which texts find which."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tl_jax.data.task import Task
from tl_jax.data.texts.captions import told, words_in
from tl_jax.report import mistakes
from tl_jax.stats import captions as stats
from tl_jax.stats import pairs

SHOWN = 12  # images of the best, of the worst, and of all
QUERIES, FOUND = 8, 5  # texts and images that are looked for, and answers that are shown


def of_captions(predictions: Mapping[str, Any], task: Task) -> tuple[np.ndarray, dict]:
    """Return CIDEr-D (n,) of each image of the test split, and the parts of the page."""
    test = task.splits["test"]
    said = [told(row, task.classes) for row in np.asarray(predictions["words"])]
    scores = stats.cider_d(said, [tuple(map(words_in, task.captions[row])) for row in test])
    order = np.argsort(-scores, kind="stable")

    def shown(rows: np.ndarray) -> list[dict]:
        return [
            mistakes.shown(task, int(test[row]))
            | {
                "told": " ".join(said[row]) or "nothing",
                "true": task.captions[int(test[row])],
                "log_p": float(predictions["log_p"][row]),
                "cider": float(scores[row]),
            }
            for row in rows
        ]

    some = np.linspace(0, len(test) - 1, min(SHOWN, len(test))).astype(int)
    return scores, {
        "Some of all": shown(some),
        "The best": shown(order[:SHOWN]),
        "The worst": shown(order[::-1][:SHOWN]),
    }


def of_pairs(predictions: Mapping[str, Any], task: Task) -> tuple[np.ndarray, dict]:
    """Return whether each text of the test split finds its image first (q,), and the parts of the
    page: texts with the images nearest to them, and images with the texts nearest.
    """
    test = task.splits["test"]
    same = task.truth["same"][test]
    queries, gallery, right = pairs.laid_out(predictions["image"], predictions["text"], same)
    texts = [caption for row in test for caption in task.captions[row]]
    cosines = queries @ gallery.T
    by_text = pairs.ranks(cosines, right)

    def image(row: int) -> dict:
        return mistakes.shown(task, int(test[row]))

    def caption(row: int) -> dict:
        return {"text": texts[row]}

    return by_text == 1, {
        "by_text": _searches(cosines, right, by_text, asked=caption, answer=image),
        "by_image": _searches(
            cosines.T, right.T, pairs.ranks(cosines.T, right.T), asked=image, answer=caption
        ),
    }


def _searches(
    cosines: np.ndarray, right: np.ndarray, ranks: np.ndarray, *, asked: Any, answer: Any
) -> list[dict]:
    """Return queries spread over all of them, each with its nearest answers."""
    found = []
    for query in np.linspace(0, len(cosines) - 1, min(QUERIES, len(cosines))).astype(int):
        nearest = np.argsort(-cosines[query], kind="stable")[:FOUND]
        answers = []
        for row in map(int, nearest):
            told = {"cosine": float(cosines[query, row]), "right": bool(right[query, row])}
            answers.append(answer(row) | told)
        found.append(asked(int(query)) | {"rank": int(ranks[query]), "answers": answers})
    return found
