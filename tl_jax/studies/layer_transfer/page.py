"""The pages of a layer-transfer study: the figure of Yosinski et al. 2014, and what follows."""

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
    "fine-tuned (+); the layers above start afresh and are trained on B's data. random: the first "
    "n layers as they were drawn, frozen. All figures are accuracies on the test split."
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
    """What the paper found, and whether it is so here."""
    return "\n".join(
        f"{f['arm']}: {f['statement']}: {f['held']} ({100 * f['mean']:+.1f} points)"
        for f in result["findings"]
    )


def _tables(result: dict) -> Tables:
    config, given = result["config"], (result["cells"], result["arms"])
    return Tables(*given, config["budgets"], result["cuts"], result["overlaps"])


def sections(tables: Tables) -> list[study.Section]:
    """Return the sections in the order in which one reads them."""
    return [
        *(_figure(tables, arm) for arm in tables.arms),
        _parts(tables),
        _published(tables),
        *([_arms(tables)] if len(tables.arms) > 1 else []),
        *([_budgets(tables)] if len(tables.budgets) > 1 else []),
        _findings(tables),
    ]


def _figure(tables: Tables, arm: Sides) -> study.Section:
    by, base = tables.accuracy(arm, tables.budgets[0]), tables.base(arm, tables.budgets[0])
    ratio, levels = tables.overlaps[arm], {"base B": float(base.mean())}
    picture = against_depth(tables.layers, by, label="accuracy of B", levels=levels, ratio=ratio)
    learned = {name: values - base for name, values in by.items() if name != "random"}
    axis = {"label": "less base B, in points", "unit": "points"}
    close = against_depth(tables.layers, learned, **axis, ratio=ratio)
    rows: list[tuple] = [("base B", 0, None, *tables.interval(arm, base), *base)]
    for name, values in by.items():
        for n, layer, own in zip(tables.cuts, tables.layers, values, strict=True):
            rows.append((name, n, layer, *tables.interval(arm, own), *own))
    seeds = tuple(f"seed {s}" for s in range(tables.seeds))
    columns = ("treatment", "n", "layer", "mean", "low", "high", *seeds)
    accuracy, name = dict.fromkeys(columns[3:], "%"), _file(arm)
    return study.Section(
        f"A to B: {label(arm)}",
        "Lines are means over seeds, shades and the table's low and high their 95 % intervals. "
        f"{_told(ratio, tables.seeds)} Each seed has its own bases, its own fresh layers and, "
        "where halves are random, its own halves.",
        (
            study.Picture(
                f"treatments_{name}", "All treatments against n; dashed line: base B.", picture
            ),
            study.Picture(
                f"differences_{name}",
                "Differences to base B, paired by seed, without random filters.",
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
        "Co-adaptation is base B less BnB: what parting layers that had learned together costs. "
        "Specificity is BnB less AnB: what it costs that the layers are A's. Generalisation is "
        "AnB+ less BnB+: what remains of A when all layers learn on. All are paired by seed; "
        "intervals are 95 % intervals over seeds, as above.",
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
    axis = {"label": "AnB less base B, in points", "unit": "points"}
    ratio = max(tables.overlaps.values())
    ours = {label(arm): values for arm, values in lost.items()}
    depths = [str(n) for n in range(1, 8)]
    rows = [
        (label(arm), layer, *tables.interval(arm, own))
        for arm, values in lost.items()
        for layer, own in zip(tables.layers, values, strict=True)
    ]
    return study.Section(
        "Similar and dissimilar tasks",
        "The drop of AnB below base B. Targets differ between arms, so each is measured by its own "
        "base; where groups are of different sizes, so are the targets' numbers of classes and "
        "images.",
        (
            study.Picture(
                "our_arms", "Ours.", against_depth(tables.layers, ours, **axis, ratio=ratio)
            ),
            study.Picture("published_arms", "Published.", against_depth(depths, theirs, **axis)),
        ),
        (
            study.Table(
                "similar_and_dissimilar",
                "AnB less base B.",
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
            name = f"{budget} a class" if budget else "all"
            base, by = tables.base(arm, budget), tables.accuracy(arm, budget)
            gains |= {f"{t}, {name}": by[t] - base for t in ("AnB", "AnB+")}
            for treatment, values in by.items():
                for layer, own in zip(tables.layers, values - base, strict=True):
                    rows.append((label(arm), name, treatment, layer, *tables.interval(arm, own)))
        axis = {"label": "less base B of the budget, in points", "unit": "points"}
        drawn = against_depth(tables.layers, gains, **axis, ratio=tables.overlaps[arm])
        name = f"budgets_{_file(arm)}"
        pictures.append(study.Picture(name, f"{label(arm)}.", drawn))
    return study.Section(
        "With fewer labels",
        "Base A has seen all of its half; of B only so many examples of each class are used, for "
        "base B as for what is made of it.",
        tuple(pictures),
        (
            study.Table(
                "budgets",
                "Accuracy less that of base B trained on as many labels.",
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
        "What the paper found, and whether it is so here",
        "A small net on an easy task need not show all of it, and nothing was tuned towards it. "
        "Each statement is about a difference of accuracies, paired by seed, a mean over n where "
        "none is named; `about` is within one point. Held is yes or no where a two-sided t test at "
        "5 % says so after Holm's correction for the number of statements below, and cannot tell "
        "otherwise, always so with fewer than five seeds. Low and high are the 95 % interval of "
        "each difference alone.",
        (),
        (study.Table("findings", "Statements.", columns, rows, units),),
    )


def _told(ratio: float, seeds: int) -> str:
    if seeds == 1:
        return "One seed has none."
    if not ratio:
        return (
            "They are Student's: all seeds share the dataset's own test split, so that the "
            "interval is of training sets, drawn starts and orders on these test images."
        )
    factor = "(1 / J + n_test / n_train) / (1 / J)"
    return (
        "Each seed has splits of its own, drawn anew from one dataset, which overlap: Student's "
        f"intervals are widened by the root of {factor}, with n_test / n_train = {ratio:.2f} and J "
        "seeds (Nadeau & Bengio 2003)."
    )


def _file(arm: Sides) -> str:
    return study.file_name("_".join(arm))
