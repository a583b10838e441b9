"""How scenarios are shown: accuracy over the label budget by plan, verdicts, cost, every cell."""

import pathlib
from collections.abc import Sequence

import numpy as np

from tl_jax.report import figures, study
from tl_jax.runs.results import failures
from tl_jax.stats.paired import corrected
from tl_jax.studies.scenarios import table
from tl_jax.studies.scenarios.verdicts import TESTED, overlap

WORDS = ("helps", "hurts", "cannot tell")


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page, its tables, and every cell as cells.csv and, with pyarrow, cells.parquet."""
    config, rows = result["config"], result["rows"]
    good = [row for row in rows if row.get("error") is None]
    table.write(workdir, rows, config)
    pairs = dict.fromkeys((row["task"], row["base"]) for row in good)
    sections = [_section(task, base, good, config) for task, base in pairs]
    study.write(
        workdir,
        title="Which way of transferring wins?",
        lead=summary(result),
        sections=[*sections, _verdicts(result), *_failed(failures(result))],
        facts={
            "grid": f"{len(config['tasks'])} tasks, {len(config['bases'])} bases, "
            f"{len(config['budgets'])} budgets, {len(config['plans'])} plans, "
            f"{config['seeds']} seeds: {len(rows)} cells",
            "tuning": f"each plan {config['draws']} draws of its own settings, the best on "
            "validation tested once",
            "reference": config["reference"],
            "margin": f"{100 * config['margin']:g} points",
            "metric": config["metric"].replace("_", " "),
        },
        result=result,
    )


def summary(result: dict) -> str:
    """How often each verdict was given, and how many cells failed."""
    verdicts, config = result["verdicts"], result["config"]
    said = [own["verdict"] for own in verdicts]
    counts = ", ".join(f"{said.count(word)} times {word}" for word in WORDS if word in said)
    lines = [f"Beside {config['reference']} at the same budget: {counts or 'nothing to compare'}."]
    for word in WORDS[:2]:
        own = [_where(one) for one in verdicts if one["verdict"] == word]
        if own:
            lines.append(f"{word.capitalize()}: {'; '.join(own[:6])}{', ...' * (len(own) > 6)}.")
    if failed := len(failures(result)):
        lines.append(f"{failed} of {len(result['rows'])} cells failed; --retry tries them again.")
    return " ".join(lines)


def _where(own: dict) -> str:
    return f"{own['plan']} at {_budget(own['budget'])} ({100 * own['difference']:+.1f} points)"


def _budget(budget: int) -> str:
    return f"{budget} a class" if budget else "all labels"


def _section(task: str, base: str, rows: Sequence[dict], config: dict) -> study.Section:
    own = [row for row in rows if (row["task"], row["base"]) == (task, base)]
    budgets, plans = list(config["budgets"]), list(config["plans"])
    column, ratio = TESTED[config["metric"]], overlap(own)

    def values(plan: str, budget: int, name: str) -> list[float]:
        return [row[name] for row in own if (row["plan"], row["budget"]) == (plan, budget)]

    lines, costs, series = [], [], {}
    for plan in plans:
        means = [corrected(values(plan, budget, column), ratio=ratio) for budget in budgets]
        lines.append((plan, *(mean.mean for mean in means)))
        series[plan] = [(mean.mean, mean.half) for mean in means]
        seconds = [corrected(values(plan, b, "seconds"), ratio=0).mean for b in budgets]
        parameters = values(plan, budgets[-1], "trained_parameters")
        costs.append((plan, max(parameters, default=None), *seconds))
    heads = tuple(map(_budget, budgets))
    slug = f"{task}_{base}"
    label = f"{config['metric'].replace('_', ' ')} on test"
    picture = figures.by_plan(heads, series, reference=config["reference"], label=label)
    caption = (
        "By label budget the mean over seeds and its 95 % interval; the vertical line is "
        f"{config['reference']}"
    )
    return study.Section(
        f"{task} from {base}",
        f"Every plan has the same splits, labels and tuning effort. {_chosen(own, config)}",
        (study.Picture(f"budgets_{slug}", caption, picture),),
        (
            study.Table(
                f"test_{slug}", "Test", ("plan", *heads), lines, dict.fromkeys(heads, "%")
            ),
            study.Table(
                f"cost_{slug}", "Parameters trained, and seconds a cell with all its draws",
                ("plan", "parameters", *heads), costs,
            ),
        ),
    )  # fmt: skip


def _chosen(rows: Sequence[dict], config: dict) -> str:
    """Which plan validation chooses at each budget, and what test says of it."""
    column, chosen = TESTED[config["metric"]], []
    for budget in config["budgets"]:
        plans: dict[str, list[dict]] = {}
        for row in rows:
            if row["budget"] == budget:
                plans.setdefault(row["plan"], []).append(row)
        if not plans:
            continue
        best = max(plans, key=lambda plan: np.mean([row["val"] for row in plans[plan]]))
        test = np.mean([row[column] for row in plans[best]])
        chosen.append(f"{best} at {_budget(budget)} ({100 * test:.1f} % on test)")
    return f"The best on validation, as a mean over seeds: {'; '.join(chosen)}."


def _verdicts(result: dict) -> study.Section:
    columns = ("task", "base", "budget", "plan", "difference", "low", "high", "pairs", "verdict",
               "seeds to settle")  # fmt: skip
    names = ("task", "base", "budget", "plan", "difference", "low", "high", "pairs", "verdict",
             "seeds_to_settle")  # fmt: skip
    rows = [tuple(own.get(name) for name in names) for own in result["verdicts"]]
    text = (
        f"Test accuracy less that of {result['config']['reference']} with the same labels, paired "
        "by seed. Intervals allow for splits that overlap (Nadeau & Bengio 2003); verdicts hold "
        "after Holm's correction for all of them, and need five pairs. Seeds to settle: so many "
        "would do if mean and spread stayed; empty where only other data would."
    )
    points = dict.fromkeys(("difference", "low", "high"), "points")
    table = study.Table("verdicts", "Verdicts", columns, rows, points)
    return study.Section("Where transfer helps, and where it hurts", text, (), (table,))


def _failed(rows: Sequence[dict]) -> list[study.Section]:
    columns = ("task", "base", "seed", "budget", "plan", "error")
    lines = [tuple(row.get(c) for c in columns) for row in rows]
    if not lines:
        return []
    table = study.Table("failed", "Cells that failed", columns, lines)
    return [study.Section("What failed", "The others are not touched by it.", (), (table,))]
