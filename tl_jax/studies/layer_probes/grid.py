"""The finished cells of a probe study as arrays."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


class ProbeGrid:
    """A study's finished cells as arrays over L layers and S seeds."""

    def __init__(self, config: Mapping[str, Any], layers: Iterable[str], rows: list[dict]):
        self.layers, self.budgets = list(layers), list(config["budgets"])
        self.probes, self.seeds = list(config["probes"]), list(config["seeds"])
        self._rows = {(row["layer"], row["budget"], row["seed"]): row for row in rows}
        # the budget with most training examples
        self.largest = max(self.budgets, key=lambda budget: self.examples(budget)[0])

    def examples(self, budget: float) -> tuple[int, int]:
        """Return a budget's numbers of training and validation examples, for the first seed."""
        row = self._rows[self.layers[0], budget, self.seeds[0]]
        return row["train"], row["val"]

    def values(self, budget: float, probe: str, metric: str) -> np.ndarray:
        """Return `val`, `test` or `test_weighted` (L, S); NaN if the probe was left out."""
        rows = self._cells(budget, probe)
        return np.array([[cell.get(metric, np.nan) for cell in row] for row in rows], np.float64)

    def settings(self, budget: float, probe: str) -> list[list]:
        """Return the settings chosen by seed for each layer; empty if the probe was left out."""
        return [[cell["setting"] for cell in row if cell] for row in self._cells(budget, probe)]

    def _cells(self, budget: float, probe: str) -> list[list[dict]]:
        return [
            [self._rows[layer, budget, seed]["probes"].get(probe, {}) for seed in self.seeds]
            for layer in self.layers
        ]
