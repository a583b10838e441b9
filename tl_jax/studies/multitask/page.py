"""How tasks learned at once are shown: each task beside its own network, and what hides behind."""

import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from tl_jax.report import figures, study
from tl_jax.runs.subject import base_name, task_name
from tl_jax.stats.paired import corrected
from tl_jax.studies.multitask import OWN, PLAIN, SINGLE
from tl_jax.studies.multitask.verdicts import by_seed, delta

WORDS = ("helps", "hurts", "cannot tell")


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    config, rows = result["config"], result["rows"]
    variants = dict.fromkeys(row["variant"] for row in rows)
    sections = [_section(name, result) for name in variants]
    plain = [row for row in rows if row["variant"] == PLAIN]
    sections += [_stopping(plain, config), _choices(plain, config), *_affinity(plain, config)]
    study.write(
        workdir,
        title="Several tasks at once",
        lead=summary(result),
        sections=sections,
        facts={
            "base": base_name(config),
            "further tasks": _classes(result["classes"][PLAIN]),
            "seeds": ", ".join(map(str, config["seeds"])),
            "compute": "every network, for one task or all, makes the same steps",
        },
        result=result,
    )


def summary(result: dict) -> str:
    """Return how often each verdict was given, and each method's mean gain."""
    said = [verdict["verdict"] for verdict in result["verdicts"]]
    counts = ", ".join(f"{word} {said.count(word)}" for word in WORDS if word in said)
    rows = [row for row in result["rows"] if row["variant"] == PLAIN]
    gains = [
        f"{method} {100 * np.mean(delta(rows, method)):+.1f} %"
        for method in dict.fromkeys(row["method"] for row in rows)
        if method != SINGLE
    ]
    return (
        f"Beside a network for each task alone: {counts}. Mean relative gain over tasks: "
        f"{', '.join(gains)}."
    )


def _classes(tasks: dict[str, list[str]]) -> str:
    return "; ".join(f"{name}: {', '.join(classes)}" for name, classes in tasks.items())


def _section(variant: str, result: dict) -> study.Section:
    """Every method beside single tasks in one variant."""
    config = result["config"]
    rows = [row for row in result["rows"] if row["variant"] == variant]
    names, ratio = list(rows[0]["tasks"]), result["overlaps"][variant]
    shown = [_shown(name, config) for name in names]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines, series = [], {}
    for method in methods:
        found = by_seed(rows, method)
        means = [corrected(list(found[name].values()), ratio=ratio) for name in names]
        series[method] = [(mean.mean, mean.half) for mean in means]
        gain = None if method == SINGLE else corrected(delta(rows, method), ratio=ratio)
        parameters = next(row["parameters"] for row in rows if row["method"] == method)
        gains = (gain.mean, gain.half) if gain else (None, None)
        lines.append((method, *(mean.mean for mean in means), *gains, parameters))
    columns = ("method", *shown, "mean gain", "half", "parameters")
    units = dict.fromkeys(shown, "%") | {"mean gain": "%", "half": "points"}
    picture = figures.by_plan(shown, series, reference=SINGLE, label="test accuracy")
    caption = f"By task the mean over seeds and its 95 % interval; the vertical line is {SINGLE}"
    changes = config["variants"].get(variant, {})
    text = "" if not changes else f"As above, but {_said(changes)}. "
    return study.Section(
        "Each task beside its own network" if not changes else f"Condition: {variant}",
        f"{text}Test accuracy by task. The gain is the mean over tasks of (M - B) / B, B the "
        "accuracy of a network for the task alone.",
        (study.Picture(f"tasks_{study.file_name(variant)}", caption, picture),),
        (
            study.Table(f"tasks_{study.file_name(variant)}", "Test", columns, lines, units),
            _verdicts(variant, result),
        ),
    )


def _verdicts(variant: str, result: dict) -> study.Table:
    columns = ("method", "task", "difference", "low", "high", "pairs", "verdict")
    rows = [
        (verdict["method"], _shown(verdict["task"], result["config"]),
         *(verdict[name] for name in columns[2:]))
        for verdict in result["verdicts"]
        if verdict["variant"] == variant
    ]  # fmt: skip
    points = dict.fromkeys(("difference", "low", "high"), "points")
    caption = (
        "Less the network for the task alone, paired by seed; intervals allow for splits that "
        "overlap, and verdicts for their number (Holm)"
    )
    return study.Table(f"verdicts_{study.file_name(variant)}", caption, columns, rows, points)


def _stopping(rows: Sequence[dict], config: dict) -> study.Section:
    """What the choice of one epoch for all costs each task."""
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row["tasks"] for row in rows if row["method"] == method]
        for name in own[0]:
            kept, best = (np.mean([each[name][key] for each in own]) for key in ("val", "best_val"))
            epochs = [np.mean([each[name][key] for each in own]) for key in ("epoch", "best_epoch")]
            lines.append((method, _shown(name, config), *epochs, kept, best, best - kept))
    columns = ("method", "task", "kept epoch", "its best epoch", "val", "val at its best", "lost")
    units = {"val": "%", "val at its best": "%", "lost": "points"}
    return study.Section(
        "What the mean hides",
        "A network for all tasks keeps the epoch with the best mean accuracy on validation. A task "
        "may have been better at another: the mean over seeds.",
        (),
        (study.Table("stopping", "Epochs", columns, lines, units),),
    )


def _choices(rows: Sequence[dict], config: dict) -> study.Section:
    """Which candidates validation chose, and what weights were learned."""
    lines = [
        (row["method"], row["seed"], len(row["tried"]), row["chosen"] or None, *weights)
        for row in rows
        if (weights := list(row["weights"].values())) and any(weights) or row["chosen"]
    ]
    names = [f"weight of {_shown(name, config)}" for name in rows[0]["tasks"]]
    return study.Section(
        "Weights",
        "Static weights are chosen on validation, from equal ones and each task's times a factor; "
        "those of uncertainty and GradNorm are learned, and are means of the kept epoch.",
        (),
        (study.Table("weights", "Weights", ("method", "seed", "tried", "chosen", *names), lines),),
    )


def _mean(values: Iterable[float | None]) -> float:
    """The mean of those that are known; NaN of none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def _affinity(rows: Sequence[dict], config: dict) -> list[study.Section]:
    """How a step on one task changes the loss of another."""
    own = [row for row in rows if row["affinity"]]
    if not own:
        return []
    names = list(own[0]["tasks"])
    values = np.array(
        [[_mean(row["affinity"][f"{i}_{j}"] for row in own) for j in names] for i in names]
    )
    shown = [_shown(name, config) for name in names]
    bound = float(np.nanmax(np.abs(values)))
    picture = figures.heat_map(
        100 * values, shown, shown, label="affinity, %", bounds=(-100 * bound, 100 * bound),
        along=("a step on", "changes the loss of"),
    )  # fmt: skip
    lines = [(name, *line) for name, line in zip(shown, values.tolist(), strict=True)]
    text = (
        "1 - L(after) / L(before) of the task in the column, after a step of "
        f"{config['affinity_step']:g} down the gradient of the task in the row, in the layers that "
        "all share; the mean over all steps of training and over seeds. Above 0 the step helps."
    )
    return [
        study.Section(
            "Which task helps which",
            text,
            (study.Picture("affinity", "Affinity of tasks (Fifty et al. 2021)", picture),),
            (study.Table("affinity", "Affinity", ("a step on", *shown), lines,
                         dict.fromkeys(shown, "%")),),
        )
    ]  # fmt: skip


def _shown(name: str, config: dict) -> str:
    return task_name(config["task"]) if name == OWN else name


def _said(changes: dict, above: str = "") -> str:
    parts = []
    for name, value in changes.items():
        inner = isinstance(value, dict)
        parts.append(_said(value, f"{above}{name}.") if inner else f"{above}{name} is {value}")
    return ", ".join(parts)
