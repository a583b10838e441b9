"""The page of similarities: a map for each pair of bases, and how far layers moved."""

import pathlib

import numpy as np

from tl_jax.report import figures, study
from tl_jax.runs.subject import base_name, task_name
from tl_jax.studies.similarity import ITSELF, TUNED

MEASURES = {"cka": "CKA", "svcca": "SVCCA"}
MOST_CHANCE = 0.99  # chance levels above this leave nothing but noise up to 1


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    config = result["config"]
    study.write(
        workdir,
        title="Similarity of representations",
        lead="Which layers represent these examples alike? 1 means the same up to rotation and "
        f"scale. By chance, with the examples shuffled, the average is {_levels(result)}.",
        sections=[_comparison(comparison) for comparison in result["comparisons"]],
        facts={
            "base": base_name(config),
            "task": task_name(config["task"]),
            "examples": f"{result['examples']:,}",
            "features": f"each layer's output pooled by the rule {config['pool']}",
            "CKA": f"linear, unbiased, minibatches of about {config['batch']}",
            "SVCCA": "99 % of the variance, mean canonical correlation",
            "chance": "the same measure, with the other base's examples shuffled by seed 0",
        },
        result=result,
    )


def summary(result: dict) -> str:
    """Return, for each layer of the base, the most similar layer of each other base by CKA."""
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
    """Return the mean chance level of each measure over all pairs of layers as text."""
    levels = {
        label: np.mean([_chance(comparison, m) for comparison in result["comparisons"]])
        for m, label in MEASURES.items()
    }
    return ", ".join(f"{label} {level:.2f}" for label, level in levels.items())


def above_chance(comparison: dict, measure: str) -> np.ndarray:
    """Return similarities (L, M) on the scale from chance (0) to 1, like an adjusted Rand index.

    NaN where chance alone gives 1.
    """
    values, chance = (
        np.array(comparison[key], np.float64) for key in (measure, f"{measure}_chance")
    )
    room = np.where(chance < MOST_CHANCE, 1 - chance, np.nan)
    return (values - chance) / room


def _chance(comparison: dict, measure: str) -> float:
    """Return the mean chance level over pairs of layers; 0 if no pair has one."""
    values = np.array(comparison[f"{measure}_chance"], np.float64)
    return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else 0.0


def _comparison(comparison: dict) -> study.Section:
    """Return the maps and tables of a pair of bases; for the fine-tuned base, first what moved."""
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
        scale = "from chance, as of shuffled examples (0, white), to the same (1, darkest)"
        pictures.append(study.Picture(f"{m}_{name}_map", f"{words}, {scale}", picture))
        for key, what in ((m, ""), (f"{m}_chance", ", examples shuffled")):
            lines = [(layer, *line) for layer, line in zip(rows, comparison[key], strict=True)]
            caption = f"{label} with {other}{what}"
            tables.append(study.Table(f"{key}_{name}", caption, ("layer", *columns), lines))
    text = (
        f"Every layer of the base is compared with every layer of {other}. CKA weights directions "
        "by their variance and is 0 for independent representations. SVCCA weights them equally; "
        "it is above 0 by chance, and more so the more directions there are for each example. Each "
        "measure has its chance level beside it, measured with the examples of one side shuffled "
        "(the null of permutation tests: Josse, Pagès & Husson 2008 for CKA, Winkler et al. 2020 "
        "for canonical correlations): a value near chance is no sign of similarity. All maps share "
        "one scale, from chance to 1; a blank means that chance alone gives 1."
    )
    if other == TUNED:
        moved_text, picture, table = _moved(comparison)
        text, pictures, tables = text + moved_text, [picture, *pictures], [table, *tables]
    return study.Section(f"With {other}", text, tuple(pictures), tuple(tables))


def _moved(comparison: dict) -> tuple[str, study.Picture, study.Table]:
    """Return text, plot and table of how far fine-tuning moved each layer that both bases have."""
    rows, columns = comparison["layers"], comparison["others"]
    both = [name for name in rows if name in columns]

    def changes(key: str) -> np.ndarray:
        values = np.array(comparison[key], np.float64)
        return np.array([1 - values[rows.index(n), columns.index(n)] for n in both])

    moved = {f"1 - {label}": changes(m) for m, label in MEASURES.items()}
    chance = {f"1 - {n}, examples shuffled": changes(f"{m}_chance") for m, n in MEASURES.items()}
    text = (
        "\n\nWhich layers did fine-tuning move? The plot shows 1 minus the similarity of each "
        "layer with itself before. Layers that stayed frozen are at 0; dashed lines: examples "
        "shuffled."
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
