"""The lines of a comparison."""

from typing import NamedTuple

from tl_jax.stats.paired import Estimate


class Row(NamedTuple):
    """A metric of several runs on one split."""

    split: str
    metric: str
    mean: float | None  # None: not defined in every run
    deviation: float | None  # of the sample; 0 for one run
    values: list[float]  # by seed


class Method(NamedTuple):
    """Runs whose configs differ only in their seed."""

    name: str  # the settings that differ between methods
    seeds: list[int]
    mean: Estimate  # of the metric on test
    seconds: float | None  # of a run, mean over seeds; None: not known for every run
    parameters: int | None  # trained in the phase that trains most
    kept: str | None  # epochs that the last phase handed on, and what chose them


class Difference(NamedTuple):
    """A method minus the first one in the metric on test, paired by seed."""

    name: str
    estimate: Estimate
    p: float  # two-sided p value of no difference: corrected t test, then Holm's correction
    verdict: str  # helps, hurts or cannot tell


class Comparison(NamedTuple):
    """Methods compared with the first, by one metric."""

    metric: str
    ratio: float  # n_test / n_train of splits drawn anew; 0: one test split
    margin: float  # in the metric's own unit: 0.01 is a point of accuracy
    methods: list[Method]
    differences: list[Difference]  # one for each method but the first
