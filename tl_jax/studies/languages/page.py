"""The page of a study across languages."""

import collections
import itertools
import pathlib
from collections.abc import Iterator

from tl_jax.report import figures, study
from tl_jax.stats.intervals import known, over_seeds
from tl_jax.studies.languages import FEATURES, LABELS

COLUMNS = ("language", "labels a class", "features", "labels of", "accuracy", "accuracy half")
COLUMNS += ("macro-F1", "macro-F1 half", "seeds")


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    config = result["config"]
    sizes = {name: f"{s['train']:,}, {s['test']:,}" for name, s in result["sizes"].items()}
    commonest = ", ".join(f"{n} {100 * share:.1f} %" for n, share in result["commonest"].items())
    study.write(
        workdir,
        title="Labels across languages",
        lead=f"Do labels in {config['languages'][0]} help to classify texts in other languages?",
        sections=[
            study.Section(
                "Accuracy with few labels",
                "Means over seeds, which draw the labels, and 95 % intervals (Student's t). "
                "Features: "
                + "; ".join(f"{name}: {what}" for name, what in FEATURES.items())
                + f". The commonest class of the test split: {commonest}.",
                tuple(_pictures(result)),
                (study.Table("languages", "Every way", COLUMNS, _rows(result), _hundredths()),),
            )
        ],
        facts={
            "language model": f"{result['base']['name']}, {result['base']['words']:,} tokens",
            "texts to train on and to test": "; ".join(f"{n} {s}" for n, s in sizes.items()),
            "classes": ", ".join(result["classes"]),
            "seeds": ", ".join(map(str, config["seeds"])),
        },
        result=result,
    )


def summary(result: dict) -> str:
    """Return a line a way of learning."""
    rows = [f"{'language':9}{'labels':>7}  {'features':9}{'labels of':16}{'accuracy':>9}{'F1':>7}"]
    for name, budget, features, labels, accuracy, _, macro, _, _ in _rows(result):
        figures = f"{100 * accuracy:9.1f}{100 * macro:7.1f}"
        rows.append(f"{name:9}{budget:7}  {features:9}{labels:16}{figures}")
    return "\n".join(rows)


def _hundredths() -> dict[str, str]:
    return {name: "points" if "half" in name else "%" for name in COLUMNS[4:8]}


def _rows(result: dict) -> list[tuple]:
    """Return a row a way of learning, in the order of `COLUMNS`."""
    ways = collections.defaultdict(list)
    for cell in result["cells"]:
        ways[tuple(cell[key] for key in ("language", "budget", "features", "labels"))].append(cell)
    rows = []
    for name, budget, features, labels in itertools.product(
        result["config"]["languages"][1:], result["config"]["budgets"], FEATURES, LABELS
    ):
        if cells := ways[name, budget, features, labels]:
            figures = []
            for metric in ("accuracy", "macro_f1"):
                mean, half = over_seeds([cell[metric] for cell in cells])
                figures += [float(mean), known(half)]
            rows.append((name, budget, features, labels, *figures, len(cells)))
    return rows


def _pictures(result: dict) -> Iterator[study.Picture]:
    for name in result["config"]["languages"][1:]:
        known = [row for row in _rows(result) if row[0] == name]
        budgets = sorted({row[1] for row in known if row[1]})
        if not budgets:
            continue
        series = {
            f"{features}, {labels}": [
                next((row[4], row[5] or 0.0) for row in known if row[1:4] == (b, features, labels))
                for b in budgets
            ]
            for features in FEATURES
            for labels in LABELS
        }
        picture = figures.by_plan(
            [f"{budget} a class" for budget in budgets],
            series,
            reference="model, own",
            label="test accuracy",
        )
        yield study.Picture(f"languages_{name}", f"Test accuracy in {name}", picture)
