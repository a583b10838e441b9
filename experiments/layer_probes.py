"""What does each layer of a base hold that a simple classifier can use, and with how many labels?

    python -m experiments.layer_probes --config=configs/layer_probes.py

Finished cells (a layer, a budget, a seed) are kept: the same command again goes on with the rest.
"""

import collections
import concurrent.futures
import os
import pathlib
import time

from absl import flags

from experiments import cli, study

flags.adopt_module_key_flags(study)

PROBES = {
    "ridge": "ridge",
    "logistic": "logistic regression",
    "linear_svm": "linear SVM",
    "rbf_svm": "RBF SVM",
    "neighbours": "nearest neighbours",
    "class_means": "nearest class mean",
}
METRICS = {"test": "accuracy", "test_weighted": "weighted_accuracy"}
ROOM = 2**24  # numbers of features, of several seeds, that a thread has before it at once


def work(config, workdir: pathlib.Path, name: str) -> dict:
    """Every probe at every layer, and the report."""
    from tl_jax.measure.features import of_layers
    from tl_jax.runs import results
    from tl_jax.runs.journal import Journal

    started = time.time()
    base, sets = study.base_of(config), examples(config)
    task = sets[config.budgets[0], config.seeds[0]][0]
    options = {"pool": config.pool, "cache": pathlib.Path(config.cache)}
    features = of_layers(base, task, layers=config.layers or None, **options)
    ready = time.time()
    cells = Journal(workdir / "cells.jsonl")
    fill(cells, config, {name: layer.rows for name, layer in features.items()}, sets)
    shapes = {k: {"shape": list(f.shape), "pooled": list(f.pooled)} for k, f in features.items()}
    result = results.finite(
        {
            "name": name,
            "config": config.to_dict(),
            "layers": shapes,
            "cells": cells.rows(),
            "best": best(Found(config, shapes, cells.rows())),
            "commonest": commonest(sets.values()),
            "published": list(task.published),
            "seconds": {"features": ready - started, "probes": time.time() - ready},
            **results.provenance("layer_probes"),
        }
    )
    report(workdir, result)
    return result


def examples(config) -> dict:
    """For each budget and seed the task and its rows; UserError for what cannot be done."""
    from tl_jax.errors import UserError, unknown
    from tl_jax.measure.probes import protocol

    if not (config.probes and config.budgets and config.seeds):
        raise UserError("a study has at least one probe, one budget and one seed")
    for probe in config.probes:
        if probe not in protocol.PROBES:
            raise unknown("probe", probe, protocol.PROBES)
    tasks = {seed: study.task_of(config, seed) for seed in config.seeds}
    return {
        (budget, seed): (task, protocol.within(task, budget, seed=seed))
        for budget in config.budgets
        for seed, task in tasks.items()
    }


def fill(cells, config, features: dict, sets: dict) -> None:
    """Finish the cells that are missing, a thread for every core; the longest work first."""
    import threadpoolctl
    import tqdm

    from tl_jax import interrupt
    from tl_jax.measure.probes import protocol

    jobs = []
    for layer, rows in features.items():
        at_once = max(1, ROOM // rows.size)
        for budget in config.budgets:
            seeds = [s for s in config.seeds if not cells.get(layer=layer, budget=budget, seed=s)]
            for first in range(0, len(seeds), at_once):
                jobs.append((layer, budget, seeds[first : first + at_once]))

    def size(job) -> int:
        layer, budget, seeds = job
        return features[layer].shape[1] * sum(len(sets[budget, s][1].train) for s in seeds)

    def answers(job) -> list[dict]:
        layer, budget, seeds = job
        return protocol.examine(features[layer], [sets[budget, s] for s in seeds], config.probes)

    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    try:
        with threadpoolctl.threadpool_limits(1):  # the cores are busy with threads already
            running = {pool.submit(answers, job): job for job in sorted(jobs, key=size)[::-1]}
            done = concurrent.futures.as_completed(running)
            for future in tqdm.tqdm(done, "probes", len(jobs), leave=False, delay=5):
                layer, budget, seeds = running[future]
                for seed, probes in zip(seeds, future.result(), strict=True):
                    own = sets[budget, seed][1]
                    row = {"train": len(own.train), "val": len(own.val), "probes": probes}
                    cells.add(row, layer=layer, budget=budget, seed=seed)
                interrupt.check()
    finally:
        pool.shutdown(cancel_futures=True)


class Found:
    """What the cells hold, as arrays over layers and seeds."""

    def __init__(self, config, layers, rows: list[dict]):
        self.layers, self.budgets = list(layers), list(config["budgets"])
        self.probes, self.seeds = list(config["probes"]), list(config["seeds"])
        self._rows = {(row["layer"], row["budget"], row["seed"]): row for row in rows}
        self.most = max(self.budgets, key=lambda budget: self.examples(budget)[0])

    def examples(self, budget: float) -> tuple[int, int]:
        """How many training and validation examples a budget leaves, with the first seed."""
        row = self._rows[self.layers[0], budget, self.seeds[0]]
        return row["train"], row["val"]

    def values(self, budget: float, probe: str, what: str):
        """(L, S) of `val`, `test` or `test_weighted`; NaN where the probe was left out."""
        import numpy as np

        found = [[row.get(what, np.nan) for row in own] for own in self._cells(budget, probe)]
        return np.array(found, np.float64)

    def settings(self, budget: float, probe: str) -> list[list]:
        """For each layer what the seeds chose; empty where the probe was left out."""
        return [[r["setting"] for r in own if r] for own in self._cells(budget, probe)]

    def _cells(self, budget: float, probe: str) -> list[list[dict]]:
        return [
            [self._rows[layer, budget, seed]["probes"].get(probe, {}) for seed in self.seeds]
            for layer in self.layers
        ]


def best(found: Found) -> list[dict]:
    """For each budget and probe the layer of the best mean on validation, and its test there."""
    import numpy as np

    chosen = []
    for budget in found.budgets:
        for probe in found.probes:
            val = found.values(budget, probe, "val")
            if np.isnan(val).any():
                continue
            layer = int(val.mean(1).argmax())
            row = {"budget": budget, "probe": probe, "layer": found.layers[layer]}
            row["val"] = float(val[layer].mean())
            for what in METRICS:
                own = found.values(budget, probe, what)[layer]
                row[what] = float(own.mean())
                row[f"{what}_sd"] = float(own.std(ddof=1)) if len(own) > 1 else None
            chosen.append(row)
    return chosen


def commonest(sets) -> dict[str, float]:
    """The metrics of always answering the class with most weight, mean over seeds and budgets."""
    import numpy as np

    from tl_jax.measure.probes import protocol

    found = collections.defaultdict(list)
    for task, own in sets:
        weights = np.bincount(protocol.taught(task)[own.train], task.weights[own.train])
        answer, graded = weights.argmax(), task.graded_weights[own.test]
        found["test"].append(np.mean(task.labels[own.test] == answer))
        right = task.graded_labels[own.test] == answer
        found["test_weighted"].append(np.average(right, weights=graded))
    return {what: float(np.mean(values)) for what, values in found.items()}


def report(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    from tl_jax.report import study as page

    config = result["config"]
    found = Found(config, result["layers"], result["cells"])
    metric = measured(result)
    page.write(
        workdir,
        title="Probes at every layer",
        lead=_lead(result, found, metric),
        sections=[
            _depth_section(page, result, found, metric),
            _budget_section(page, result, found, metric),
            _layers_section(page, result, found, metric),
        ],
        facts={
            "base": f"{config['base']} ({config['weights'] or 'published weights'})",
            "task": config["task"]["name"],
            "features": f"each layer's output pooled by the rule {config['pool']}",
            "examples": "{:,} to train on, {:,} to choose by".format(*found.examples(found.most)),
            "seeds": ", ".join(map(str, found.seeds)),
            "metric": METRICS[metric].replace("_", " "),
        },
        result=result,
    )


def measured(result: dict) -> str:
    """Weighted accuracy where it is not the same as accuracy."""
    differ = any(best["test"] != best["test_weighted"] for best in result["best"])
    return "test_weighted" if differ else "test"


def _lead(result: dict, found: Found, metric: str) -> str:
    top = _best(result["best"], found.most)
    text = (
        "How much of the answer can a simple classifier read off each layer? "
        f"With all labels it is most for {PROBES[top['probe']]} on {top['layer']}: "
        f"{_percent(top, metric)} on the test split"
    )
    fewest = min(found.budgets, key=found.examples)
    if fewest != found.most:
        least = _best(result["best"], fewest)
        text += (
            f"; with {found.examples(fewest)[0]} training examples for {PROBES[least['probe']]} on "
            f"{least['layer']}: {_percent(least, metric)}"
        )
    return f"{text}. Probe, layer and setting were chosen on validation."


def _best(chosen: list[dict], budget: float) -> dict:
    return max((row for row in chosen if row["budget"] == budget), key=lambda row: row["val"])


def _percent(row: dict, metric: str) -> str:
    from tl_jax.report import text

    spread = row[f"{metric}_sd"]
    return text.percent(row[metric]) + ("" if spread is None else f" ± {100 * spread:.1f}")


def _named(budget: float) -> str:
    return f"{100 * budget:g} %" if budget <= 1 else f"{budget:g} a class"


def _depth_section(page, result: dict, found: Found, metric: str):
    import numpy as np

    from tl_jax.report import figures

    series = {PROBES[p]: found.values(found.most, p, metric) for p in found.probes}
    left_out = [name for name, values in series.items() if np.isnan(values).all()]
    levels = {"commonest class": result["commonest"][metric]}
    for other in result["published"]:
        if other["metric"] == METRICS[metric]:
            levels[f"{other['what']} (published)"] = other["figure"] / 100
    text = (
        "Settings are chosen on validation, then the probe is fitted again on train and validation "
        "together and tested once. Shaded: 95 % interval of the mean over seeds, each with splits "
        "of its own, as far as there are several."
    )
    if left_out:
        text += f"\n\nLeft out, because there are too many examples for it: {', '.join(left_out)}."
    if result["published"]:
        text += "\n\nPublished figures: " + "; ".join(
            f"{o['what']}, {o['figure']} % {o['metric'].replace('_', ' ')} ({o['source']})"
            for o in result["published"]
        )
    picture = figures.against_depth(
        found.layers,
        {name: values for name, values in series.items() if name not in left_out},
        label=f"test {METRICS[metric].replace('_', ' ')}",
        levels=levels,
    )
    return page.Section(
        "Accuracy against depth",
        text,
        (page.Picture(f"Each probe at each layer, {_named(found.most)} of the labels", picture),),
    )


def _budget_section(page, result: dict, found: Found, metric: str):
    import numpy as np

    from tl_jax.report import figures

    shown = "logistic" if "logistic" in found.probes else found.probes[0]
    ordered = sorted(found.budgets, key=found.examples)
    means = np.stack([found.values(b, shown, metric).mean(1) for b in ordered], axis=1)
    pictures = ()
    if np.isfinite(means).any():
        picture = figures.heat_map(
            means,
            found.layers,
            [_named(budget) for budget in ordered],
            label=f"test {METRICS[metric].replace('_', ' ')}",
            bounds=None,
            along=("layer", "labels"),
        )
        pictures = (page.Picture(f"{PROBES[shown]}, mean over seeds", picture),)
    rows = [
        (
            _named(row["budget"]),
            *found.examples(row["budget"]),
            PROBES[row["probe"]],
            row["layer"],
            row["val"],
            row["test"],
            row["test_sd"],
            row["test_weighted"],
            row["test_weighted_sd"],
        )
        for row in sorted(result["best"], key=lambda row: found.examples(row["budget"]))
    ]
    columns = ("labels", "training examples", "validation examples", "probe", "best layer")
    columns += ("validation", "test", "test sd", "weighted test", "weighted test sd")
    return page.Section(
        "Fewer labels",
        "A budget cuts training and validation examples of every class alike, to at least one of "
        "each; the test split stays whole. The best layer is that of the highest mean on "
        "validation, so that with few labels the choice itself is uncertain. sd: standard "
        "deviation over seeds.",
        pictures,
        (page.Table("best_layers", "The layer to choose, by budget and probe", columns, rows),),
    )


def _layers_section(page, result: dict, found: Found, metric: str):
    columns = ["layer", "output", "pooled to", "dimensions"]
    for probe in found.probes:
        columns += [PROBES[probe], f"sd, {PROBES[probe]}"]
    return page.Section(
        "Layer by layer",
        f"Test {METRICS[metric].replace('_', ' ')}, mean and standard deviation over seeds. The "
        "chosen settings are with all labels: the L2 penalty of a mean loss for ridge, logistic "
        "regression and linear SVM; C and width of the RBF SVM; k of nearest neighbours.",
        tables=(
            page.Table(
                "layers",
                f"Every layer with {_named(found.most)} of the labels",
                tuple(columns),
                _of_layers(result, found, found.most, metric),
            ),
            page.Table(
                "settings",
                "What validation chose: the setting in the middle of the seeds'",
                ("layer", *(PROBES[probe] for probe in found.probes)),
                _chosen(found),
            ),
            page.Table(
                "budgets",
                "Every layer with every budget",
                ("labels", *columns),
                [
                    (_named(budget), *row)
                    for budget in found.budgets
                    for row in _of_layers(result, found, budget, metric)
                ],
            ),
        ),
    )


def _of_layers(result: dict, found: Found, budget: float, metric: str) -> list[tuple]:
    import math

    import numpy as np

    from tl_jax.runs import results

    figures = []
    for probe in found.probes:
        values = found.values(budget, probe, metric)
        several = values.shape[1] > 1
        figures += [values.mean(1), values.std(1, ddof=1) if several else values[:, 0] * np.nan]
    rows = []
    for (name, own), line in zip(result["layers"].items(), np.transpose(figures), strict=True):
        shape, pooled = (" × ".join(map(str, own[k])) for k in ("shape", "pooled"))
        dimensions = math.prod(own["pooled"])
        rows.append((name, shape, pooled, dimensions, *results.finite(line.tolist())))
    return rows


def _chosen(found: Found) -> list[tuple]:
    columns = [found.settings(found.most, probe) for probe in found.probes]
    return [
        (layer, *(_middle(own) for own in line))
        for layer, line in zip(found.layers, zip(*columns, strict=True), strict=True)
    ]


def _middle(settings: list):
    """Of numbers the lower median, of pairs the commonest."""
    if not settings or settings[0] is None:
        return None
    if isinstance(settings[0], list):
        pair = collections.Counter(map(tuple, settings)).most_common(1)[0][0]
        return ", ".join(f"{x:g}" for x in pair)
    return sorted(settings)[(len(settings) - 1) // 2]


def _shown(result: dict) -> str:
    """The layers of the largest budget, and what to choose."""
    found, metric = Found(result["config"], result["layers"], result["cells"]), measured(result)
    lines = [f"{METRICS[metric]:18}" + "".join(f"{probe:>13}" for probe in found.probes)]
    means = [found.values(found.most, probe, metric).mean(1) for probe in found.probes]
    for layer, line in zip(found.layers, zip(*means, strict=True), strict=True):
        lines.append(f"{layer:18}" + "".join(f"{100 * x:13.1f}" for x in line))
    for budget in sorted(found.budgets, key=found.examples):
        row = _best(result["best"], budget)
        examples = f"{_named(budget)} ({found.examples(budget)[0]} examples)"
        lines.append(f"{examples:28}{row['probe']} on {row['layer']}: {_percent(row, metric)}")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(study.main(work, example="configs/layer_probes.py", shown=_shown))
