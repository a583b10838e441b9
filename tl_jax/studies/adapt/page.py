"""How the study is shown: four columns for each method, the rules that choose, where it hurts."""

import pathlib
from collections.abc import Mapping

from tl_jax.report import figures, study
from tl_jax.report.text import percent
from tl_jax.runs.results import failures
from tl_jax.runs.subject import task_name
from tl_jax.stats.intervals import over_seeds
from tl_jax.stats.paired import overlap_of_rows
from tl_jax.stats.verdict import CANNOT_TELL
from tl_jax.studies.adapt import SOURCE_ONLY, choices

FOUR = ("source only", "chosen without labels", "chosen by an oracle", "trained on target labels")
KEYS = ("source", "chosen", "oracle", "target")  # of a line of `choices.table`, in this order
RULES = ("rank_correlation", "rank_half", "regret", "regret_half", "below_source", "seeds")


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    config, tasks = result["config"], result["config"]["tasks"]
    study.write(
        workdir,
        title="Does adaptation help where nobody has labels?",
        lead=summary(result),
        sections=[
            _methods(result),
            _rules(result),
            _negative(result),
            _cells(result),
            *_failed(result),
        ],
        facts={
            **{domain: _task(tasks[domain]) for domain in ("source", "target")},
            "base": ", ".join(filter(None, (config["base"], config["weights"]))),
            "tuning": f"draws of each method's settings: {config['draws']}; their last epoch",
            "seeds": ", ".join(map(str, config["seeds"])),
            "rule of the verdicts": config["rule"].replace("_", " "),
        },
        result=result,
    )


def summary(result: dict) -> str:
    """Return the four figures of the choice among all methods, and which help and hurt."""
    rule = result["config"]["rule"]
    lines = [
        line
        for line in result["table"]
        if (line["method"], line["rule"]) == (choices.ANY, rule) and line["chosen"]
    ]
    if not lines:
        return "Nothing to compare: no seed has all its cells."
    source, chosen, oracle, target = (percent(_mean(lines[0][key])) for key in KEYS)
    said = [
        f"{v['method']} {v['verdict']} ({100 * v['difference']:+.1f} points)"
        for v in result["verdicts"]
        if v["verdict"] != CANNOT_TELL
    ]
    if rest := len(result["verdicts"]) - len(said):
        said.append(f"{CANNOT_TELL} {rest} of {len(result['verdicts'])}")
    failed = len(failures(result))
    more = f" {failed} cells failed; --retry tries them again." if failed else ""
    return (
        f"Test accuracy on the target: source only {source}; any method, chosen by "
        f"{rule.replace('_', ' ')} without target labels, {chosen}; chosen by an oracle {oracle}; "
        f"trained on target labels {target}. Beside source only: {'; '.join(said)}.{more}"
    )


def _task(options: Mapping[str, object]) -> str:
    """A task's name and its options."""
    more = ", ".join(f"{k} {v}" for k, v in options.items() if k not in ("name", "val", "test"))
    return f"{task_name(options)}{f' ({more})' if more else ''}"


def _mean(by_seed: Mapping[str, float]) -> float:
    return float(over_seeds(list(by_seed.values()))[0])


def _methods(result: dict) -> study.Section:
    rule, ratio = result["config"]["rule"], overlap_of_rows(result["rows"])
    lines = [line for line in result["table"] if line["chosen"]]
    rows, series = [], {}
    for line in (line for line in lines if line["rule"] == rule):
        rows.append((line["method"], *(_mean(line[key]) for key in KEYS)))
        series[line["method"]] = [
            tuple(map(float, over_seeds(list(line[key].values()), ratio=ratio)))
            for key in ("chosen", "oracle")
        ]
    draws = result["config"]["draws"]
    by_rule = [
        (line["method"], line["rule"].replace("_", " "), *(_mean(line[key]) for key in KEYS))
        for line in lines
        if draws > 1 or line["method"] == choices.ANY
    ]
    compared = ("difference", "low", "high", "pairs", "verdict")
    verdicts = [(one["method"], *(one[name] for name in compared)) for one in result["verdicts"]]
    percents, points = dict.fromkeys(FOUR, "%"), dict.fromkeys(compared[:3], "points")
    text = (
        f"Means over seeds of test accuracy on the target. Without labels the draw is chosen by "
        f"{rule.replace('_', ' ')}; source only, by its own validation split. The oracle chooses "
        "by the target's validation labels, and so does training on target labels: what lies "
        "between these columns nobody has who lacks labels. Differences are those of the choice "
        "without labels from source only, paired by seed; intervals allow for splits that overlap "
        "(Nadeau & Bengio 2003), verdicts hold after Holm's correction, and need five pairs."
    )
    if draws == 1:
        text += " Each method has one draw, so that a rule has a choice among all methods alone."
    names = f"chosen by {rule.replace('_', ' ')}", "chosen by an oracle"
    caption = "Means and 95 % intervals over seeds, cut off at 0 and 100 %"
    drawn = figures.by_plan(names, series, reference=SOURCE_ONLY, label="target test accuracy")
    return study.Section(
        "Each method, with and without labels of the target",
        text,
        (study.Picture("methods", caption, drawn),) if rows else (),
        (
            study.Table("methods", "Four columns", ("method", *FOUR), rows, percents),
            study.Table("verdicts", "Verdicts", ("method", *compared), verdicts, points),
            study.Table(
                "methods_by_rule", "By every rule", ("method", "rule", *FOUR), by_rule, percents
            ),
        ),
    )


def _rules(result: dict) -> study.Section:
    rows = [(line["rule"].replace("_", " "), *map(line.get, RULES)) for line in result["rules"]]
    columns = ("rule", "rank correlation", "± 95 %", "regret", "± 95 % of regret", "below source")
    text = (
        "Each rule chooses among all draws of all methods of a seed, training on target labels "
        "left out. bnm: the nuclear norm of a batch's predictions; snd: soft neighbourhood "
        "density; iwcv: importance-weighted validation; dev, devn: the same with a control "
        "variate, and with normalised weights; class ami: how predicted classes agree with "
        "clusters of features. Rank correlation: Spearman's, "
        "of the rule with target test accuracy. Regret: what the choice loses against the "
        "oracle's. Below source: seeds in which it ends below source only. Entropy and soft "
        "neighbourhood density reward a collapse on one class, infomax and the nuclear norm assume "
        "classes of equal size, and whoever looks at the source alone does not see the target."
    )
    units = {"regret": "points", "± 95 % of regret": "points"}
    shown = study.Table("rules", "Rules without labels", (*columns, "seeds"), rows, units)
    return study.Section("Which rule chooses well", text, (), (shown,))


def _negative(result: dict) -> study.Section:
    columns = ("method", "cells", "below source only", "lowest", "highest")
    names = ("method", "cells", "below_source", "lowest", "highest")
    rows = [tuple(line[name] for name in names) for line in result["negative"]]
    units = {"lowest": "%", "highest": "%"}
    shown = study.Table("negative", "Target test accuracy of all draws", columns, rows, units)
    text = (
        "Every cell counts, whatever settings were drawn: so often a method ends below source only "
        "with the same seed. The row of source_only shows what the draw alone does."
    )
    return study.Section("Negative adaptation", text, (), (shown,))


def _cells(result: dict) -> study.Section:
    rules = result["config"]["validators"]
    accuracies = ("source_val", "target_val", "target_test")
    columns = ("method", "seed", "draw", "settings", *(a.replace("_", " ") for a in accuracies))
    rows = [
        (*(row[name] for name in ("method", "seed", "draw")), _settings(row["settings"]))
        + (*(row[name] for name in accuracies), *(row["validators"][rule] for rule in rules))
        for row in result["rows"]
        if row.get("error") is None
    ]
    units = {name.replace("_", " "): "%" for name in accuracies}
    heads = (*columns, *(f"by {rule.replace('_', ' ')}" for rule in rules))
    shown = study.Table("cells", "Every cell, and what each rule says of it", heads, rows, units)
    return study.Section("Cells", "", (), (shown,))


def _settings(values: Mapping[str, object]) -> str:
    """The settings that were drawn, numbers with three digits."""
    shown = (f"{v:.3g}" if isinstance(v, float) else str(v) for v in values.values())
    return ", ".join(f"{name}={value}" for name, value in zip(values, shown, strict=True))


def _failed(result: dict) -> list[study.Section]:
    columns = ("method", "seed", "draw", "error")
    rows = [tuple(row[column] for column in columns) for row in failures(result)]
    if not rows:
        return []
    shown = study.Table("failed", "Cells that failed", columns, rows)
    return [study.Section("What failed", "The others are not touched by it.", (), (shown,))]
