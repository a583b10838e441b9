import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tl_jax.data.splits import budget, complete, divide, stratified
from tl_jax.errors import UserError

SIZES = st.lists(st.integers(3, 40), min_size=1, max_size=6)
FRACTIONS = st.tuples(st.floats(0.01, 0.49), st.floats(0.01, 0.49))
SEEDS = st.integers(0, 2**32 - 1)
quick = settings(max_examples=60, deadline=None)


def shuffled(sizes, seed):
    strata = np.repeat([f"c{i}" for i in range(len(sizes))], sizes)
    return np.random.default_rng(seed).permutation(strata)


@quick
@given(sizes=SIZES, fractions=FRACTIONS, seed=SEEDS)
def test_splits_are_disjoint_cover_all_and_hold_each_stratums_share(sizes, fractions, seed):
    strata, (val, test) = shuffled(sizes, seed), fractions
    splits = stratified(strata, seed=seed, val=val, test=test)
    assert list(splits) == ["train", "val", "test"]
    np.testing.assert_array_equal(np.sort(np.concatenate([*splits.values()])), range(len(strata)))
    # Test is one rounding away from its share; val is a part of what that left, train the rest.
    for name, fraction, off in (("test", test, 1), ("val", val, 2), ("train", 1 - val - test, 3)):
        index = splits[name]
        assert index.dtype == np.int64 and (np.diff(index) > 0).all()
        for stratum, size in zip(np.unique(strata), sizes, strict=True):
            count = np.count_nonzero(strata[index] == stratum)
            assert count >= 1
            assert abs(count - fraction * size) < off


@quick
@given(sizes=SIZES, seed=SEEDS)
def test_the_seed_alone_decides(sizes, seed):
    strata = shuffled(sizes, 0)
    first, again = (stratified(strata, seed=seed) for _ in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


def test_another_seed_splits_otherwise():
    strata = shuffled([50, 50], 0)
    drawn = {tuple(stratified(strata, seed=seed)["test"]) for seed in range(20)}
    assert len(drawn) == 20


@quick
@example(sizes=[3, 40], parts=[1, 5, 1], seed=0)
@example(sizes=[3, 40], parts=[5, 1, 1], seed=0)
@given(sizes=SIZES, parts=st.lists(st.integers(1, 100), min_size=3, max_size=3), seed=SEEDS)
def test_every_split_has_every_stratum_however_the_fractions(sizes, parts, seed):
    strata, (val, test, _) = shuffled(sizes, seed), np.divide(parts, sum(parts))
    for index in stratified(strata, seed=seed, val=val, test=test).values():
        assert len(np.unique(strata[index])) == len(sizes)


def test_sizes_by_hand():
    # Test: 2.5 and 5 of 10 and 20, 7.5 in all: 8 by Python's round. Val: 1 and 2.
    strata = np.repeat(["a", "b"], [10, 20])
    splits = stratified(strata, seed=0, val=0.1, test=0.25)
    counts = {k: tuple(np.unique(strata[v], return_counts=True)[1]) for k, v in splits.items()}
    assert counts == {"train": (6, 13), "val": (1, 2), "test": (3, 5)}


def test_every_example_is_as_likely_to_be_tested_on():
    strata = np.repeat(["a", "b"], [4, 8])
    tested = np.zeros(12)
    for seed in range(400):
        tested[stratified(strata, seed=seed)["test"]] += 1
    # 100 expected of each, standard deviation sqrt(400 x 1/4 x 3/4) = 8.7; within 4.6 of them
    assert tested.sum() == 400 * 3
    assert (abs(tested - 100) < 40).all()


@pytest.mark.parametrize("given_", [("train", "test"), ("train", "val"), ("train", "val", "test")])
def test_given_splits_stay_and_the_missing_are_taken_out_of_train(given_):
    strata = shuffled([30, 60], 1)
    parts = dict(zip(given_, np.split(np.arange(90), [50, 70]), strict=False))
    splits = complete(parts, strata, seed=3, val=0.2, test=0.3)
    for name in set(given_) - {"train"}:
        np.testing.assert_array_equal(splits[name], parts[name])
    union = np.concatenate([splits[n] for n in {"train", "val", "test"} - set(given_[1:])])
    np.testing.assert_array_equal(np.sort(union), parts["train"])
    if "val" not in given_:
        assert len(splits["val"]) == 10
    if "test" not in given_:
        assert len(splits["test"]) == 15


def test_a_class_with_too_few_is_named_with_what_it_needs():
    with pytest.raises(UserError, match="class 'rare' has 2 examples, but 3 are needed"):
        stratified(np.array(["often"] * 50 + ["rare"] * 2), seed=0)


@pytest.mark.parametrize(("val", "test"), [(0, 0.2), (0.2, 0), (0.5, 0.5), (-0.1, 0.2), (1.5, 0.1)])
def test_fractions_that_leave_a_split_empty_are_refused(val, test):
    with pytest.raises(UserError, match="val and test are fractions"):
        stratified(np.zeros(100), seed=0, val=val, test=test)


def test_nothing_to_split_and_a_bad_seed_are_refused():
    with pytest.raises(UserError, match="no examples"):
        stratified(np.array([]), seed=0)
    with pytest.raises(UserError, match="seed"):
        stratified(np.zeros(9), seed=-1)


@quick
@given(sizes=SIZES, seed=SEEDS, data=st.data())
def test_a_budget_is_exact_and_smaller_ones_are_nested(sizes, seed, data):
    labels = shuffled(sizes, seed)
    few = data.draw(st.integers(1, min(sizes)))
    more = data.draw(st.integers(few, min(sizes)))
    indices = np.arange(len(labels))
    small = budget(indices, labels, per_class=few, seed=seed)
    large = budget(indices, labels, per_class=more, seed=seed)
    assert set(small) <= set(large)
    for chosen, n in ((small, few), (large, more)):
        assert (np.diff(chosen) > 0).all()
        assert (np.unique(labels[chosen], return_counts=True)[1] == n).all()
        assert len(chosen) == n * len(sizes)


def test_another_seed_spends_the_budget_otherwise():
    labels = np.repeat(["a", "b"], 50)
    drawn = {tuple(budget(np.arange(100), labels, per_class=5, seed=seed)) for seed in range(20)}
    assert len(drawn) == 20


def test_a_budget_counts_the_labels_of_val_and_leaves_test_whole():
    names, share = shuffled([40, 60], 0), {"seed": 1, "val": 0.2, "test": 0.2}
    whole = divide({"train": np.arange(100)}, names, **share)
    cut = divide({"train": np.arange(100)}, names, **share, per_class=9)
    assert set(cut["train"]) < set(whole["train"]) and len(cut["train"]) == 18
    # 20 to choose by beside 60 to learn from: a third of 9, of each class
    assert set(cut["val"]) < set(whole["val"])
    assert np.unique(names[cut["val"]], return_counts=True)[1].tolist() == [3, 3]
    np.testing.assert_array_equal(cut["test"], whole["test"])


@quick
@given(sizes=SIZES, seed=SEEDS, data=st.data())
def test_val_has_every_class_at_any_budget_and_smaller_ones_are_nested(sizes, seed, data):
    names = shuffled(sizes, seed)
    whole = divide({"train": np.arange(len(names))}, names, seed=seed, val=0.2, test=0.2)
    most = min(np.unique(names[whole["train"]], return_counts=True)[1])
    few = data.draw(st.integers(1, most))
    kept = [
        divide({"train": np.arange(len(names))}, names, seed=seed, val=0.2, test=0.2, per_class=n)
        for n in (few, most)
    ]
    assert set(kept[0]["val"]) <= set(kept[1]["val"]) <= set(whole["val"])
    for one in kept:
        assert len(np.unique(names[one["val"]])) == len(sizes)


def test_a_val_split_of_fewer_than_its_share_is_kept_whole():
    names = np.array(["a", "b"] * 10 + ["a"] * 7 + ["b"])
    given_ = {"train": np.arange(20), "val": np.arange(20, 28)}
    cut = divide(given_, names, seed=0, val=0.1, test=0.2, per_class=5)
    # 8 of 16 are a half of the budget, 2 of each class (by Python's round); there is one b.
    assert np.unique(names[cut["val"]], return_counts=True)[1].tolist() == [2, 1]


def test_a_budget_that_a_class_cannot_fill_names_it():
    labels = np.array(["a"] * 5 + ["b"] * 3)
    with pytest.raises(UserError, match="class 'b' has 3 examples, but 4 are needed"):
        budget(np.arange(8), labels, per_class=4, seed=0)
    with pytest.raises(UserError, match="class 'b' has 0 examples, but 1 are needed"):
        budget(np.arange(5), labels, per_class=1, seed=0)
    with pytest.raises(UserError, match="at least 1 example a class"):
        budget(np.arange(8), labels, per_class=-1, seed=0)


GROUPED = {"seed": 0, "val": 0.1, "test": 0.25}


@quick
@given(
    documents=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), max_size=60), seed=SEEDS
)
def test_a_group_is_in_one_split_and_every_split_has_every_class(documents, seed):
    documents = [[0, 1, 2]] * 3 + documents  # so that it can be done
    names = np.array([f"c{label}" for document in documents for label in document])
    groups = np.repeat(np.arange(len(documents)), [len(document) for document in documents])
    order = np.random.default_rng(seed).permutation(len(names))
    names, groups = names[order], groups[order]
    options = GROUPED | {"seed": seed}
    splits = divide({"train": np.arange(len(names))}, names, **options, groups=groups)
    np.testing.assert_array_equal(np.sort(np.concatenate([*splits.values()])), range(len(names)))
    assert sum(len(np.unique(groups[rows])) for rows in splits.values()) == len(documents)
    for rows in splits.values():
        assert len(np.unique(names[rows])) == 3
    again = divide({"train": np.arange(len(names))}, names, **options, groups=groups)
    np.testing.assert_array_equal(again["test"], splits["test"])


def test_whole_groups_meet_the_shares_of_each_class_and_long_ones_are_spread():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 20, 500)
    groups, names = np.repeat(np.arange(500), sizes), rng.choice(["a", "a", "b"], sizes.sum())
    means = []
    for seed in range(5):
        options = GROUPED | {"seed": seed}
        splits = divide({"train": np.arange(len(names))}, names, **options, groups=groups)
        for split, share in (("test", 0.25), ("val", 0.1)):
            for name in "ab":
                found, whole = (names[splits[split]] == name).sum(), (names == name).sum()
                assert abs(found - share * whole) <= 0.01 * whole
        means.append(sizes[np.unique(groups[splits["test"]])].mean())
    assert abs(np.mean(means) - sizes.mean()) < 1  # not the longest, and not the shortest


def test_groups_of_one_are_no_groups():
    names = shuffled([30, 20], 0)
    given_ = {"train": np.arange(50)}
    alone = divide(given_, names, **GROUPED, groups=np.arange(50))
    for split, rows in divide(given_, names, **GROUPED).items():
        np.testing.assert_array_equal(alone[split], rows)


def test_a_budget_counts_examples_not_groups():
    names, groups = np.tile(["a", "b"], 60), np.repeat(np.arange(30), 4)
    splits = divide({"train": np.arange(120)}, names, **GROUPED, groups=groups, per_class=7)
    assert np.unique(names[splits["train"]], return_counts=True)[1].tolist() == [7, 7]


def test_groups_that_cannot_be_kept_whole_are_refused():
    names, groups = np.tile(["a", "b"], 20), np.repeat(np.arange(10), 4)
    with pytest.raises(UserError, match="'3' is in train and in test, and so are 0 more"):
        given_ = {"train": np.arange(14), "test": np.arange(14, 40)}
        divide(given_, names, **GROUPED, groups=groups)
    names[:] = "a"
    names[:8] = "b"
    with pytest.raises(UserError, match="class 'b' has 2 groups of examples, but 3 are needed"):
        divide({"train": np.arange(40)}, names, **GROUPED, groups=groups)
