"""The page of vectors of words: the loss, nearest neighbours, a map."""

import pathlib

import numpy as np

from tl_jax.report import figures, study

NAMES = {"skip_gram": "Skip-gram", "glove": "GloVe", "fasttext": "fastText"}
MAPS = {"tsne": "t-SNE", "umap": "UMAP"}


def write(
    workdir: pathlib.Path,
    result: dict,
    *,
    counts: dict[str, int],
    mapped: list[str],
    points: dict[str, np.ndarray],
) -> None:
    """Write the page and its tables from the `material` of `study.compute`."""
    method, losses = NAMES[result["method"]], result["losses"]
    study.write(
        workdir,
        title=f"Words of {result['task']}",
        lead="Vectors of words, learnt from which words stand near each other. Words that are used "
        "in the same way have vectors that point the same way.",
        sections=[
            _neighbours(result["neighbours"], counts),
            *([_plane(mapped, points)] if points else []),
            _learning(losses),
        ],
        facts={
            "method": method,
            "texts": result["task"],
            "words": f"{result['words']:,}",
            "occurrences": f"{result['tokens']:,}",
            "vectors": f"vectors.txt, {result['config'][result['method']]['dim']} numbers each",
        },
        result=result,
    )


def summary(result: dict) -> str:
    """Return the loss, and the neighbours of some words."""
    losses, lines = result["losses"], []
    for word, near in list(result["neighbours"].items())[:5]:
        lines.append(f"{word}: {', '.join(other for other, _ in near)}")
    first = f"{result['words']:,} words, {result['tokens']:,} occurrences"
    return "\n".join([f"{first}; loss {losses[0]:.4f} at first, {losses[-1]:.4f} at last", *lines])


def _neighbours(neighbours: dict[str, list], counts: dict[str, int]) -> study.Section:
    rows = [
        (word, counts[word], ", ".join(f"{other} {cosine:.2f}" for other, cosine in near))
        for word, near in neighbours.items()
    ]
    text = (
        "Words from frequent to rare, or those that the config names, and the words whose vectors "
        "have the greatest cosines to theirs. Rare words have seen few others, so that their "
        "neighbours say less."
    )
    table = study.Table(
        "neighbours", "Nearest words, with cosines", ("word", "occurrences", "nearest"), rows
    )
    return study.Section("Neighbours", text, tables=(table,))


def _plane(mapped: list[str], points: dict[str, np.ndarray]) -> study.Section:
    shown = [
        study.Picture(name, MAPS[name], figures.words(place, mapped))
        for name, place in points.items()
    ]
    axes = [f"{MAPS[name]} {axis}" for name in points for axis in "xy"]
    coordinates = np.hstack(list(points.values())).tolist()
    rows = [(word, *xy) for word, xy in zip(mapped, coordinates, strict=True)]
    text = (
        f"The {len(mapped)} most frequent words that have letters alone, in the plane so that "
        "neighbours stay near each other; where words would cover each other, the rarer one is a "
        "point. Distances between groups, and their sizes, say little."
    )
    table = study.Table("points", "Every word", ("word", *axes), rows)
    return study.Section("A map", text, tuple(shown), (table,))


def _learning(losses: list[float]) -> study.Section:
    caption = "Mean loss of a pair of words in each epoch, while it is learnt"
    return study.Section(
        "Learning",
        "The loss is the method's own: losses of two methods cannot be compared.",
        (study.Picture("loss", caption, figures.over_epochs(losses)),),
        (study.Table("losses", "Losses", ("epoch", "loss"), list(enumerate(losses, 1))),),
    )
