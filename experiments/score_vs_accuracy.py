"""How well transferability scores rank bases and cuts by what transfer really gives.

    python -m experiments.score_vs_accuracy --config=configs/score_vs_accuracy.py

A candidate is a base cut at a layer. For each: the scores on its features of the training split;
and its accuracy on the test split, with a linear head on frozen features and after fine-tuning.
Then how well each score agrees with each accuracy. The same command again goes on after the last
finished candidate.
"""

import functools
import pathlib
import shutil
import time

from absl import flags

from experiments import cli, study

flags.adopt_module_key_flags(study)

ACCURACIES = {"head": "linear head", "fine_tuned": "fine-tuned"}
ON_SOURCE = ("LEEP", "NCE")  # of the base's own predictions, so that all its cuts have the same
# Weighted tau over bases with ImageNet weights, ranked by their accuracy after fine-tuning
PUBLISHED = {
    "source": "TLlib, examples/task_adaptation/image_classification ranking tables",
    "columns": ("H-score", "LEEP", "LogME", "NCE"),
    "rows": {
        "FGVC Aircraft": (0.664, -0.264, 0.595, 0.002),
        "Caltech-101": (0.721, 0.127, 0.697, 0.810),
        "CIFAR-10": (0.800, 0.638, 0.785, 0.714),
        "CIFAR-100": (0.775, 0.659, 0.790, 0.654),
        "Oxford Pets": (0.425, -0.143, 0.502, 0.119),
        "Stanford Cars": (0.638, 0.703, 0.654, 0.750),
        "SUN397": (0.918, 0.581, 0.748, 0.873),
        "DTD": (0.416, -0.004, 0.550, 0.083),
    },
}


def work(config, workdir: pathlib.Path, name: str) -> dict:
    """Scores and accuracies of all candidates, what agrees with what, and the report."""
    from tl_jax.runs import results
    from tl_jax.runs.journal import Journal

    started = time.time()
    require_layers(config)
    cells = Journal(workdir / "cells.jsonl")
    for seed in config.seeds:
        for called in config.bases:
            measure(config, called, seed, cells, workdir / "runs")
    rows = cells.rows()
    result = results.finite(
        {
            "name": name,
            "config": config.to_dict(),
            "candidates": rows,
            "agreement": agreements(rows, config.resamples),
            "seconds": time.time() - started,
            **results.provenance("score_vs_accuracy"),
        }
    )
    report(workdir, result)
    return result


def require_layers(config) -> None:
    """UserError, before hours of work, if a base has no such cut, or nothing below it to tune."""
    for own in config.bases.values():
        chain = study.base_of(_with(config, own)).chain
        for cut in own.cuts:
            chain.cut(cut).index(config.from_layer)


def measure(config, called: str, seed: int, cells, runs: pathlib.Path) -> None:
    """Finish the cells of one base and seed."""
    from tl_jax import interrupt
    from tl_jax.measure.features import of_layers

    own = config.bases[called]
    missing = [cut for cut in own.cuts if not cells.get(base=called, cut=cut, seed=seed)]
    if not missing:
        return
    base, task = study.base_of(_with(config, own)), study.task_of(config, seed)
    cache = pathlib.Path(config.cache)
    classified = base.layers[-1] != base.bottleneck
    layers = [*own.cuts, *base.layers[-1:]] if classified else own.cuts
    features = of_layers(base, task, layers=layers, cache=cache)
    source = on_source(features[base.layers[-1]].rows, task) if classified else {}
    for cut in missing:
        interrupt.check()
        started = time.time()
        folder = runs / f"{called}_{cut}_{seed}"
        row = {"dimensions": features[cut].rows.shape[1]}
        row["scores"] = on_features(features[cut].rows, task) | source
        row["accuracy"] = transferred(config, base, task, features[cut], cut, seed, folder)
        shutil.rmtree(folder)
        cells.add(row | {"seconds": time.time() - started}, base=called, cut=cut, seed=seed)
        print(f"{called} {cut} seed {seed}: {row['accuracy']}", flush=True)


def on_features(rows, task) -> dict[str, float]:
    """The scores of features (N, D) on the training split."""
    from tl_jax.measure import scores

    train = task.splits["train"]
    return {k: f(rows[train], task.labels[train]) for k, f in scores.ON_FEATURES.items()}


def on_source(logits, task) -> dict[str, float]:
    """The scores of what the base itself predicts, logits (N, Z), on the training split."""
    import numpy as np
    from scipy.special import softmax

    from tl_jax.measure import scores

    train = task.splits["train"]
    probabilities = softmax(np.float64(logits[train]), axis=1)
    labels = task.labels[train]
    return {
        "LEEP": scores.leep(probabilities, labels),
        "NCE": scores.nce(probabilities.argmax(1), labels),
    }


def transferred(config, base, task, pooled, cut: str, seed: int, folder) -> dict[str, float]:
    """Test accuracy of a linear head on the frozen base, then with layers below it fine-tuned."""
    from tl_jax.plans.plan import Settings, fine_tune_top, head_only
    from tl_jax.train import evaluate
    from tl_jax.train import loop as train
    from tl_jax.train.inputs import for_plan
    from tl_jax.train.state import Problem

    ready = base.with_head(len(task.classes), cut=cut, seed=seed)
    names, variables, test = ready.layers, ready.variables, task.splits["test"]
    tune = Settings(**config.tune)
    plans = {
        "head": head_only(names, new=names[-1:], head=Settings(**config.head)),
        "fine_tuned": fine_tune_top(names, tune=tune, from_layer=config.from_layer),
    }
    found = {}
    for step, plan in plans.items():
        problem = Problem(
            ready.chain, base.preprocessing, task, plan, seed=seed, batch_size=config.batch_size
        )
        inputs_for = for_plan(
            problem, test_views="none", cache=pathlib.Path(config.cache), dtype="float16"
        )
        if step == "head":  # pools first, so that pooled features are all it sees
            inputs_for = _on_pooled(pooled.rows, cut, base.preprocessing)
        variables, _, inputs = train.run(problem, variables, inputs_for, workdir=folder / step)
        probabilities = evaluate.probabilities(problem, variables, inputs, test)
        found[step] = evaluate.brief_score(task, test, probabilities)["accuracy"]
    return found


def _on_pooled(rows, cut: str, preprocessing):
    import numpy as np

    from tl_jax.engine.prefix import Inputs

    def read(examples, views):
        return rows[examples]

    def row(examples, views):
        return examples

    inputs = Inputs(read, cut, "", preprocessing, rows.nbytes, np.ascontiguousarray(rows), row)
    return lambda phase, variables: inputs


def _with(config, own):
    """The config with a base's own name and weights."""
    import ml_collections

    return ml_collections.ConfigDict({**config.to_dict(), **own.to_dict()})


def agreements(rows: list[dict], resamples: int) -> list[dict]:
    """How each score agrees with each accuracy, over the candidates; of LEEP and NCE, the bases."""
    import numpy as np

    from tl_jax.stats import ranking

    found = []
    for score in dict.fromkeys(s for row in rows for s in row["scores"]):
        having = [row for row in rows if score in row["scores"]]
        if score in ON_SOURCE:
            top = {row["base"]: row["cut"] for row in having}  # the last cut
            having = [row for row in having if top[row["base"]] == row["cut"]]
        for accuracy in ACCURACIES:
            one = _by_candidate(having, "scores", score)
            other = _by_candidate(having, "accuracy", accuracy)
            entry = {"score": score, "accuracy": accuracy, "candidates": len(one)}
            if len(one) >= 3:
                agreed = ranking.agreement(
                    scores=np.array(list(one.values())),
                    accuracies=np.array(list(other.values())),
                    resamples=resamples,
                )
                entry |= {measure: list(values) for measure, values in agreed.items()}
                found.append(entry)
    return found


def _by_candidate(rows: list[dict], *keys: str) -> dict[tuple, list]:
    """What the rows have under the keys, over seeds, by base and cut; without keys, the rows."""
    found = {}
    for row in rows:
        value = functools.reduce(dict.__getitem__, keys, row)
        found.setdefault((row["base"], row["cut"]), []).append(value)
    return found


def report(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    from tl_jax.report import study as page

    rows, config = result["candidates"], result["config"]
    sections = [
        _agreement_section(page, result),
        _candidates_section(page, rows),
        _published_section(page, result["agreement"]),
    ]
    best = max(
        (a for a in _of_candidates(result["agreement"]) if a["weighted tau"][0] is not None),
        key=lambda a: a["weighted tau"][0],
        default=None,
    )
    lead = "How well do scores that need no training rank what transfer gives?"
    if best:
        value, low, high = best["weighted tau"]
        lead += (
            f" Best here for fine-tuned accuracy: {best['score']}, weighted tau {value:.2f}"
            f" ({low:.2f} to {high:.2f}) over {best['candidates']} candidates."
        )
    page.write(
        workdir,
        title="Transferability scores against accuracy",
        lead=lead,
        sections=sections,
        facts={
            "task": config["task"]["name"],
            "bases": ", ".join(f"{b['base']} ({b['weights']})" for b in config["bases"].values()),
            "input": f"{config['size']} pixels" if config["size"] else "the weights' own",
            "training examples": f"{config['task']['per_class'] or 'all'} of each class",
            "fine-tuned": f"{config['from_layer']} and up to the cut",
            "seeds": ", ".join(map(str, config["seeds"])),
            "features": "global average of each layer's output",
        },
        result=result,
    )


def _of_candidates(agreed: list[dict]) -> list[dict]:
    """The agreements with fine-tuned accuracy of the scores that tell a base's cuts apart."""
    return [a for a in agreed if a["accuracy"] == "fine_tuned" and a["score"] not in ON_SOURCE]


def _agreement_section(page, result: dict):
    columns = ["score", "accuracy", "candidates"]
    measures = ("weighted tau", "Kendall", "Pearson")
    for measure in measures:
        columns += [measure, f"{measure}, low", f"{measure}, high"]
    table = [
        (
            a["score"],
            ACCURACIES[a["accuracy"]],
            a["candidates"],
            *(x for m in measures for x in a[m]),
        )
        for a in result["agreement"]
    ]
    return page.Section(
        "Which score ranks best",
        "Each point is a base cut at a layer, a mean over seeds. 1: the score orders candidates as "
        "transfer does; 0: no better than chance; weighted tau counts the best candidates most. "
        "Low and high are 95 % bootstrap intervals over candidates and seeds. Cuts of one base are "
        "not independent, so that the intervals are too narrow rather than too wide.\n\n"
        "LEEP and NCE are functions of what the whole base predicts: one figure for each base, "
        "compared with the accuracy at its last cut, over as many candidates as there are bases.",
        (_scatter(page, result["candidates"], result["agreement"]),),
        (page.Table("agreement", "Agreement of scores with accuracies", tuple(columns), table),),
    )


def _scatter(page, rows: list[dict], agreed: list[dict]):
    import numpy as np
    from matplotlib.ticker import FuncFormatter

    from tl_jax.report import figures, plots

    names = [a["score"] for a in _of_candidates(agreed)]
    accuracy = _by_candidate(rows, "accuracy", "fine_tuned")
    bases = list(dict.fromkeys(base for base, _ in accuracy))

    def draw(figure) -> None:
        grid = figure.subplots(-(-len(names) // 3), 3, squeeze=False, sharey=True)
        for axes, name in zip(grid.flat, names, strict=False):
            score = _by_candidate(rows, "scores", name)
            for base, colour in zip(bases, figures.COLOURS, strict=False):
                own = [c for c in accuracy if c[0] == base]
                x, y = ([np.mean(values[c]) for c in own] for values in (score, accuracy))
                axes.plot(x, y, color=colour, lw=0.6, marker="o", ms=4, label=base)
            axes.set_xlabel(name)
            axes.yaxis.set_major_formatter(FuncFormatter(plots.percent))
        for axes in grid[:, 0]:
            axes.set_ylabel("fine-tuned accuracy")
        for axes in grid.flat[len(names) :]:
            axes.remove()
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(bases))

    height = 0.5 + 2.6 * -(-len(names) // 3)
    return page.Picture(
        "Accuracy after fine-tuning against each score; a line joins the cuts of a base, in order",
        plots.svg(draw, width=figures.WIDE, height=height),
    )


def _candidates_section(page, rows: list[dict]):
    import numpy as np

    from tl_jax.runs import results
    from tl_jax.stats import intervals as analysis

    scores = list(dict.fromkeys(s for row in rows for s in row["scores"]))
    table = []
    for (base, cut), own in _by_candidate(rows).items():
        figures = []
        for accuracy in ACCURACIES:
            figures += map(float, analysis.over_seeds([r["accuracy"][accuracy] for r in own]))
        figures += (float(np.mean([r["scores"].get(s, np.nan) for r in own])) for s in scores)
        table.append((base, cut, own[0]["dimensions"], *results.finite(figures)))
    columns = ["base", "cut", "dimensions"]
    for shown in ACCURACIES.values():
        columns += [shown, f"± {shown}"]
    return page.Section(
        "The candidates",
        "Accuracy on the test split, as a fraction, with half its 95 % interval over seeds; scores "
        "on the training split. A score says nothing by itself, only in comparison.",
        tables=(
            page.Table(
                "candidates", "Every candidate, mean over seeds", (*columns, *scores), table
            ),
        ),
    )


def _published_section(page, agreed: list[dict]):
    own = {a["score"]: a["weighted tau"][0] for a in agreed if a["accuracy"] == "fine_tuned"}
    names = PUBLISHED["columns"]
    table = [(task, *values) for task, values in PUBLISHED["rows"].items()]
    table.append(("this study", *(own.get(name) for name in names)))
    return page.Section(
        "Beside what is published",
        "Weighted tau of four scores on eight tasks: whole bases with ImageNet weights, ranked by "
        f"their accuracy after fine-tuning ({PUBLISHED['source']}). This study's candidates are "
        "cuts at several depths of few bases, which is another question: the figures stand side by "
        "side for orientation, not as a reproduction.",
        tables=(
            page.Table(
                "published", "Weighted tau with fine-tuned accuracy", ("task", *names), table
            ),
        ),
    )


def _shown(result: dict) -> str:
    lines = [f"{'score':22}{'accuracy':14}{'n':>3}  weighted tau (95 % interval)"]
    for a in result["agreement"]:
        figures = ["–" if x is None else f"{x:.2f}" for x in a["weighted tau"]]
        lines.append(
            f"{a['score']:22}{ACCURACIES[a['accuracy']]:14}{a['candidates']:>3}  "
            f"{figures[0]} ({figures[1]} to {figures[2]})"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(study.main(work, example="configs/score_vs_accuracy.py", shown=_shown))
