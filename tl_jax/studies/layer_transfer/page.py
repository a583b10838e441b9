"""The pages of a layer-transfer study: the figure of Yosinski et al. 2014, and what follows."""

from collections.abc import Sequence

import numpy as np

from tl_jax.report.figures import against_depth
from tl_jax.report.study import Picture, Section, Table
from tl_jax.studies.layer_transfer import study as lt

LEAD = (
    "The first n layers come from base B itself (BnB) or from base A (AnB), and stay frozen or are "
    "fine-tuned (+); the layers above start afresh and are trained on B's data. random: the first "
    "n layers as they were drawn, frozen. All figures are accuracies on the test split."
)
NEAR = 0.01  # what the findings call about the same

Arm = tuple[str, str]  # names of A's and of B's half


class Tables:
    """A study's finished cells as arrays by arm, budget and treatment."""

    def __init__(
        self, cells: Sequence[dict], arms: Sequence[Arm], budgets: Sequence[int], cuts: dict
    ):
        self.cells, self.arms, self.budgets, self.cuts = cells, arms, budgets, cuts
        self.seeds = 1 + max(cell["seed"] for cell in cells)
        keys = ("arm", "budget", "treatment", "n", "seed")
        self._test = {tuple(cell[k] for k in keys): cell["test"] for cell in cells}

    @property
    def layers(self) -> list[str]:
        return [f"{n} {layer}" for n, (layer, _) in self.cuts.items()]

    def base(self, arm: Arm, budget: int) -> np.ndarray:
        """(S,) accuracy of base B."""
        return np.array([self._test[arm[1], budget, "base", 0, s] for s in range(self.seeds)])

    def accuracy(self, arm: Arm, budget: int) -> dict[str, np.ndarray]:
        """(L, S) by treatment."""
        return {
            name: np.array(
                [
                    [self._test[":".join(arm), budget, name, n, s] for s in range(self.seeds)]
                    for n in self.cuts
                ]
            )
            for name in lt.TREATMENTS
        }

    def parts(self, arm: Arm, budget: int) -> dict[str, np.ndarray]:
        """(L, S) by part of the drop and of the gain."""
        return lt.decomposition(self.base(arm, budget), self.accuracy(arm, budget))

    @property
    def decomposition(self) -> list[dict]:
        """A row for each arm, budget, part and n: mean and interval over seeds."""
        rows = []
        for arm in self.arms:
            for budget in self.budgets:
                for part, values in self.parts(arm, budget).items():
                    for layer, own in zip(self.layers, values, strict=True):
                        mean, low, high = lt.interval(own)
                        place = {"arm": label(arm), "budget": budget, "part": part, "n": layer}
                        rows.append(place | {"mean": mean, "low": low, "high": high})
        return rows

    @property
    def findings(self) -> list[dict]:
        """What Yosinski et al. found, and whether the interval over seeds says so here."""
        return [_judged(label(arm), *row) for arm in self.arms for row in self._contrasts(arm)]

    def _contrasts(self, arm: Arm) -> list[tuple[str, np.ndarray, float, float]]:
        """Statements, each with a difference (S,) and the bounds in which the statement puts it."""
        budget = self.budgets[0]
        base, by = self.base(arm, budget), self.accuracy(arm, budget)
        ends = (by["BnB"][0] + by["BnB"][-1]) / 2
        others = np.min([by[name][-1] for name in by if name != "random"], 0)
        rows = [
            ("BnB+ is about base B", (by["BnB+"] - base).mean(0), -NEAR, NEAR),
            ("AnB+ is above base B", (by["AnB+"] - base).mean(0), 0, np.inf),
            ("AnB+ is above BnB+", (by["AnB+"] - by["BnB+"]).mean(0), 0, np.inf),
            ("AnB is below BnB", (by["AnB"] - by["BnB"]).mean(0), -np.inf, 0),
            ("random is below all others at the last n", by["random"][-1] - others, -np.inf, 0),
        ]
        if len(self.cuts) > 1:
            fall = by["AnB"][-1] - by["AnB"][0]
            rows.append(("AnB falls from the first n to the last", fall, -np.inf, 0))
        if len(self.cuts) > 2:
            dip = by["BnB"][1:-1].mean(0) - ends
            rows.append(("BnB is lower in the middle than at its ends", dip, -np.inf, 0))
        if arm != (first := self.arms[0]):
            drop = by["AnB"][-1] - base
            similar = self.accuracy(first, budget)["AnB"][-1] - self.base(first, budget)
            rows.append(
                (f"AnB loses more at the last n than {label(first)}", drop - similar, -np.inf, 0)
            )
        return rows


def _judged(arm: str, statement: str, values: np.ndarray, least: float, most: float) -> dict:
    """`yes` if all of the interval is within the bounds, `no` if none of it is."""
    mean, low, high = lt.interval(values)
    held = "unclear"
    if least < low and high < most:
        held = "yes"
    elif high <= least or low >= most:
        held = "no"
    row = {"arm": arm, "statement": statement, "held": held}
    return row | {"mean": mean, "low": low, "high": high}


def sections(tables: Tables) -> list[Section]:
    """The study's pages, in the order in which one reads them."""
    return [
        *(_figure(tables, arm) for arm in tables.arms),
        _parts(tables),
        _published(tables),
        *([_arms(tables)] if len(tables.arms) > 1 else []),
        *([_budgets(tables)] if len(tables.budgets) > 1 else []),
        _findings(tables),
    ]


def _figure(tables: Tables, arm: Arm) -> Section:
    by, base = tables.accuracy(arm, tables.budgets[0]), tables.base(arm, tables.budgets[0])
    picture = against_depth(
        tables.layers, by, label="accuracy of B", levels={"base B": float(base.mean())}
    )
    learned = {name: values - base for name, values in by.items() if name != "random"}
    close = against_depth(tables.layers, learned, label="less base B, in points")
    rows = [("base B", 0, None, *lt.interval(base), *base)]
    for name, values in by.items():
        for n, layer, own in zip(tables.cuts, tables.layers, values, strict=True):
            rows.append((name, n, layer, *lt.interval(own), *own))
    seeds = tuple(f"seed {s}" for s in range(tables.seeds))
    columns = ("treatment", "n", "layer", "mean", "low", "high", *seeds)
    return Section(
        f"A to B: {label(arm)}",
        "Lines are means over seeds, shades their 95 % intervals by Student's t; in the table, "
        "percentile bootstrap intervals of the mean. Each seed has its own bases, its own fresh "
        "layers and, where halves are random, its own halves.",
        (
            Picture("All treatments against n; dashed line: base B.", picture),
            Picture("Differences to base B, paired by seed, without random filters.", close),
        ),
        (Table(f"accuracy_{_file(arm)}", "Test accuracy of B.", columns, rows),),
    )


def _parts(tables: Tables) -> Section:
    budget = tables.budgets[0]
    pictures = tuple(
        Picture(
            f"{label(arm)}: the drop in two parts, and the gain.",
            against_depth(tables.layers, tables.parts(arm, budget), label="difference, in points"),
        )
        for arm in tables.arms
    )
    rows = [tuple(row.values()) for row in tables.decomposition]
    columns = ("A to B", "budget (0: all)", "part", "n", "mean", "low", "high")
    return Section(
        "What is lost, and why",
        "Co-adaptation is base B less BnB: what parting layers that had learned together costs. "
        "Specificity is BnB less AnB: what it costs that the layers are A's. Generalisation is "
        "AnB+ less BnB+: what remains of A when all layers learn on. All are paired by seed; the "
        "table's intervals are 95 % percentile bootstrap intervals over seeds, and with them over "
        "splits. Of five seeds they are too narrow: about one in six does not hold the true mean.",
        pictures,
        (Table("decomposition", "Differences of test accuracies.", columns, rows),),
    )


def _published(tables: Tables) -> Section:
    depths = [str(n) for n in range(1, 8)]
    theirs = {name: np.array(values)[:, None] for name, values in lt.PUBLISHED.items()}
    arm = tables.arms[0]
    levels = {"base B": float(tables.base(arm, tables.budgets[0]).mean())}
    ours = against_depth(
        tables.layers,
        tables.accuracy(arm, tables.budgets[0]),
        label="accuracy of B",
        levels=levels,
    )
    published = against_depth(
        depths, theirs, label="accuracy of B", levels={"base B": lt.PUBLISHED_BASE}
    )
    columns = ("treatment", *(f"n = {n}" for n in depths))
    rows = [(name, *values) for name, values in lt.PUBLISHED.items()]
    rows += [(f"AnB, {name}", *values) for name, values in lt.PUBLISHED_DISSIMILAR.items()]
    return Section(
        "Beside the published curves",
        "Yosinski et al. 2014, arXiv:1411.1792: AlexNet on random halves of ImageNet, 645,000 "
        f"images each. Their curves are recomputed: {lt.SOURCE}.",
        (
            Picture("Published: ImageNet, n = 1 to 7.", published),
            Picture(f"Ours: {label(arm)}.", ours),
        ),
        (Table("published", "Published accuracies of B.", columns, rows),),
    )


def _arms(tables: Tables) -> Section:
    budget = tables.budgets[0]
    lost = {
        label(arm): tables.accuracy(arm, budget)["AnB"] - tables.base(arm, budget)
        for arm in tables.arms
    }
    theirs = {
        "random halves": np.array(lt.PUBLISHED["AnB"])[:, None] - lt.PUBLISHED_BASE,
        **{
            name: np.array(values)[:, None] - lt.PUBLISHED_DISSIMILAR_BASE[name]
            for name, values in lt.PUBLISHED_DISSIMILAR.items()
        },
    }
    axis = "AnB less base B, in points"
    depths = [str(n) for n in range(1, 8)]
    rows = [
        (arm, layer, *lt.interval(own))
        for arm, values in lost.items()
        for layer, own in zip(tables.layers, values, strict=True)
    ]
    return Section(
        "Similar and dissimilar tasks",
        "The drop of AnB below base B. Targets differ between arms, so each is measured by its own "
        "base; where groups are of different sizes, so are the targets' numbers of classes and "
        "images.",
        (
            Picture("Ours.", against_depth(tables.layers, lost, label=axis)),
            Picture("Published.", against_depth(depths, theirs, label=axis)),
        ),
        (
            Table(
                "similar_and_dissimilar",
                "AnB less base B.",
                ("A to B", "n", "mean", "low", "high"),
                rows,
            ),
        ),
    )


def _budgets(tables: Tables) -> Section:
    pictures, rows = [], []
    for arm in tables.arms:
        gains = {}
        for budget in tables.budgets:
            name = f"{budget} a class" if budget else "all"
            base, by = tables.base(arm, budget), tables.accuracy(arm, budget)
            gains |= {f"{t}, {name}": by[t] - base for t in ("AnB", "AnB+")}
            for treatment, values in by.items():
                for layer, own in zip(tables.layers, values - base, strict=True):
                    rows.append((label(arm), name, treatment, layer, *lt.interval(own)))
        axis = "less base B of the budget, in points"
        pictures.append(Picture(f"{label(arm)}.", against_depth(tables.layers, gains, label=axis)))
    return Section(
        "With fewer labels",
        "Base A has seen all of its half; of B only so many examples of each class are used, for "
        "base B as for what is made of it.",
        tuple(pictures),
        (
            Table(
                "budgets",
                "Accuracy less that of base B trained on as many labels.",
                ("A to B", "budget", "treatment", "n", "mean", "low", "high"),
                rows,
            ),
        ),
    )


def _findings(tables: Tables) -> Section:
    rows = [tuple(finding.values()) for finding in tables.findings]
    columns = ("A to B", "statement", "held", "difference", "low", "high")
    return Section(
        "What the paper found, and whether it is so here",
        "A small net on an easy task need not show all of it, and nothing was tuned towards it. "
        "Each statement is about a difference of accuracies, a mean over n where none is named, "
        "and holds if all of its bootstrap interval over seeds does; `about` is within one point.",
        (),
        (Table("findings", "Statements.", columns, rows),),
    )


def label(arm: Arm) -> str:
    """As it is shown."""
    return " to ".join(arm)


def _file(arm: Arm) -> str:
    return "".join(c if c.isalnum() else "_" for c in "_".join(arm))
