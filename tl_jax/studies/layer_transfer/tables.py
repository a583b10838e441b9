"""The results of a study: accuracies as arrays, parts of the drop, and the paper's findings."""

from collections.abc import Mapping, Sequence

import numpy as np

from tl_jax.stats.paired import corrected
from tl_jax.stats.verdict import Claim, claims_hold
from tl_jax.studies.layer_transfer.treatments import TREATMENTS, place

NEAR = 0.01  # difference of accuracies that the findings call about the same

Sides = tuple[str, str]  # names of A and of B


class Tables:
    """A study's finished cells as arrays by arm, budget and treatment, over L cuts and S seeds.

    `cuts` are pairs of n and the n-th layer with parameters; `overlaps` are n_test / n_train of
    each arm's splits, by `stats.paired.overlap`.
    """

    def __init__(
        self,
        cells: Sequence[dict],
        arms: Sequence[Sides],
        budgets: Sequence[int],
        cuts: Sequence[tuple[int, str]],
        overlaps: Sequence[float],
    ):
        self.arms, self.budgets = [tuple(arm) for arm in arms], budgets
        self.cuts = dict(cuts)
        self.overlaps = dict(zip(self.arms, overlaps, strict=True))
        self.seeds = 1 + max(cell["seed"] for cell in cells)
        keys = ("arm", "budget", "treatment", "n", "seed")
        self._test = {tuple(cell[k] for k in keys): cell["test"] for cell in cells}

    def interval(self, arm: Sides, values: np.ndarray) -> tuple[float, float, float]:
        """Return mean and corrected 95 % interval of an arm's figures (S,); NaN bounds for one."""
        estimate = corrected(values, ratio=self.overlaps[arm])
        return estimate.mean, estimate.low, estimate.high

    @property
    def layers(self) -> list[str]:
        """The names of the L cuts."""
        return [f"{n} {layer}" for n, layer in self.cuts.items()]

    def base(self, arm: Sides, budget: int) -> np.ndarray:
        """Return the accuracy of base B, (S,)."""
        return np.array([self._test[arm[1], budget, "base", 0, s] for s in range(self.seeds)])

    def accuracy(self, arm: Sides, budget: int) -> dict[str, np.ndarray]:
        """Return the accuracy (L, S) of each treatment."""
        return {
            name: np.array(
                [
                    [self._test[place(arm, how), budget, name, n, s] for s in range(self.seeds)]
                    for n in self.cuts
                ]
            )
            for name, how in TREATMENTS.items()
        }

    def parts(self, arm: Sides, budget: int) -> dict[str, np.ndarray]:
        """Return the parts of the drop and the gain, each (L, S)."""
        return decomposition(self.base(arm, budget), self.accuracy(arm, budget))

    @property
    def decomposition(self) -> list[dict]:
        """The mean and interval over seeds of each arm, budget, part and n."""
        rows = []
        for arm in self.arms:
            for budget in self.budgets:
                for part, values in self.parts(arm, budget).items():
                    for layer, figures in zip(self.layers, values, strict=True):
                        mean, low, high = self.interval(arm, figures)
                        key = {"arm": label(arm), "budget": budget, "part": part, "n": layer}
                        rows.append(key | {"mean": mean, "low": low, "high": high})
        return rows

    @property
    def findings(self) -> list[dict]:
        """The findings of Yosinski et al., and whether they hold in this study.

        `held` is yes, no or cannot tell, by the rule of `stats.verdict`, corrected for the number
        of statements about all arms.
        """
        # The last statement compares two arms, so the larger overlap counts.
        ratio = max(self.overlaps.values())
        rows = [(label(arm), *row) for arm in self.arms for row in self._contrasts(arm)]
        claims = [Claim(corrected(d, ratio=ratio), least, most) for _, _, d, least, most in rows]
        return [
            {"arm": arm, "statement": statement, "held": held}
            | {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}
            for (arm, statement, *_), (estimate, *_), held in zip(
                rows, claims, claims_hold(claims), strict=True
            )
        ]

    def _contrasts(self, arm: Sides) -> list[tuple[str, np.ndarray, float, float]]:
        """Return statements, each with a difference (S,) and the bounds that it claims; those about
        B alone once for several arms to it.
        """
        budget = self.budgets[0]
        base, by = self.base(arm, budget), self.accuracy(arm, budget)
        ends = (by["BnB"][0] + by["BnB"][-1]) / 2
        others = np.min([by[name][-1] for name in by if name != "random"], 0)
        rows = []
        only_b = arm[1] not in [b for _, b in self.arms[: self.arms.index(arm)]]
        if only_b:
            rows.append(("BnB+ is about base B", (by["BnB+"] - base).mean(0), -NEAR, NEAR))
        rows += [
            ("AnB+ is above base B", (by["AnB+"] - base).mean(0), 0, np.inf),
            ("AnB+ is above BnB+", (by["AnB+"] - by["BnB+"]).mean(0), 0, np.inf),
            ("AnB is below BnB", (by["AnB"] - by["BnB"]).mean(0), -np.inf, 0),
            ("random is below all others at the last n", by["random"][-1] - others, -np.inf, 0),
        ]
        if len(self.cuts) > 1:
            fall = by["AnB"][-1] - by["AnB"][0]
            rows.append(("AnB falls from the first n to the last", fall, -np.inf, 0))
        if only_b and len(self.cuts) > 2:
            dip = by["BnB"][1:-1].mean(0) - ends
            rows.append(("BnB is lower in the middle than at its ends", dip, -np.inf, 0))
        if arm != (first := self.arms[0]):
            drop = by["AnB"][-1] - base
            similar = self.accuracy(first, budget)["AnB"][-1] - self.base(first, budget)
            rows.append(
                (f"AnB loses more at the last n than {label(first)}", drop - similar, -np.inf, 0)
            )
        return rows


def decomposition(base: np.ndarray, accuracy: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the two parts of the drop and the gain, each (L, S), paired by seed.

    `base` (S,) is the accuracy of base B, `accuracy` (L, S) that of each treatment.
    """
    return {
        "co-adaptation": base - accuracy["BnB"],
        "specificity": accuracy["BnB"] - accuracy["AnB"],
        "generalisation": accuracy["AnB+"] - accuracy["BnB+"],
    }


def label(arm: Sides) -> str:
    """Return an arm's name as it is shown."""
    return " to ".join(arm)
