"""A line of the comparison."""

from typing import NamedTuple


class Row(NamedTuple):
    """A metric of several runs on one split, in percent unless it is the loss."""

    split: str
    metric: str
    mean: float | None  # None: not defined in every run
    deviation: float | None  # of the sample; 0 for one run
    values: list[float]  # by seed
