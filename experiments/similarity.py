"""How alike the layers of a base are: to each other, to another base's, to its own once fine-tuned.

    python -m experiments.similarity --config=configs/similarity.py
    python -m experiments.similarity --config=configs/similarity.py --workdir=runs/similarity_elpv \
        --config.tuned=runs/elpv/model.safetensors
"""

import pathlib
import time

from absl import flags

from experiments import cli, study

flags.adopt_module_key_flags(study)

OWN, TUNED = "itself", "fine-tuned"
MEASURES = {"cka": "CKA", "svcca": "SVCCA"}


def work(config, workdir: pathlib.Path, name: str) -> dict:
    """The comparisons that the config asks for, and the report."""
    from tl_jax import interrupt
    from tl_jax.runs import results
    from tl_jax.runs.journal import Journal

    started = time.time()
    base, task = study.base_of(config), study.task_of(config, seed=0)
    cells = Journal(workdir / "cells.jsonl")
    for called, other in bases(config, base).items():
        interrupt.check()
        if not cells.get(other=called):
            cells.add(compared(config, base, other, task), other=called)
    result = results.finite(
        {
            "name": name,
            "config": config.to_dict(),
            "examples": len(task.ids),
            "comparisons": cells.rows(),
            "seconds": time.time() - started,
            **results.provenance("similarity"),
        }
    )
    report(workdir, result)
    return result


def bases(config, base) -> dict:
    """What the base is compared with, by name."""
    import ml_collections

    from tl_jax.base.base import load_base

    found = {OWN: base}
    for called, own in config.others.items():
        changed = ml_collections.ConfigDict({**config.to_dict(), **own.to_dict()})
        found[called] = study.base_of(changed)
    if config.tuned:
        tuned = load_base(config.base, config.tuned)
        found[TUNED] = tuned.resized(config.size or None, config.crop or None)
    return found


def compared(config, base, other, task) -> dict:
    """CKA and SVCCA of all pairs of layers: rows the base's, columns the other's."""
    from tl_jax.measure.features import of_layers
    from tl_jax.measure.similarity import linear_cka, svcca

    options = {"pool": config.pool, "cache": pathlib.Path(config.cache)}
    one = of_layers(base, task, **options)
    two = one if other is base else of_layers(other, task, **options)
    first = [layer.rows for layer in one.values()]
    second = first if other is base else [layer.rows for layer in two.values()]
    return {
        "layers": list(one),
        "others": list(two),
        "cka": linear_cka(first, second, batch=config.batch).tolist(),
        "svcca": svcca(first, second).tolist(),
    }


def report(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    from tl_jax.report import study as page

    config = result["config"]
    sections = [_section(page, comparison) for comparison in result["comparisons"]]
    page.write(
        workdir,
        title="Similarity of representations",
        lead="Which layers represent these images alike? 1: the same but for rotation and scale; "
        "0: nothing in common.",
        sections=sections,
        facts={
            "base": f"{config['base']} ({config['weights'] or 'published weights'})",
            "task": config["task"]["name"],
            "images": f"{result['examples']:,}",
            "features": f"each layer's output pooled by the rule {config['pool']}",
            "CKA": f"linear, unbiased, minibatches of about {config['batch']}",
            "SVCCA": "99 % of the variance, mean canonical correlation",
        },
        result=result,
    )


def _section(page, comparison: dict):
    import numpy as np

    from tl_jax.report import figures

    called = comparison["other"]
    rows, columns = comparison["layers"], comparison["others"]
    values = {m: np.array(comparison[m], np.float64) for m in MEASURES}
    pictures = [
        page.Picture(
            f"{shown} of every layer of the base (down) with every layer of {called} (across)",
            figures.heat_map(
                np.clip(values[m], 0, 1), rows, columns, label=shown, along=("base", called)
            ),
        )
        for m, shown in MEASURES.items()
    ]
    slug = called.replace(" ", "_")
    tables = [
        page.Table(
            f"{m}_{slug}",
            f"{shown} with {called}",
            ("layer", *columns),
            [(layer, *line) for layer, line in zip(rows, comparison[m], strict=True)],
        )
        for m, shown in MEASURES.items()
    ]
    text = (
        f"Every layer of the base beside every layer of {called}. CKA weighs directions by their "
        "variance and is 0 for what is independent; SVCCA weighs them alike, and is above 0 by "
        "chance, the more so the more directions there are beside the images."
    )
    if called == TUNED:
        both = [name for name in rows if name in columns]
        moved = {
            shown: np.array([1 - values[m][rows.index(n), columns.index(n)] for n in both])
            for m, shown in MEASURES.items()
        }
        text += (
            "\n\nWhich layers did fine-tuning move? 1 less the similarity of each layer with "
            "itself before. Layers that stayed frozen are at 0."
        )
        series = {shown: change[:, None] for shown, change in moved.items()}
        pictures.insert(
            0,
            page.Picture(
                "How far fine-tuning moved each layer",
                figures.against_depth(
                    both, series, label="1 - similarity before and after", fractions=False
                ),
            ),
        )
        table = list(zip(both, *(change.tolist() for change in moved.values()), strict=True))
        columns = ("layer", *(f"1 - {shown}" for shown in moved))
        tables.insert(0, page.Table("moved", "1 - similarity before and after", columns, table))
    return page.Section(f"With {called}", text, tuple(pictures), tuple(tables))


def _shown(result: dict) -> str:
    """The layer of the other that each layer is most alike, by CKA."""
    lines = []
    for comparison in result["comparisons"]:
        if comparison["other"] == OWN:
            continue
        lines.append(f"most alike in {comparison['other']}, by CKA:")
        for layer, line in zip(comparison["layers"], comparison["cka"], strict=True):
            known = [(x, name) for x, name in zip(line, comparison["others"], strict=True) if x]
            value, name = max(known, default=(float("nan"), "none"))
            lines.append(f"  {layer:16} {name:16} {value:.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(study.main(work, example="configs/similarity.py", shown=_shown))
