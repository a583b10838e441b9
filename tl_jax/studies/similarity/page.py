"""How similarities of layers are shown: a map of each pair of bases, and how far layers moved."""

import pathlib

import numpy as np

from tl_jax.report import figures, study
from tl_jax.runs.subject import task_name
from tl_jax.studies.similarity import ITSELF, TUNED

MEASURES = {"cka": "CKA", "svcca": "SVCCA"}


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    config = result["config"]
    study.write(
        workdir,
        title="Similarity of representations",
        lead="Which layers represent these images alike? 1: the same but for rotation and scale; "
        "0: nothing in common.",
        sections=[_comparison(comparison) for comparison in result["comparisons"]],
        facts={
            "base": f"{config['base']} ({config['weights'] or 'published weights'})",
            "task": task_name(config["task"]),
            "images": f"{result['examples']:,}",
            "features": f"each layer's output pooled by the rule {config['pool']}",
            "CKA": f"linear, unbiased, minibatches of about {config['batch']}",
            "SVCCA": "99 % of the variance, mean canonical correlation",
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
    return "\n".join(lines)


def _comparison(comparison: dict) -> study.Section:
    """The maps and tables of one pair of bases; of the fine-tuned base, what moved comes first."""
    other, rows, columns = comparison["other"], comparison["layers"], comparison["others"]
    values = {m: np.array(comparison[m], np.float64) for m in MEASURES}
    pictures = tuple(
        study.Picture(
            f"{label} of every layer of the base (down) with every layer of {other} (across)",
            figures.heat_map(
                np.clip(values[m], 0, 1), rows, columns, label=label, along=("base", other)
            ),
        )
        for m, label in MEASURES.items()
    )
    slug = other.replace(" ", "_")
    tables = tuple(
        study.Table(
            f"{m}_{slug}",
            f"{label} with {other}",
            ("layer", *columns),
            [(layer, *line) for layer, line in zip(rows, comparison[m], strict=True)],
        )
        for m, label in MEASURES.items()
    )
    text = (
        f"Every layer of the base beside every layer of {other}. CKA weighs directions by their "
        "variance and is 0 for what is independent; SVCCA weighs them alike, and is above 0 by "
        "chance, the more so the more directions there are beside the images."
    )
    if other == TUNED:
        moved_text, picture, table = _moved(rows, columns, values)
        text, pictures, tables = text + moved_text, (picture, *pictures), (table, *tables)
    return study.Section(f"With {other}", text, pictures, tables)


def _moved(
    rows: list[str], columns: list[str], values: dict[str, np.ndarray]
) -> tuple[str, study.Picture, study.Table]:
    """How far fine-tuning moved each layer that both bases have; `values` (L, M) by measure."""
    both = [name for name in rows if name in columns]
    moved = {
        label: np.array([1 - values[m][rows.index(n), columns.index(n)] for n in both])
        for m, label in MEASURES.items()
    }
    text = (
        "\n\nWhich layers did fine-tuning move? 1 less the similarity of each layer with "
        "itself before. Layers that stayed frozen are at 0."
    )
    picture = study.Picture(
        "How far fine-tuning moved each layer",
        figures.against_depth(
            both,
            {label: change[:, None] for label, change in moved.items()},
            label="1 - similarity before and after",
            fractions=False,
        ),
    )
    lines = list(zip(both, *(change.tolist() for change in moved.values()), strict=True))
    names = ("layer", *(f"1 - {label}" for label in moved))
    return text, picture, study.Table("moved", "1 - similarity before and after", names, lines)
