"""How scenarios are shown: accuracy over the label budget by plan, verdicts, cost, every cell."""

import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from tl_jax.report import figures, study
from tl_jax.runs.results import failures
from tl_jax.stats.paired import corrected, overlap_of_rows
from tl_jax.studies.scenarios import table
from tl_jax.studies.scenarios.verdicts import TESTED

WORDS = ("helps", "hurts", "cannot tell")
PREPOSITIONS = {"task": "of", "base": "from"}
NAMED = 6  # scenarios in the summary, for a verdict


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page, its tables, and every cell as cells.csv and, with pyarrow, cells.parquet."""
    config, rows = result["config"], result["rows"]
    good = [row for row in rows if row.get("error") is None]
    table.write(workdir, rows, config)
    pairs = _file_names(good)
    sections = [_section(*pair, good, config, name) for pair, name in pairs.items()]
    study.write(
        workdir,
        title="Which way of transferring wins?",
        lead=summary(result),
        sections=[*sections, _verdicts(result), *_failed(failures(result))],
        facts={
            "grid": f"{len(config['tasks'])} × {len(config['bases'])} × {len(config['budgets'])} × "
            f"{len(config['plans'])} × {config['seeds']} (tasks, bases, budgets, plans, seeds): "
            f"{len(rows)} cells",
            "tuning": _tuning(config),
            "reference": config["reference"],
            "margin": f"{100 * config['margin']:g} points",
            "metric": config["metric"].replace("_", " "),
        },
        result=result,
    )


def summary(result: dict) -> str:
    """How often each verdict was given, and how many cells failed."""
    verdicts, config = result["verdicts"], result["config"]
    words = [verdict["verdict"] for verdict in verdicts]
    counts = ", ".join(f"{word} {words.count(word)}" for word in WORDS if word in words)
    lines = [f"Beside {config['reference']} at the same budget: {counts or 'nothing to compare'}."]
    for word in WORDS[:2]:
        where = [_where(verdict, config) for verdict in verdicts if verdict["verdict"] == word]
        if where:
            more = ", ..." * (len(where) > NAMED)
            lines.append(f"{word.capitalize()}: {'; '.join(where[:NAMED])}{more}.")
    if failed := len(failures(result)):
        lines.append(f"{failed} of {len(result['rows'])} cells failed; --retry tries them again.")
    return " ".join(lines)


def _where(verdict: dict, config: dict) -> str:
    """Plan, budget and difference; of several tasks and bases also which."""
    several = [part for part in ("task", "base") if len(config[f"{part}s"]) > 1]
    words = [verdict["plan"], "at", _budget(verdict["budget"])]
    words += [f"{PREPOSITIONS[part]} {verdict[part]}" for part in several]
    return f"{' '.join(words)} ({100 * verdict['difference']:+.1f} points)"


def _tuning(config: dict) -> str:
    """How many settings of each plan were tried."""
    spaces = {name: plan.get("space") for name, plan in config["plans"].items()}
    grids = {name: space for name, space in spaces.items() if isinstance(space, list | tuple)}
    words = [f"{name} a grid of {len(grid)} settings" for name, grid in grids.items()]
    if len(grids) < len(spaces):
        other = "each other plan" if grids else "each plan"
        draws = "draws" if config["draws"] > 1 else "draw"
        words.append(f"{other} {config['draws']} {draws} of its own settings")
    if any("probe" in plan for plan in config["plans"].values()):
        words.append("probes choose their penalty")
    return f"{', '.join(words)}; the best on validation tested once"


def _budget(budget: int) -> str:
    return f"{budget} a class" if budget else "all labels"


def _file_names(rows: Sequence[dict]) -> dict[tuple[str, str], str]:
    """Return for each task and base what its files are called, no two the same."""
    names: dict[tuple[str, str], str] = {}
    for pair in dict.fromkeys((row["task"], row["base"]) for row in rows):
        name = study.file_name("_".join(pair))
        names[pair] = f"{name}_{len(names)}" if name in names.values() else name
    return names


def _section(
    task: str, base: str, rows: Sequence[dict], config: dict, file_name: str
) -> study.Section:
    rows = [row for row in rows if (row["task"], row["base"]) == (task, base)]
    budgets, column = list(config["budgets"]), TESTED[config["metric"]]
    plans, ratio = _ordered(rows, config["plans"], column), overlap_of_rows(rows)

    def values(plan: str, budget: int, name: str) -> list[float]:
        return [row[name] for row in rows if (row["plan"], row["budget"]) == (plan, budget)]

    lines, costs, series = [], [], {}
    for plan in plans:
        means = [corrected(values(plan, budget, column), ratio=ratio) for budget in budgets]
        lines.append((plan, *(mean.mean for mean in means)))
        series[plan] = [(mean.mean, mean.half) for mean in means]
        seconds = [float(np.median(values(plan, b, "seconds") or [np.nan])) for b in budgets]
        parameters = [row["trained_parameters"] for row in rows if row["plan"] == plan]
        costs.append((plan, max(parameters, default=None), *seconds))
    heads = tuple(map(_budget, budgets))
    label = f"{config['metric'].replace('_', ' ')} on test"
    picture = figures.by_plan(heads, series, reference=config["reference"], label=label)
    caption = (
        "By label budget the mean over seeds and its 95 % interval, cut off at 0 and 100 %; the "
        "vertical line is "
        f"{config['reference']}"
    )
    return study.Section(
        f"{task} from {base}",
        f"Every plan has the same splits and labels. {_chosen(rows, config)}",
        (study.Picture(f"budgets_{file_name}", caption, picture),),
        (
            study.Table(
                f"test_{file_name}", "Test", ("plan", *heads), lines, dict.fromkeys(heads, "%")
            ),
            study.Table(
                f"cost_{file_name}",
                "Parameters trained, and seconds a cell took with all its draws, the median (the "
                "first cell stores features for all)",
                ("plan", "parameters", *heads), costs,
            ),
        ),
    )  # fmt: skip


def _ordered(rows: Sequence[dict], plans: Iterable[str], column: str) -> list[str]:
    """The plans, the best mean over all budgets first."""
    figures_of = {plan: [row[column] for row in rows if row["plan"] == plan] for plan in plans}
    return sorted(plans, key=lambda plan: -np.mean(figures_of[plan] or [0.0]))


def _chosen(rows: Sequence[dict], config: dict) -> str:
    """Which plan validation chooses at each budget, and what test says of it.

    Among the plans that have all seeds: of one whose cells failed the mean is over other splits.
    """
    column, chosen = TESTED[config["metric"]], []
    for budget in config["budgets"]:
        plans: dict[str, list[dict]] = {}
        for row in rows:
            if row["budget"] == budget:
                plans.setdefault(row["plan"], []).append(row)
        most = max(map(len, plans.values()), default=0)
        val = {
            plan: np.mean([row["val"] for row in of_plan])
            for plan, of_plan in plans.items()
            if len(of_plan) == most
        }
        if val:
            best = max(val, key=lambda plan: val[plan])
            tied = [plan for plan in val if np.isclose(val[plan], val[best])]
            test = np.mean([row[column] for plan in tied for row in plans[plan]])
            by = f"{100 * test:.1f} % on test, chosen by {plans[best][0]['n_val']:,} examples"
            chosen.append(f"{' or '.join(tied)} at {_budget(budget)} ({by})")
    return f"The best on validation, as a mean over seeds: {'; '.join(chosen)}."


def _verdicts(result: dict) -> study.Section:
    names = ("task", "base", "budget", "plan", "difference", "low", "high", "pairs", "verdict",
             "seeds_to_settle")  # fmt: skip
    columns = tuple(name.replace("_", " ") for name in names)
    told = [verdict | {"budget": _budget(verdict["budget"])} for verdict in result["verdicts"]]
    rows = [tuple(verdict.get(name) for name in names) for verdict in told]
    metric = result["config"]["metric"].replace("_", " ")
    text = (
        f"Test {metric} less that of {result['config']['reference']} with the same labels, paired "
        "by seed. Intervals allow for splits that overlap (Nadeau & Bengio 2003); verdicts hold "
        "after Holm's correction for all of them, and need five pairs. Seeds to settle: so many "
        "would do, whatever the other verdicts, if mean and spread stayed; none are named where "
        "the verdict is there already, or where only other data would do."
    )
    points = dict.fromkeys(("difference", "low", "high"), "points")
    shown = study.Table("verdicts", "Verdicts", columns, rows, points)
    return study.Section("Where transfer helps, and where it hurts", text, (), (shown,))


def _failed(rows: Sequence[dict]) -> list[study.Section]:
    columns = ("task", "base", "seed", "budget", "plan", "error")
    if not rows:
        return []
    lines = [tuple(row[column] for column in columns) for row in rows]
    shown = study.Table("failed", "Cells that failed", columns, lines)
    return [study.Section("What failed", "The others are not touched by it.", (), (shown,))]
