"""Inputs that are the same byte for byte, which make a test of memory."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from tl_jax.data.task import SPLITS

logger = logging.getLogger(__name__)


def across(digests: Sequence[bytes], splits: Mapping[str, np.ndarray]) -> dict[str, int]:
    """How many examples of val are in train too, and how many of test in train or val.

    digests: (N,) hash of each example.
    """
    earlier: set[bytes] = set()
    counts = {}
    for split in SPLITS:
        own = [digests[row] for row in splits[split]]
        counts[split] = sum(content in earlier for content in own)
        earlier |= set(own)
    return {split: counts[split] for split in SPLITS[1:]}


def warn(
    what: str,
    digests: Sequence[bytes],
    splits: Mapping[str, np.ndarray],
    cure: str = "",
    noun: str = "images",
) -> None:
    """Log how many examples of the splits, called `noun`, are in an earlier one as well, if any."""
    told = [
        f"{count:,} of {len(splits[split]):,} {noun} of {split}"
        for split, count in across(digests, splits).items()
        if count
    ]
    if told:
        logger.warning(
            "%s: %s are, byte for byte, in another split as well, so what is measured on them is "
            "memory%s", what, " and ".join(told), cure,
        )  # fmt: skip


def distinct(
    digests: Mapping[str, bytes], groups: Mapping[str, tuple[str, str]]
) -> tuple[list[str], list[str]]:
    """Names of which no two are the same, and of the copies left out; both in the given order.

    groups: split and class of each name. Of copies, the one in test is kept, else the one in val;
    of copies in several classes none, as nobody knows which class is right.
    """
    copies: dict[bytes, list[str]] = {}
    for name, content in digests.items():
        copies.setdefault(content, []).append(name)
    kept = {
        max(names, key=lambda name: SPLITS.index(groups[name][0]))  # the first of several
        for names in copies.values()
        if len({groups[name][1] for name in names}) == 1
    }
    left_out = [name for name in digests if name not in kept]
    return [name for name in digests if name in kept], left_out
