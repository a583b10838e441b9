"""Splits of images with boxes, and a budget of labelled images."""

from collections.abc import Mapping, Sequence

import numpy as np

from tl_jax.data import strata
from tl_jax.data.boxes.truth import presence
from tl_jax.data.splits import complete
from tl_jax.data.task import SPLITS
from tl_jax.errors import UserError, takes_type


def divided(
    truth: Mapping[str, np.ndarray],
    classes: int,
    *,
    seed: int,
    val: float,
    test: float,
    labelled: int = 0,
    own: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Return the splits of N images: those that the data say, `own`, and those that are missing,
    spread evenly over the rarest class of each image; images of a group are in one split.

    `labelled` cuts them to a budget (`within_budget`).
    """
    count = len(truth["classes"])
    split_of = np.array([split or "train" for split in own] or ["train"] * count)
    given = {name: np.flatnonzero(split_of == name) for name in SPLITS if name in split_of}
    if not len(given.get("train", ())):
        raise UserError(f"{', '.join(given) or 'no'} images alone: there are none to train on")
    of_strata = np.array(strata.by_rarest(presence(truth, classes)))
    of_groups = np.array(groups) if any(groups) else None
    splits = complete(given, of_strata, seed=seed, val=val, test=test, groups=of_groups)
    return within_budget(splits, labelled, seed=seed)


def within_budget(
    splits: dict[str, np.ndarray], labelled: int, *, seed: int
) -> dict[str, np.ndarray]:
    """Return the splits with `labelled` images to train on (0: all), and of `val` a share like that
    of `train`, at least one. The smaller of two budgets is a part of the larger.
    """
    takes_type("labelled=", int, labelled)
    if not labelled:
        return splits
    there = len(splits["train"])
    if not 0 < labelled <= there:
        raise UserError(f"labelled={labelled}: there are {there} images to train on")
    wanted = {"train": labelled, "val": max(1, round(len(splits["val"]) * labelled / there))}
    cut = {
        name: np.sort(np.random.default_rng([seed, 4]).permutation(splits[name])[:most])
        for name, most in wanted.items()
    }
    return {**splits, **cut}
