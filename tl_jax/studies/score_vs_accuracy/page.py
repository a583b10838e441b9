"""The page of the study: which score ranks best, all candidates, and published figures."""

import pathlib

import numpy as np

from tl_jax.report import figures, plots, study, text
from tl_jax.runs.results import finite
from tl_jax.runs.subject import task_name
from tl_jax.stats.intervals import over_seeds
from tl_jax.stats.paired import LEVEL
from tl_jax.stats.verdict import LEAST_PAIRS
from tl_jax.studies.score_vs_accuracy.candidates import ON_SOURCE, by_candidate

ACCURACIES = {"head": "linear head", "fine_tuned": "fine-tuned"}
BEST = "best in resamples"
MEASURES = ("weighted tau", "Kendall", "Pearson")
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


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    rows, config = result["candidates"], result["config"]
    study.write(
        workdir,
        title="Transferability scores against accuracy",
        lead=_lead(result["agreement"]),
        sections=[
            _agreement(result),
            _candidates(rows, result["overlap"]),
            _published(result["agreement"]),
        ],
        facts={
            "task": task_name(config["task"]),
            "bases": ", ".join(f"{b['base']} ({b['weights']})" for b in config["bases"].values()),
            "input size": str(config["size"] or "the weights' own"),
            "training examples": f"{config['task']['per_class'] or 'all'} of each class",
            "fine-tuned": f"{config['from_layer']} and up to the cut",
            "epochs kept": "; ".join(
                f"{label}: {text.kept(*(row['epochs'][step] for row in rows))}"
                for step, label in ACCURACIES.items()
            ),
            "seeds": ", ".join(map(str, config["seeds"])),
            "features": "global average of each layer's output",
        },
        result=result,
    )


def summary(result: dict) -> str:
    """Return the weighted tau of each score with each accuracy."""
    lines = [f"{'score':22}{'accuracy':14}{'n':>3}  weighted tau (95 % interval)"]
    for a in result["agreement"]:
        tau = ["–" if x is None else f"{x:.2f}" for x in a["weighted tau"]]
        lines.append(
            f"{a['score']:22}{ACCURACIES[a['accuracy']]:14}{a['candidates']:>3}  "
            f"{tau[0]} ({tau[1]} to {tau[2]})"
        )
    return "\n".join([*lines, best(result["agreement"])])


def _lead(agreed: list[dict]) -> str:
    return f"How well do scores that need no training rank candidates for transfer? {best(agreed)}"


def best(agreed: list[dict]) -> str:
    """Return which score ranks fine-tuned accuracy best, or that this cannot be told.

    It can be told if the highest score is the highest in 95 % of resamples of five or more bases.
    """
    known = [a for a in _between_cuts(agreed) if a["weighted tau"][0] is not None]
    if not known:
        return "Here it cannot be told: fewer than three candidates, or all are equally accurate."
    top = max(known, key=lambda a: a["weighted tau"][0])
    value, low, high = top["weighted tau"]
    interval = "" if low is None else f" ({low:.2f} to {high:.2f})"
    share = "" if top["best"] is None else f", highest in {text.percent(top['best'])} of resamples"
    figures = (
        f"weighted tau {value:.2f}{interval} over {top['candidates']} candidates of "
        f"{top['bases']} {'base' if top['bases'] == 1 else 'bases'}{share}"
    )
    if top["bases"] >= LEAST_PAIRS and (top["best"] or 0) >= LEVEL:
        return f"For fine-tuned accuracy {top['score']} is the best of {len(known)}: {figures}."
    return (
        f"Which of {len(known)} is the best for fine-tuned accuracy cannot be told: the highest "
        f"here is {top['score']}, {figures}."
    )


def _between_cuts(agreed: list[dict]) -> list[dict]:
    """Return agreements with fine-tuned accuracy of the scores that differ among a base's cuts."""
    return [a for a in agreed if a["accuracy"] == "fine_tuned" and a["score"] not in ON_SOURCE]


def _agreement(result: dict) -> study.Section:
    columns = ["score", "accuracy", "candidates", BEST]
    for measure in MEASURES:
        columns += [measure, f"{measure}, low", f"{measure}, high"]
    table = [
        (
            a["score"],
            ACCURACIES[a["accuracy"]],
            a["candidates"],
            a["best"],
            *(x for m in MEASURES for x in a[m]),
        )
        for a in result["agreement"]
    ]
    return study.Section(
        "Which score ranks best",
        "Each point is a base cut at a layer, a mean over seeds. 1 means that the score orders "
        "candidates as transfer does, 0 that it is no better than chance; weighted tau counts the "
        "best candidates most. Low and high are 95 % bootstrap intervals over bases and seeds: the "
        "cuts of one base are not independent, so they are drawn together. With one base there is "
        f"no interval, and with few bases it is too narrow. {BEST.capitalize()} is the share of "
        "these resamples where a score has the highest weighted tau. A score is called the best "
        f"only from {100 * LEVEL:g} % and {LEAST_PAIRS} bases on.\n\n"
        "LEEP and NCE are computed from the predictions of the whole base. They give one figure "
        "for each base, which is compared with the accuracy at its last cut, so there are as many "
        "candidates as bases.",
        (_scatter(result["candidates"], result["agreement"]),),
        (
            study.Table(
                "agreement",
                "Agreement of scores with accuracies",
                tuple(columns),
                table,
                {BEST: "%"},
            ),
        ),
    )


def _scatter(rows: list[dict], agreed: list[dict]) -> study.Picture:
    names = [a["score"] for a in _between_cuts(agreed)]
    accuracy = by_candidate(rows, "accuracy", "fine_tuned")
    bases = list(dict.fromkeys(base for base, _ in accuracy))

    def draw(figure) -> None:
        grid = figure.subplots(-(-len(names) // 3), 3, squeeze=False, sharey=True)
        for axes, name in zip(grid.flat, names, strict=False):
            score = by_candidate(rows, "scores", name)
            for base, colour in zip(bases, figures.COLOURS, strict=False):
                cuts = [c for c in accuracy if c[0] == base]
                x, y = ([np.mean(values[c]) for c in cuts] for values in (score, accuracy))
                axes.plot(x, y, color=colour, lw=0.6, marker="o", ms=4, label=base)
            axes.set_xlabel(name)
            axes.yaxis.set_major_formatter(plots.percent)
        for axes in grid[:, 0]:
            axes.set_ylabel("fine-tuned accuracy")
        for axes in grid.flat[len(names) :]:
            axes.remove()
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(bases))

    height = 0.5 + 2.6 * -(-len(names) // 3)
    return study.Picture(
        "accuracy_against_scores",
        "Accuracy after fine-tuning against each score; a line joins the cuts of a base, in order",
        plots.Drawing(draw, width=figures.WIDE, height=height),
    )


def _candidates(rows: list[dict], ratio: float) -> study.Section:
    scores = list(dict.fromkeys(s for row in rows for s in row["scores"]))
    table = []
    for (base, cut), of_seeds in by_candidate(rows).items():
        numbers = []
        for accuracy in ACCURACIES:
            numbers += map(
                float, over_seeds([r["accuracy"][accuracy] for r in of_seeds], ratio=ratio)
            )
        numbers += (float(np.mean([r["scores"].get(s, np.nan) for r in of_seeds])) for s in scores)
        table.append((base, cut, of_seeds[0]["dimensions"], *finite(numbers)))
    columns = ["base", "cut", "dimensions"]
    units = {}
    for shown in ACCURACIES.values():
        columns += [shown, f"± {shown}"]
        units |= {shown: "%", f"± {shown}": "points"}
    return study.Section(
        "The candidates",
        "Accuracy on the test split with half its 95 % interval over seeds, which is widened for "
        "splits that overlap (Nadeau & Bengio 2003), and scores on the training split. A score "
        "alone says nothing; compare scores.",
        tables=(
            study.Table(
                "candidates",
                "Every candidate, mean over seeds",
                (*columns, *scores),
                table,
                units,
            ),
        ),
    )


def _published(agreed: list[dict]) -> study.Section:
    taus = {a["score"]: a["weighted tau"][0] for a in agreed if a["accuracy"] == "fine_tuned"}
    names = PUBLISHED["columns"]
    table: list[tuple] = [(task, *values) for task, values in PUBLISHED["rows"].items()]
    table.append(("this study", *(taus.get(name) for name in names)))
    return study.Section(
        "Beside published figures",
        "Weighted tau of four scores on eight tasks: whole bases with ImageNet weights, ranked by "
        f"their accuracy after fine-tuning ({PUBLISHED['source']}). This study's candidates are "
        "cuts of few bases at several depths, which is another question: the figures are for "
        "orientation, and are not a reproduction.",
        tables=(
            study.Table(
                "published", "Weighted tau with fine-tuned accuracy", ("task", *names), table
            ),
        ),
    )
