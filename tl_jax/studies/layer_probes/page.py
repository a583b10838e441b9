"""The page of probes: accuracy against depth, with fewer labels, and layer by layer."""

import collections
import itertools
import math
import pathlib

import numpy as np

from tl_jax.data import views
from tl_jax.report import figures, study, text
from tl_jax.runs.results import finite
from tl_jax.runs.subject import base_name, task_name
from tl_jax.stats.verdict import LEAST_PAIRS
from tl_jax.studies.layer_probes import METRICS
from tl_jax.studies.layer_probes.grid import ProbeGrid

PROBES = {
    "ridge": "ridge",
    "logistic": "logistic regression",
    "linear_svm": "linear SVM",
    "rbf_svm": "RBF SVM",
    "neighbours": "nearest neighbours",
    "class_means": "nearest class mean",
}


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    config, grid, metric = result["config"], _grid(result), metric_of(result)
    train, val = grid.examples(grid.largest)
    study.write(
        workdir,
        title="Probes at every layer",
        lead=_lead(result, grid, metric),
        sections=[
            depth(result),
            _budgets(result, grid, metric),
            _certainty(result, grid, metric),
            _layers(result, grid, metric),
        ],
        facts={
            "base": base_name(config),
            "task": task_name(config["task"]),
            "features": f"each layer's output pooled by the rule {config['pool']}",
            "views": _views(config["views"]),
            "examples": f"{train:,} to train on, {val:,} to choose by",
            "seeds": ", ".join(map(str, grid.seeds)),
            "metric": METRICS[metric].replace("_", " "),
        },
        result=result,
    )


def summary(result: dict) -> str:
    """Return accuracies of every layer with the largest budget, and the best layer by budget."""
    grid, metric = _grid(result), metric_of(result)
    lines = [f"{METRICS[metric] + ', %':22}" + "".join(f"{probe:>13}" for probe in grid.probes)]
    means = [grid.values(grid.largest, probe, metric).mean(1) for probe in grid.probes]
    for layer, line in zip(grid.layers, zip(*means, strict=True), strict=True):
        lines.append(f"{layer:22}" + "".join(f"{100 * x:13.1f}" for x in line))
    if result["config"]["views"] != "none":
        lines.append(f"views: {_views(result['config']['views'])}")
    for budget in sorted(grid.budgets, key=grid.examples):
        row = _best(result["best"], budget)
        examples = f"{_named(budget)} ({grid.examples(budget)[0]:,} examples)"
        sure = f"{_percent(row, metric)}; {_sure(row, grid, metric)}"
        lines.append(f"{examples:28}{row['probe']} on {row['layer']}: {sure}")
    return "\n".join([*lines, *_at_edges(result["best"])])


def _views(name: str) -> str:
    count = len(views.numbers(name))
    if count == 1:
        return "none: each example as it is"
    return f"{count} of each image ({name}), the decision is their mean"


def _sure(row: dict, grid: ProbeGrid, metric: str) -> str:
    """Return how sure it is that a layer is the best one for its probe and budget."""
    others, seeds = len(grid.layers) - 1, len(grid.seeds)
    if not others:
        return "the only layer"
    if seeds < LEAST_PAIRS:
        verdict = f"it takes {LEAST_PAIRS} seeds to tell layers apart"
    elif len(row[f"{metric}_above"]) == others:
        verdict = f"better than all {others} other layers"
    else:
        undecided = len(_undecided(row, grid, metric))
        verdict = f"not told apart from {undecided} of {others} other layers"
        if below := len(row[f"{metric}_below"]):
            verdict += f", and worse than {below}"
    share = f"{row['seeds']:.2g} of {seeds} seeds"
    return f"best layer on validation in {share}, ties shared; {verdict}"


def _at_edges(chosen: list[dict]) -> list[str]:
    """Return a sentence on penalties at the ends of the grid, if any were chosen."""
    known = [row for row in chosen if row["strongest"] is not None]
    strongest, weakest, cells = (
        sum(r[k] for r in known) for k in ("strongest", "weakest", "cells")
    )
    if not strongest + weakest:
        return []
    return [
        f"Of {cells:,} chosen penalties {strongest:,} are the strongest and {weakest:,} the "
        "weakest of their grids. The strongest leaves next to no weights, so the features do not "
        "help there. Beyond the weakest little changes, because the classes are separated."
    ]


def _grid(result: dict) -> ProbeGrid:
    return ProbeGrid(result["config"], result["layers"], result["cells"])


def metric_of(result: dict) -> str:
    """Return the metric to show: weighted accuracy where it differs from accuracy."""
    differ = any(best["test"] != best["test_weighted"] for best in result["best"])
    return "test_weighted" if differ else "test"


def _lead(result: dict, grid: ProbeGrid, metric: str) -> str:
    words = "How accurate is a simple classifier on the features of each layer?"
    fewest = min(grid.budgets, key=grid.examples)
    for budget in dict.fromkeys((grid.largest, fewest)):
        top, candidates = _best(result["best"], budget), len(grid.layers) * len(grid.probes)
        words += (
            f" With {grid.examples(budget)[0]:,} training examples validation chooses "
            f"{PROBES[top['probe']]} on {top['layer']} from {candidates} candidates: "
            f"{_percent(top, metric)} on the test split ({_sure(top, grid, metric)})."
        )
    return words


def _best(chosen: list[dict], budget: float) -> dict:
    return max((row for row in chosen if row["budget"] == budget), key=lambda row: row["val"])


def _percent(row: dict, metric: str) -> str:
    spread = row[f"{metric}_sd"]
    return text.percent(row[metric]) + ("" if spread is None else f" (sd {100 * spread:.1f})")


def _named(budget: float) -> str:
    return f"{100 * budget:g} %" if budget <= 1 else f"{budget:g} a class"


def depth(result: dict) -> study.Section:
    """Return the section that shows each probe's accuracy at every layer, with all labels."""
    grid, metric = _grid(result), metric_of(result)
    series = {PROBES[p]: grid.values(grid.largest, p, metric) for p in grid.probes}
    left_out = [name for name, values in series.items() if np.isnan(values).all()]
    levels = {"commonest class": result["commonest"][metric]}
    for other in result["published"]:
        if other["metric"] == METRICS[metric]:
            levels[f"{other['what']} (published)"] = other["figure"] / 100
    words = (
        "Settings are chosen on validation: penalties by the probe's own loss, other settings by "
        "accuracy. Then the probe is refitted on train and validation together and tested once. "
        "Shaded: the 95 % interval of the mean over seeds, if there are several. If each seed "
        "draws its own splits from one dataset, these overlap, and the interval is widened for it "
        "(Nadeau & Bengio 2003)."
    )
    if result["config"]["views"] != "none":
        words += (
            " A probe learns from all views of an image, and its decision is the mean over them: "
            "of the outputs if it is linear, else a vote."
        )
    if "neighbours" in grid.probes:
        words += " Nearest neighbours are nearest by the cosine of centred features."
    if left_out:
        words += f"\n\nLeft out because there are too many examples: {', '.join(left_out)}."
    if result["published"]:
        words += "\n\nPublished figures: " + "; ".join(
            f"{o['what']}, {o['figure']} % {o['metric'].replace('_', ' ')} ({o['source']})"
            for o in result["published"]
        )
    picture = figures.against_depth(
        grid.layers,
        {name: values for name, values in series.items() if name not in left_out},
        label=f"test {METRICS[metric].replace('_', ' ')}",
        levels=levels,
        ratio=result["overlap"],
    )
    return study.Section(
        "Accuracy against depth",
        words,
        (
            study.Picture(
                "depth", f"Each probe at each layer, {_named(grid.largest)} of the labels", picture
            ),
        ),
    )


def _budgets(result: dict, grid: ProbeGrid, metric: str) -> study.Section:
    shown = "logistic" if "logistic" in grid.probes else grid.probes[0]
    ordered = sorted(grid.budgets, key=grid.examples)
    means = np.stack([grid.values(b, shown, metric).mean(1) for b in ordered], axis=1)
    pictures = ()
    if np.isfinite(means).any():
        bounds = float(np.nanmin(means)), float(np.nanmax(means))
        picture = figures.heat_map(
            means,
            grid.layers,
            [_named(budget) for budget in ordered],
            label=f"test {METRICS[metric].replace('_', ' ')}",
            bounds=bounds,
            unit="%",
            along=("layer", "labels"),
        )
        scale = " (white) to ".join(map(text.percent, bounds))
        words = f"{PROBES[shown]}, mean over seeds, from {scale} (darkest)"
        pictures = (study.Picture("layers_and_labels", words, picture),)
    tested = {"val": "validation", "test": "test", "test_sd": "test sd"}
    if metric == "test_weighted":
        tested |= {"test_weighted": "weighted test", "test_weighted_sd": "weighted test sd"}
    rows = [
        (
            _named(row["budget"]),
            *grid.examples(row["budget"]),
            PROBES[row["probe"]],
            row["layer"],
            *(row[name] for name in tested),
        )
        for row in sorted(result["best"], key=lambda row: grid.examples(row["budget"]))
    ]
    columns = ("labels", "training examples", "validation examples", "probe", "best layer")
    return study.Section(
        "Fewer labels",
        "A budget cuts the training and validation examples of every class by the same share, but "
        "leaves at least one of each; the test split stays whole. The best layer has the highest "
        "mean on validation, so with few labels the choice itself is uncertain. sd: standard "
        "deviation over seeds.",
        pictures,
        (
            study.Table(
                "best_layers",
                "The layer to choose, by budget and probe",
                (*columns, *tested.values()),
                rows,
                {c: "points" if c.endswith("sd") else "%" for c in tested.values()},
            ),
        ),
    )


def _certainty(result: dict, grid: ProbeGrid, metric: str) -> study.Section:
    rows = [
        (
            _named(row["budget"]),
            PROBES[row["probe"]],
            row["layer"],
            row["seeds"],
            len(grid.seeds),
            len(row[f"{metric}_above"]),
            len(row[f"{metric}_below"]),
            row["cells"],
            row["strongest"],
            row["weakest"],
            " ".join(_undecided(row, grid, metric)),
        )
        for row in sorted(result["best"], key=lambda row: grid.examples(row["budget"]))
    ]
    columns = ("labels", "probe", "best layer", "best in seeds", "of seeds", "told above")
    columns += ("told below", "cells", "strongest penalty", "weakest penalty", "not told from")
    words = (
        "The table counts the seeds where the layer is the best on validation (ties are shared). "
        "It counts the other layers that the layer is above or below on the test split, and names "
        "those that cannot be told apart from it. Tests are two-sided t tests at 5 % of "
        "differences paired by seed, widened if splits overlap (Nadeau & Bengio 2003), after "
        f"Holm's correction for the number of layers; fewer than {LEAST_PAIRS} seeds decide "
        "nothing. Last, it counts the cells (a layer, a seed) that chose the first or the last "
        "penalty of their grid."
    )
    table = study.Table("how_sure", "The choice of a layer, and of penalties", columns, rows)
    told = [words, *_twins(grid, metric), *_at_edges(result["best"])]
    return study.Section("How sure the choice is", "\n\n".join(told), (), (table,))


def _twins(grid: ProbeGrid, metric: str) -> list[str]:
    """Return a sentence on layers of which every probe says the same, if there are any: features
    that are the same once they are pooled.
    """
    cells = [(budget, probe) for budget in grid.budgets for probe in grid.probes]
    every = np.concatenate([grid.values(*cell, metric) for cell in cells], axis=1)
    pairs = itertools.combinations(zip(grid.layers, every, strict=True), 2)
    alike = [f"{b} as {a}" for (a, one), (b, other) in pairs if np.array_equal(one, other)]
    if not alike:
        return []
    return [f"The same once pooled: {', '.join(alike)}. Such layers share the seeds that they win."]


def _undecided(row: dict, grid: ProbeGrid, metric: str) -> list[str]:
    """Return the layers that are not told apart from a best layer."""
    decided = {row["layer"], *row[f"{metric}_above"], *row[f"{metric}_below"]}
    return [name for name in grid.layers if name not in decided]


def _settings(grid: ProbeGrid) -> str:
    """What the probes' settings are."""
    linear = [PROBES[p] for p in ("ridge", "logistic", "linear_svm") if p in grid.probes]
    told = [f"the L2 penalty of a mean loss for {', '.join(linear)}"] if linear else []
    own = {"rbf_svm": "C and width of the RBF SVM", "neighbours": "k of nearest neighbours"}
    told += [words for probe, words in own.items() if probe in grid.probes]
    return "; ".join(told) or "nearest class means have none"


def _layers(result: dict, grid: ProbeGrid, metric: str) -> study.Section:
    columns = ["layer", "output", "pooled to", "dimensions"]
    units = {}
    for probe in grid.probes:
        columns += [PROBES[probe], f"sd, {PROBES[probe]}"]
        units |= {PROBES[probe]: "%", f"sd, {PROBES[probe]}": "points"}
    return study.Section(
        "Layer by layer",
        f"Test {METRICS[metric].replace('_', ' ')}, mean and standard deviation over seeds. The "
        f"chosen settings are those with the largest budget: {_settings(grid)}.",
        tables=(
            study.Table(
                "layers",
                f"Every layer with {_named(grid.largest)} of the labels",
                tuple(columns),
                _layer_rows(result, grid, grid.largest, metric),
                units,
            ),
            study.Table(
                "settings",
                "Settings that validation chose: the median over seeds, of pairs the commonest",
                ("layer", *(PROBES[probe] for probe in grid.probes)),
                _chosen_settings(grid),
            ),
            study.Table(
                "budgets",
                "Every layer with every budget",
                ("labels", *columns),
                [
                    (_named(budget), *row)
                    for budget in grid.budgets
                    for row in _layer_rows(result, grid, budget, metric)
                ],
                units,
            ),
        ),
    )


def _layer_rows(result: dict, grid: ProbeGrid, budget: float, metric: str) -> list[tuple]:
    """Return a row for each layer: name, shapes, and each probe's mean and deviation over seeds."""
    columns = []
    for probe in grid.probes:
        values = grid.values(budget, probe, metric)
        several = values.shape[1] > 1
        columns += [values.mean(1), values.std(1, ddof=1) if several else values[:, 0] * np.nan]
    rows = []
    for (name, shapes), line in zip(result["layers"].items(), np.transpose(columns), strict=True):
        shape, pooled = (" × ".join(map(str, shapes[k])) for k in ("shape", "pooled"))
        dimensions = math.prod(shapes["pooled"])
        rows.append((name, shape, pooled, dimensions, *finite(line.tolist())))
    return rows


def _chosen_settings(grid: ProbeGrid) -> list[tuple]:
    columns = [grid.settings(grid.largest, probe) for probe in grid.probes]
    return [
        (layer, *(_middle(settings) for settings in line))
        for layer, line in zip(grid.layers, zip(*columns, strict=True), strict=True)
    ]


def _middle(settings: list):
    """Return the lower median of numbers, or the commonest of pairs."""
    if not settings or settings[0] is None:
        return None
    if isinstance(settings[0], list):
        pair = collections.Counter(map(tuple, settings)).most_common(1)[0][0]
        return ", ".join(f"{x:g}" for x in pair)
    return sorted(settings)[(len(settings) - 1) // 2]
