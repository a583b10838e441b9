"""Which examples are trained on, chosen by and tested on."""

import hashlib
import itertools
from collections.abc import Mapping

import numpy as np
import scipy.sparse

from tl_jax.data.task import SPLITS
from tl_jax.errors import UserError, takes_type

SEEDS = 2**32
DRAWS = 4  # of whole groups, of which the nearest to the shares is taken


def stratified(
    strata: np.ndarray, *, seed: int, val: float = 0.1, test: float = 0.25
) -> dict[str, np.ndarray]:
    """Splits of N examples in which every stratum has its share, fixed by `seed`.

    strata: (N,) class names, or whatever else is to be spread evenly. `val` and `test` are
    fractions of N. Every split has of every stratum the rounded share, but at least one example:
    UserError names a stratum of fewer than three.
    """
    return complete({"train": np.arange(len(strata))}, strata, seed=seed, val=val, test=test)


def divide(
    given: Mapping[str, np.ndarray],
    names: np.ndarray,
    *,
    seed: int,
    val: float,
    test: float,
    per_class: int = 0,
    strata: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The splits of a task: `complete`, then cut to a label budget, if `per_class` is not 0.

    names: (N,) class of each example, stratified by unless `strata` are given. groups: (N,) the
    document or patient of each example; examples of one are in one split. A budget counts
    every label that is looked at before the test. 'train' keeps exactly `per_class` of each class,
    'val' is cut in proportion: to `per_class` times its size over that of 'train', rounded, of each
    class, but at least one, and at most what there is. 'test' stays whole.
    """
    takes_type("per_class=", int, per_class)
    strata = names if strata is None else strata
    splits = complete(given, strata, seed=seed, val=val, test=test, groups=groups)
    if per_class:
        share = len(splits["val"]) / max(1, len(splits["train"]))
        splits["train"] = budget(splits["train"], names, per_class=per_class, seed=seed)
        fewer = max(1, round(per_class * share))
        splits["val"] = _at_most(splits["val"], names, per_class=fewer, seed=seed)
    return splits


def complete(
    given: Mapping[str, np.ndarray],
    strata: np.ndarray,
    *,
    seed: int,
    val: float,
    test: float,
    groups: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The given splits, and those of 'test' and 'val' that are missing, taken out of 'train'.

    given: indices into `strata` (N,); `val` and `test` are fractions of the given 'train'. groups:
    (N,) or None; the shares are met as nearly as whole groups allow. UserError for a group that the
    given splits take apart.
    """
    for name, share in (("val=", val), ("test=", test)):
        takes_type(name, float, share)
    if not (0 < val < 1 and 0 < test < 1 and val + test < 1):
        raise UserError(
            f"val and test are fractions above 0 whose sum is below 1; got val={val}, test={test}"
        )
    splits = {name: np.sort(np.asarray(index, np.int64)) for name, index in given.items()}
    if groups is not None:
        _require_whole(splits, groups := np.asarray(groups))
    missing = [name for name in ("test", "val") if name not in splits]
    rng, share, whole = _generator(seed), {"test": test, "val": val}, 1.0
    while missing:
        name, train = missing.pop(0), splits["train"]
        fraction, leave = share[name] / whole, 1 + len(missing)
        of = None if groups is None else groups[train]
        held = _hold_out(np.asarray(strata)[train], fraction, of, leave=leave, rng=rng)
        splits["train"], splits[name] = train[~held], train[held]
        whole -= share[name]
    return {name: splits[name] for name in SPLITS}


def _hold_out(
    strata: np.ndarray, fraction: float, groups: np.ndarray | None, *, leave: int, rng
) -> np.ndarray:
    """(N,) bool: a random `fraction` of every stratum, at least one and leaving at least `leave`.

    Shares are rounded by the largest remainders, so that their sum is `fraction` of N, rounded.
    Groups (N,) are held out whole.
    """
    if not len(strata):
        raise UserError("there are no examples to split")
    names, member, counts = np.unique(strata, return_inverse=True, return_counts=True)
    if counts.min() <= leave:
        raise _too_few(names, counts, leave + 1, "for one in each split")
    ideal = counts * fraction
    take = np.clip(np.floor(ideal).astype(int), 1, counts - leave)
    spare = max(0, round(len(strata) * fraction) - take.sum())
    order = np.argsort(take - ideal, kind="stable")  # the largest remainder first
    order = order[take[order] < counts[order] - leave]
    take[order[:spare]] += 1
    if groups is not None and len(np.unique(groups)) < len(groups):
        return _whole_groups(names, member, groups, take, leave=leave, rng=rng)
    held = np.zeros(len(strata), bool)
    for stratum, n in enumerate(take):
        held[rng.permutation(np.flatnonzero(member == stratum))[:n]] = True
    return held


def _whole_groups(
    names: np.ndarray, member: np.ndarray, groups: np.ndarray, take: np.ndarray, *, leave: int, rng
) -> np.ndarray:
    """(N,) bool: groups whose examples of each stratum come as near to `take` (S,) as they can.

    member: (N,) number of each example's stratum, among the `names` (S,). Every stratum is in a
    group that is held out and in `leave` others.
    """
    _, group = np.unique(groups, return_inverse=True)
    shape = (group.max() + 1, len(take))
    sizes = scipy.sparse.csr_array((np.ones(len(group), int), (group, member)), shape=shape)
    have = np.bincount(sizes.indices, minlength=len(take))  # groups with examples of each stratum
    if have.min() <= leave:
        raise _too_few(names, have, leave + 1, "for one in each split", "groups of examples")
    drawn = (_drawn(sizes, take, have - leave, rng) for _ in range(DRAWS))
    held, missing = min(drawn, key=lambda d: ((d[1] == take).any(), np.sum(d[1] ** 2 / take)))
    if len(never := np.flatnonzero(missing == take)):
        raise UserError(
            f"whole groups cannot be divided so that every split has examples of each class: "
            f"{str(names[never[0]])!r} is in {have[never[0]]} groups; leave the class out"
        )
    return held[group]


def _drawn(
    sizes: scipy.sparse.csr_array, take: np.ndarray, spare: np.ndarray, rng
) -> tuple[np.ndarray, np.ndarray]:
    """Random groups (G,) bool that have about `take` (S,) examples; and what they lack of it (S,).

    sizes: (G, S) examples of each group in each stratum; `spare` (S,): how many groups of a stratum
    may be drawn. Groups are looked at twice: one is drawn if it is the first of a stratum or brings
    the counts nearer, and put back where that does. Near is the sum over strata of squared
    differences, divided by `take`.
    """
    held = np.zeros(len(sizes.indptr) - 1, bool)
    missing, drawn = take.astype(float), np.zeros_like(spare)
    for number in np.concatenate([rng.permutation(len(held)) for _ in range(2)]):
        own = slice(*sizes.indptr[number : number + 2])
        strata, sign = sizes.indices[own], -1 if held[number] else 1
        counts, groups = sign * sizes.data[own], drawn[strata] + sign
        first = sign > 0 and (groups == 1).any()
        nearer = np.sum(counts * (2 * missing[strata] - counts) / take[strata]) > 0
        if (first or nearer) and (groups > 0).all() and (groups <= spare[strata]).all():
            held[number] = sign > 0
            missing[strata] -= counts
            drawn[strata] = groups
    return held, missing


def _require_whole(splits: Mapping[str, np.ndarray], groups: np.ndarray) -> None:
    names = {split: np.unique(groups[rows]) for split, rows in splits.items()}
    for one, other in itertools.combinations(names, 2):
        if len(both := np.intersect1d(names[one], names[other])):
            raise UserError(
                f"{str(both[0])!r} is in {one} and in {other}, and so are {len(both) - 1} more "
                "groups of examples that belong together; move each to one split, or give those "
                "that differ different names"
            )


def budget(indices: np.ndarray, labels: np.ndarray, *, per_class: int, seed: int) -> np.ndarray:
    """Exactly `per_class` of the `indices` for every class in `labels` (N,), sorted.

    With the same seed a smaller budget is a subset of a larger one. UserError names a class that
    has fewer.
    """
    labels, indices = np.asarray(labels), np.sort(indices)
    names, mine = np.unique(labels), labels[indices]
    counts = np.array([np.count_nonzero(mine == name) for name in names])
    if per_class < 1:
        raise UserError(f"a budget is at least 1 example a class; got {per_class}")
    if counts.min() < per_class:
        raise _too_few(names, counts, per_class, "for the budget")
    return _at_most(indices, labels, per_class=per_class, seed=seed)


def _at_most(indices: np.ndarray, labels: np.ndarray, *, per_class: int, seed: int) -> np.ndarray:
    """Up to `per_class` of the `indices` for every class in `labels` (N,), sorted."""
    rng, indices, labels = _generator(seed), np.sort(indices), np.asarray(labels)
    mine = labels[indices]
    chosen = [rng.permutation(indices[mine == name])[:per_class] for name in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def _too_few(
    names: np.ndarray, counts: np.ndarray, needed: int, purpose: str, what: str = "examples"
) -> UserError:
    least = counts.argmin()
    return UserError(
        f"class {str(names[least])!r} has {counts[least]} {what}, but {needed} are "
        f"needed {purpose}; add some, leave the class out or ask for less"
    )


def identity(rows: np.ndarray) -> str:
    """Return a hash of a split (n,): the same for the same examples, in whatever order."""
    return hashlib.sha256(np.sort(rows).tobytes()).hexdigest()[:16]


def require_seed(seed: int) -> None:
    """UserError for a seed that not every generator takes: of larger ones JAX drops bits."""
    takes_type("seed=", int, seed)
    if not 0 <= seed < SEEDS:
        raise UserError(f"a seed is a whole number from 0 to {SEEDS - 1}; got {seed}")


def _generator(seed: int) -> np.random.Generator:
    require_seed(seed)
    return np.random.default_rng(seed)
