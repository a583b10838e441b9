"""The page of episodes: accuracy by base, layer, method and shots, with two intervals."""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tl_jax.report import figures, study, text
from tl_jax.runs.subject import base_name, task_name
from tl_jax.stats.intervals import over_episodes, over_seeds

COLUMNS = ("base", "layer", "method", "shots", "accuracy", "over episodes", "over trainings")
COLUMNS += ("trainings", "difference", "its half")
UNITS = dict.fromkeys(COLUMNS[5:7] + COLUMNS[8:], "points") | {"accuracy": "%"}
INTERVALS = (
    "Two 95 % intervals stand beside each accuracy. The one over episodes, 1.96 s / sqrt(n), is "
    "what papers report: other episodes drawn from the same examples, with the same base. It "
    "says nothing of another training of the base; the one over trainings does (Student's t over "
    "seeds, each with weights, order, splits and episodes of its own), and a base as it is has "
    "none. Neither covers other novel classes, or examples that the task does not have. "
    "Differences are to the first method on the same base and layer, paired by episode: they see "
    "more than two accuracies do."
)


class Row(NamedTuple):
    """What the seeds of a base, layer, method and number of shots say; a line of the table."""

    base: str
    layer: str
    method: str
    shots: int
    accuracy: float
    over_episodes: float | None
    over_trainings: float | None
    trainings: int
    difference: float | None
    difference_half: float | None

    @property
    def wider(self) -> float:
        """The wider of the two intervals' halves."""
        return max(self.over_episodes or 0.0, self.over_trainings or 0.0)


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    config, found = result["config"], rows(result)
    ways, queries = config["ways"], config["queries"]
    study.write(
        workdir,
        title="Few labels",
        lead=f"How well are {ways} classes told apart of which no training has seen an example, "
        "from a few labelled ones of each?",
        sections=[
            study.Section(
                "Accuracy in episodes",
                INTERVALS,
                tuple(_pictures(result, found)),
                (study.Table("few_shot", "Every way", COLUMNS, list(map(tuple, found)), UNITS),),
            )
        ],
        facts={
            "base": base_name(config),
            "task": task_name(config["task"]),
            "base classes": ", ".join(result["base_classes"]) or "none",
            "novel classes": ", ".join(result["novel_classes"]),
            "episodes": f"{config['episodes']:,}, each of {ways} classes with {queries} queries",
            "seeds": ", ".join(map(str, config["seeds"])),
        },
        result=result,
    )


def summary(result: dict) -> str:
    """Return a line for each base, layer, method and number of shots."""
    head = f"{'base':16}{'layer':16}{'method':18}{'shots':>5}{'accuracy':>9}"
    lines = [f"{head}  over episodes, over trainings"]
    for row in rows(result):
        halves = (_points(half) for half in (row.over_episodes, row.over_trainings))
        name = f"{row.base:16}{row.layer:16}{row.method:18}{row.shots:5}"
        lines.append(f"{name}{100 * row.accuracy:9.1f}  {', '.join(halves)}")
    return "\n".join(lines)


def _points(half: float | None) -> str:
    return text.MISSING if half is None else f"± {100 * half:.1f}"


def rows(result: dict) -> list[Row]:
    """Return a row for each base, layer, method and number of shots, in the config's order."""
    by_key = {tuple(cell[k] for k in ("training", "layer", "method", "shots", "seed")):
              np.array(cell["accuracies"]) for cell in result["cells"]}  # fmt: skip
    first = result["config"]["methods"][0]
    found = []
    for base, layer, method, shots in dict.fromkeys(key[:4] for key in by_key):
        seeds = [key[4] for key in by_key if key[:4] == (base, layer, method, shots)]
        own = [by_key[base, layer, method, shots, seed] for seed in seeds]
        others = [by_key[base, layer, first, shots, seed] for seed in seeds]
        count = min(len(own[0]), len(others[0]))  # of two, fine-tuning has fewer episodes
        apart = [a[:count] - b[:count] for a, b in zip(own, others, strict=True)]
        mean, half = _over_episodes(own)
        trained = float(over_seeds([one.mean() for one in own])[1])
        difference = (None, None) if method == first else _over_episodes(apart)
        trained = _finite(trained) if result["trainings"][base] else None
        known = base, layer, method, shots, mean, half, trained, len(own), *difference
        found.append(Row(*known))
    order = {name: number for number, name in enumerate(result["trainings"])}
    return sorted(found, key=lambda row: (order[row.base], row.shots))


def _over_episodes(several: list[np.ndarray]) -> tuple[float, float | None]:
    """Return the mean over seeds of accuracies (E,), and the half that one seed has on average."""
    means, halves = zip(*map(over_episodes, several), strict=True)
    return float(np.mean(means)), _finite(float(np.mean(halves)))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _pictures(result: dict, found: list[Row]) -> Iterator[study.Picture]:
    shots = result["config"]["shots"]
    layers = list(dict.fromkeys(row.layer for row in found))
    titles = list(map(_shots, shots))
    for layer in layers:
        own = [row for row in found if row.layer == layer]
        series = {
            f"{base}, {method}": [
                next((r.accuracy, r.wider) for r in own if r[:4] == (base, layer, method, k))
                for k in shots
            ]
            for base, method in dict.fromkeys((row.base, row.method) for row in own)
        }
        caption = f"Accuracy in episodes on features of {layer}, and the wider of the two intervals"
        drawn = figures.by_plan(
            titles, series, reference=next(iter(series)), label="accuracy in episodes"
        )
        yield study.Picture(f"few_shot_{study.file_name(layer)}", caption, drawn)
    if len(layers) > 1:
        yield from _by_layer(result, layers)


def _shots(count: int) -> str:
    return f"{count} shot{'s' * (count > 1)}"


def _by_layer(result: dict, layers: list[str]) -> Iterator[study.Picture]:
    """Yield a picture for each number of shots: the first method's accuracy at every layer."""
    config = result["config"]
    first = config["methods"][0]
    for shots in config["shots"]:
        series = {
            base: np.array(
                [
                    [
                        np.mean(cell["accuracies"])
                        for cell in result["cells"]
                        if (cell["training"], cell["layer"]) == (base, layer)
                        and (cell["method"], cell["shots"]) == (first, shots)
                    ]
                    for layer in layers
                ]
            )
            for base in result["trainings"]
        }
        caption = f"{first} by layer, {_shots(shots)}; shades are intervals over trainings"
        drawn = figures.against_depth(layers, series, label="accuracy in episodes")
        yield study.Picture(f"layers_{shots}", caption, drawn)
