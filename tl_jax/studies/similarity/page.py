"""How similarities of layers are shown: a map of each pair of bases, and how far layers moved."""

import pathlib

import numpy as np

from tl_jax.report import figures, study
from tl_jax.runs.subject import task_name
from tl_jax.studies.similarity import ITSELF, TUNED

MEASURES = {"cka": "CKA", "svcca": "SVCCA"}
MOST_CHANCE = 0.99  # beyond, what is left to 1 is noise


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    config = result["config"]
    study.write(
        workdir,
        title="Similarity of representations",
        lead="Which layers represent these images alike? 1: the same but for rotation and scale. "
        f"What has nothing in common has on average, with the images shuffled, {_levels(result)}.",
        sections=[_comparison(comparison) for comparison in result["comparisons"]],
        facts={
            "base": f"{config['base']} ({config['weights'] or 'published weights'})",
            "task": task_name(config["task"]),
            "images": f"{result['examples']:,}",
            "features": f"each layer's output pooled by the rule {config['pool']}",
            "CKA": f"linear, unbiased, minibatches of about {config['batch']}",
            "SVCCA": "99 % of the variance, mean canonical correlation",
            "chance": "the same measure with the other base's images shuffled, seed 0",
        },
        result=result,
    )


def summary(result: dict) -> str:
    """For each layer of the base, the layer of each other that is most like it, by CKA."""
    lines = []
    for comparison in result["comparisons"]:
        if comparison["other"] == ITSELF:
            continue
        lines.append(f"most alike in {comparison['other']}, by CKA:")
        for layer, line in zip(comparison["layers"], comparison["cka"], strict=True):
            known = [(x, name) for x, name in zip(line, comparison["others"], strict=True) if x]
            value, name = max(known, default=(float("nan"), "none"))
            lines.append(f"  {layer:16} {name:16} {value:.2f}")
    return "\n".join([*lines, f"by chance, on average: {_levels(result)}"])


def _levels(result: dict) -> str:
    """The chance level of each measure, a mean over all pairs of layers of all comparisons."""
    levels = {
        label: np.mean([_chance(comparison, m) for comparison in result["comparisons"]])
        for m, label in MEASURES.items()
    }
    return ", ".join(f"{label} {level:.2f}" for label, level in levels.items())


def above_chance(comparison: dict, measure: str) -> np.ndarray:
    """How far of the way from chance (0) to 1 each pair of layers is, (L, M), as a Rand index is.

    NaN where chance alone gives 1.
    """
    values, chance = (
        np.array(comparison[key], np.float64) for key in (measure, f"{measure}_chance")
    )
    room = np.where(chance < MOST_CHANCE, 1 - chance, np.nan)
    return (values - chance) / room


def _chance(comparison: dict, measure: str) -> float:
    """Mean over the pairs of layers; 0 where no pair has one."""
    values = np.array(comparison[f"{measure}_chance"], np.float64)
    return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else 0.0


def _comparison(comparison: dict) -> study.Section:
    """The maps and tables of one pair of bases; of the fine-tuned base, what moved comes first."""
    other, rows, columns = comparison["other"], comparison["layers"], comparison["others"]
    pictures, tables, name = [], [], study.file_name(other)
    for m, label in MEASURES.items():
        picture = figures.heat_map(
            above_chance(comparison, m),
            rows,
            columns,
            label=f"{label} above chance",
            along=("base", other),
        )
        words = f"{label} of every layer of the base (down) with every layer of {other} (across)"
        scale = "from chance, as of shuffled images (0, white), to the same (1, darkest)"
        pictures.append(study.Picture(f"{m}_{name}_map", f"{words}, {scale}", picture))
        for key, what in ((m, ""), (f"{m}_chance", ", images shuffled")):
            lines = [(layer, *line) for layer, line in zip(rows, comparison[key], strict=True)]
            caption = f"{label} with {other}{what}"
            tables.append(study.Table(f"{key}_{name}", caption, ("layer", *columns), lines))
    text = (
        f"Every layer of the base beside every layer of {other}. CKA weighs directions by their "
        "variance and is 0 for what is independent; SVCCA weighs them alike, and is above 0 by "
        "chance, the more so the more directions there are beside the images. Each measure stands "
        "beside what it gives when the images of one side are shuffled (the null of permutation "
        "tests: Josse, Pagès & Husson 2008 for CKA, Winkler et al. 2020 for canonical "
        "correlations): a value near that is no sign of likeness. Maps show how far of the way "
        "from there to 1 a pair is, all on one scale; blank: chance alone gives 1."
    )
    if other == TUNED:
        moved_text, picture, table = _moved(comparison)
        text, pictures, tables = text + moved_text, [picture, *pictures], [table, *tables]
    return study.Section(f"With {other}", text, tuple(pictures), tuple(tables))


def _moved(comparison: dict) -> tuple[str, study.Picture, study.Table]:
    """How far fine-tuning moved each layer that both bases have."""
    rows, columns = comparison["layers"], comparison["others"]
    both = [name for name in rows if name in columns]

    def changes(key: str) -> np.ndarray:
        values = np.array(comparison[key], np.float64)
        return np.array([1 - values[rows.index(n), columns.index(n)] for n in both])

    moved = {f"1 - {label}": changes(m) for m, label in MEASURES.items()}
    chance = {f"1 - {n}, images shuffled": changes(f"{m}_chance") for m, n in MEASURES.items()}
    text = (
        "\n\nWhich layers did fine-tuning move? 1 less the similarity of each layer with "
        "itself before. Layers that stayed frozen are at 0; dashed: where the images are shuffled."
    )
    picture = study.Picture(
        "moved",
        "How far fine-tuning moved each layer",
        figures.against_depth(
            both,
            {label: change[:, None] for label, change in moved.items()},
            label="1 - similarity before and after",
            unit="",
            dashed=chance,
        ),
    )
    lines = list(zip(both, *(c.tolist() for c in (moved | chance).values()), strict=True))
    names = ("layer", *moved, *chance)
    return text, picture, study.Table("moved", "1 - similarity before and after", names, lines)
