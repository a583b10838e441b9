"""The page of a layer-transfer study: the figure of Yosinski et al. 2014, and what follows."""

import pathlib

import numpy as np

from tl_jax.report import study
from tl_jax.report.figures import against_depth
from tl_jax.runs.subject import task_name
from tl_jax.studies.layer_transfer import published
from tl_jax.studies.layer_transfer.tables import Sides, Tables, label

POINTS = {"mean": "points", "low": "points", "high": "points"}
LEAD = (
    "The first n layers come from base B itself (BnB) or from base A (AnB), and stay frozen or are "
    "fine-tuned (+); the layers above start from fresh weights and are trained on B's data. With "
    "random, the first n layers keep their initial weights. All figures are accuracies on the test "
    "split."
)


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    config = result["config"]
    tables = _tables(result)
    task = task_name(config["task"])
    source = task_name(config["source"]) if config["source"]["name"] else ""
    study.write(
        workdir,
        title=f"Layer transfer: {task}",
        lead=LEAD,
        sections=sections(tables),
        facts={
            "net": f"{config['base']}, {len(tables.cuts) + 1} layers with parameters",
            "task": task + (f", from {source}" if source else ""),
            "A to B": "; ".join(map(label, tables.arms)),
            "seeds": str(config["seeds"]),
            "trainings": str(len(result["cells"])),
            "epochs": f"{', '.join(map(str, config['epochs']))} by budget; the last one is kept",
            "seconds of this run": f"{result['seconds']:.0f}",
        },
        result=result,
    )


def summary(result: dict) -> str:
    """Return the findings of the paper, and whether they hold here."""
    return "\n".join(
        f"{f['arm']}: {f['statement']}: {f['held']} ({100 * f['mean']:+.1f} points)"
        for f in result["findings"]
    )


def _tables(result: dict) -> Tables:
    config, measured = result["config"], (result["cells"], result["arms"])
    return Tables(*measured, config["budgets"], result["cuts"], result["overlaps"])


def sections(tables: Tables) -> list[study.Section]:
    """Return the sections in reading order."""
    several = len(tables.arms) > 1
    one_target = len({b for _, b in tables.arms}) == 1
    return [
        *([_sources(tables)] if several and one_target else []),
        *(_figure(tables, arm) for arm in tables.arms),
        _parts(tables),
        _published(tables),
        *([_arms(tables)] if several and not one_target else []),
        *([_budgets(tables)] if len(tables.budgets) > 1 else []),
        _findings(tables),
    ]


def _figure(tables: Tables, arm: Sides) -> study.Section:
    by, base = tables.accuracy(arm, tables.budgets[0]), tables.base(arm, tables.budgets[0])
    ratio, levels = tables.overlaps[arm], {"base B": float(base.mean())}
    picture = against_depth(tables.layers, by, label="accuracy of B", levels=levels, ratio=ratio)
    learned = {name: values - base for name, values in by.items() if name != "random"}
    axis = {"label": "minus base B, in points", "unit": "points"}
    close = against_depth(tables.layers, learned, **axis, ratio=ratio)
    rows: list[tuple] = [("base B", 0, None, *tables.interval(arm, base), *base)]
    for name, values in by.items():
        for n, layer, by_seed in zip(tables.cuts, tables.layers, values, strict=True):
            rows.append((name, n, layer, *tables.interval(arm, by_seed), *by_seed))
    seeds = tuple(f"seed {s}" for s in range(tables.seeds))
    columns = ("treatment", "n", "layer", "mean", "low", "high", *seeds)
    accuracy, name = dict.fromkeys(columns[3:], "%"), _file(arm)
    return study.Section(
        f"A to B: {label(arm)}",
        "Lines are means over seeds; shades, and low and high in the table, are their 95 % "
        f"intervals. {_interval_words(ratio, tables.seeds)} Each seed has its own base B, its own "
        "fresh layers and, if halves are random, its own halves. They learn from "
        f"{_labels(tables.budgets[0])}.",
        (
            study.Picture(
                f"treatments_{name}", "All treatments against n; dashed line: base B.", picture
            ),
            study.Picture(
                f"differences_{name}",
                "Differences from base B, paired by seed, without random filters.",
                close,
            ),
        ),
        (study.Table(f"accuracy_{name}", "Test accuracy of B.", columns, rows, accuracy),),
    )


def _parts(tables: Tables) -> study.Section:
    budget = tables.budgets[0]
    pictures = tuple(
        study.Picture(
            f"parts_{_file(arm)}",
            f"{label(arm)}: the drop in two parts, and the gain.",
            against_depth(
                tables.layers,
                tables.parts(arm, budget),
                label="difference, in points",
                unit="points",
                ratio=tables.overlaps[arm],
            ),
        )
        for arm in tables.arms
    )
    rows = [tuple(row.values()) for row in tables.decomposition]
    columns = ("A to B", "budget (0: all)", "part", "n", "mean", "low", "high")
    return study.Section(
        "What is lost, and why",
        "Co-adaptation is base B minus BnB: the loss from separating layers that were trained "
        "together. Specificity is BnB minus AnB: the loss because the layers fit task A. "
        "Generalisation is AnB+ minus BnB+: the gain from A that remains after fine-tuning. All "
        "are paired by seed; intervals are 95 % intervals over seeds, as above.",
        pictures,
        (study.Table("decomposition", "Differences of test accuracies.", columns, rows, POINTS),),
    )


def _published(tables: Tables) -> study.Section:
    depths = [str(n) for n in range(1, 8)]
    theirs = {name: np.array(values)[:, None] for name, values in published.PUBLISHED.items()}
    arm = tables.arms[0]
    levels = {"base B": float(tables.base(arm, tables.budgets[0]).mean())}
    ours = against_depth(
        tables.layers,
        tables.accuracy(arm, tables.budgets[0]),
        label="accuracy of B",
        levels=levels,
        ratio=tables.overlaps[arm],
    )
    theirs_drawn = against_depth(
        depths, theirs, label="accuracy of B", levels={"base B": published.PUBLISHED_BASE}
    )
    columns = ("treatment", *(f"n = {n}" for n in depths))
    rows = [(name, *values) for name, values in published.PUBLISHED.items()]
    rows += [(f"AnB, {name}", *values) for name, values in published.PUBLISHED_DISSIMILAR.items()]
    return study.Section(
        "Beside the published curves",
        "Yosinski et al. 2014, arXiv:1411.1792: AlexNet on random halves of ImageNet, 645,000 "
        f"images each. Their curves are recomputed: {published.SOURCE}.",
        (
            study.Picture("published_treatments", "Published: ImageNet, n = 1 to 7.", theirs_drawn),
            study.Picture("our_treatments", f"Ours: {label(arm)}.", ours),
        ),
        (
            study.Table(
                "published",
                "Published accuracies of B.",
                columns,
                rows,
                dict.fromkeys(columns[1:], "%"),
            ),
        ),
    )


def _sources(tables: Tables) -> study.Section:
    pictures, rows = [], []
    for budget in tables.budgets:
        base = tables.base(tables.arms[0], budget)
        for treatment, rival in (("AnB", "random"), ("AnB+", "BnB+")):
            lines = {a: tables.accuracy((a, b), budget)[treatment] - base for a, b in tables.arms}
            lines[rival] = tables.accuracy(tables.arms[0], budget)[rival] - base
            for a, values in lines.items():
                for layer, by_seed in zip(tables.layers, values, strict=True):
                    figures = tables.interval(tables.arms[0], by_seed)
                    rows.append((_amount(budget), treatment, a, layer, *figures))
            picture = against_depth(
                tables.layers,
                lines,
                label=f"{treatment} minus base B, in points",
                unit="points",
                ratio=tables.overlaps[tables.arms[0]],
            )
            how = "frozen" if treatment == "AnB" else "fine-tuned"
            name = f"sources_{treatment.replace('+', '_tuned')}_{budget}"
            caption = f"With {_labels(budget)}, {how}."
            pictures.append(study.Picture(name, caption, picture))
    return study.Section(
        "One target, several sources",
        "What the first n layers of each base A give to the same target, as points above or below "
        "base B, which is trained from fresh weights on as many labels. Beside frozen layers stand "
        "random ones, beside fine-tuned layers those of base B itself.",
        tuple(pictures),
        (
            study.Table(
                "sources",
                "Accuracy minus that of base B of the budget.",
                ("labels", "treatment", "A", "n", "mean", "low", "high"),
                rows,
                POINTS,
            ),
        ),
    )


def _amount(budget: int) -> str:
    return f"{budget} a class" if budget else "all"


def _labels(budget: int) -> str:
    return f"{budget} labels of each class of B" if budget else "all labels of B"


def _arms(tables: Tables) -> study.Section:
    budget = tables.budgets[0]
    lost = {
        arm: tables.accuracy(arm, budget)["AnB"] - tables.base(arm, budget) for arm in tables.arms
    }
    theirs = {
        "random halves": np.array(published.PUBLISHED["AnB"])[:, None] - published.PUBLISHED_BASE,
        **{
            name: np.array(values)[:, None] - published.PUBLISHED_DISSIMILAR_BASE[name]
            for name, values in published.PUBLISHED_DISSIMILAR.items()
        },
    }
    axis = {"label": "AnB minus base B, in points", "unit": "points"}
    ratio = max(tables.overlaps.values())
    ours = {label(arm): values for arm, values in lost.items()}
    depths = [str(n) for n in range(1, 8)]
    rows = [
        (label(arm), layer, *tables.interval(arm, by_seed))
        for arm, values in lost.items()
        for layer, by_seed in zip(tables.layers, values, strict=True)
    ]
    return study.Section(
        "Similar and dissimilar tasks",
        "The drop of AnB below base B. Targets differ between arms, so each is compared with its "
        "own base; if groups differ in size, the targets differ in numbers of classes and images "
        "too.",
        (
            study.Picture(
                "our_arms", "Ours.", against_depth(tables.layers, ours, **axis, ratio=ratio)
            ),
            study.Picture("published_arms", "Published.", against_depth(depths, theirs, **axis)),
        ),
        (
            study.Table(
                "similar_and_dissimilar",
                "AnB minus base B.",
                ("A to B", "n", "mean", "low", "high"),
                rows,
                POINTS,
            ),
        ),
    )


def _budgets(tables: Tables) -> study.Section:
    pictures, rows = [], []
    for arm in tables.arms:
        gains = {}
        for budget in tables.budgets:
            name = _amount(budget)
            base, by = tables.base(arm, budget), tables.accuracy(arm, budget)
            gains |= {f"{t}, {name}": by[t] - base for t in ("AnB", "AnB+")}
            for treatment, values in by.items():
                for layer, by_seed in zip(tables.layers, values - base, strict=True):
                    rows.append(
                        (label(arm), name, treatment, layer, *tables.interval(arm, by_seed))
                    )
        axis = {"label": "minus base B of the budget, in points", "unit": "points"}
        drawn = against_depth(tables.layers, gains, **axis, ratio=tables.overlaps[arm])
        name = f"budgets_{_file(arm)}"
        pictures.append(study.Picture(name, f"{label(arm)}.", drawn))
    return study.Section(
        "With fewer labels",
        "Base A is the same at every budget. The budget limits the examples of each class of B, "
        "both for base B and for the treatments.",
        tuple(pictures),
        (
            study.Table(
                "budgets",
                "Accuracy minus that of base B, trained on as many labels.",
                ("A to B", "budget", "treatment", "n", "mean", "low", "high"),
                rows,
                POINTS,
            ),
        ),
    )


def _findings(tables: Tables) -> study.Section:
    rows = [tuple(finding.values()) for finding in tables.findings]
    columns = ("A to B", "statement", "held", "difference", "low", "high")
    units = dict.fromkeys(columns[3:], "points")
    return study.Section(
        "The findings of the paper, and whether they hold here",
        "A small network on an easy task need not show all of them, and nothing was tuned towards "
        f"them. They are of trainings on {_labels(tables.budgets[0])}. Each statement is about a "
        "difference of accuracies, paired by seed; it is a mean "
        "over n unless it names one, and `about` means within one point. Held is yes or no if a "
        "two-sided t test at 5 % decides it after Holm's correction for the number of statements "
        "below, and cannot tell otherwise; fewer than five seeds decide nothing. Low and high are "
        "the 95 % interval of each difference alone.",
        (),
        (study.Table("findings", "Statements.", columns, rows, units),),
    )


def _interval_words(ratio: float, seeds: int) -> str:
    if seeds == 1:
        return "One seed has none."
    if not ratio:
        return (
            "They are Student's: all seeds share the dataset's own test split, so the interval is "
            "over training sets, initial weights and orders, for these test images."
        )
    factor = "(1 / J + n_test / n_train) / (1 / J)"
    return (
        "Each seed draws its own splits from one dataset, and these overlap. Student's intervals "
        f"are therefore widened by the root of {factor}, with n_test / n_train = {ratio:.2f} and J "
        "seeds (Nadeau & Bengio 2003)."
    )


def _file(arm: Sides) -> str:
    return study.file_name("_".join(arm))
