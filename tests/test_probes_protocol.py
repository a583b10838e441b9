"""How probes are judged: budgets, choice on validation, one look at the test split."""

import dataclasses

import numpy as np
import pytest
from sklearn import linear_model, metrics, neighbors, svm

from tl_jax.data.tasks.arrays import from_arrays
from tl_jax.errors import UserError
from tl_jax.measure.probes import linear, protocol

CLASSES = 3


def task(n=120, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 4, 4)).astype(np.uint8)
    return from_arrays("noise", images, np.arange(n) % CLASSES, seed=seed, val=0.2, test=0.2)


def features(mine, noise=0.7, dimensions=CLASSES):
    rng = np.random.default_rng(0)
    x = noise * rng.standard_normal((len(mine.labels), dimensions))
    x[:, :CLASSES] += np.eye(CLASSES)[mine.labels]
    return x


@pytest.mark.parametrize("budget", [0.01, 0.3, 5])
def test_budgets_have_every_class_and_larger_ones_hold_smaller_ones(budget):
    mine = task()
    cut, more = (protocol.within(mine, b, seed=3) for b in (budget, 1))
    larger = protocol.within(mine, 0.6 if budget < 1 else 9, seed=3)
    for part, bigger, whole in zip(cut, larger, more, strict=True):
        assert set(part) <= set(bigger) <= set(whole)
        assert set(mine.labels[part]) == set(range(CLASSES))
    wanted = {0.01: (1, 1), 0.3: (7, 2), 5: (5, 2)}[budget]  # of 24 and of 8 a class
    for part, size in zip(cut, wanted, strict=False):
        np.testing.assert_array_equal(np.bincount(mine.labels[part]), size)
    np.testing.assert_array_equal(cut.test, mine.splits["test"])


def test_other_seeds_leave_other_examples():
    one, other = (protocol.within(task(), 0.3, seed=seed) for seed in (0, 1))
    assert set(one.train) != set(other.train)


def test_settings_are_chosen_on_validation_and_tested_after_refitting_on_both():
    mine = task()
    x, own = features(mine), protocol.within(mine, 1, seed=0)
    (answer,) = protocol.examine(x, [(mine, own)], tuple(protocol.PROBES))
    assert set(answer) == set(protocol.PROBES)
    both = np.concatenate([own.train, own.val])

    def tested(model, rows, query):
        centre = x[rows].mean(0)
        model.fit(x[rows] - centre, mine.labels[rows])
        return np.mean(model.predict(x[query] - centre) == mine.labels[query])

    def by_neighbours(k):
        return neighbors.KNeighborsClassifier(k, metric="cosine")

    val = {k: tested(by_neighbours(k), own.train, own.val) for k in protocol.KS}
    got = answer["neighbours"]
    best = max(val.values())
    assert got["val"] == pytest.approx(best)
    # Of equally good ones the fewest neighbours
    assert got["setting"] == min(k for k, score in val.items() if score == best)
    assert got["test"] == tested(by_neighbours(got["setting"]), both, own.test)
    chosen = linear_model.LogisticRegression(
        C=1 / (len(both) * answer["logistic"]["setting"]), tol=1e-8, max_iter=1000
    )
    assert answer["logistic"]["test"] == tested(chosen, both, own.test)
    assert all(0.5 < own["test"] == own["test_weighted"] <= 1 for own in answer.values())


def in_views(mine, count=3, noise=0.5):
    """Features (V, N, D) that differ from view to view."""
    x, rng = features(mine, noise=0.3), np.random.default_rng(1)
    return x + noise * rng.standard_normal((count, *x.shape))


def test_probes_learn_from_all_views_and_answer_with_their_mean():
    """As scikit-learn's models on the views of all examples, asked for each view of an image:
    linear ones for their outputs, neighbours for their votes.
    """
    mine = task()
    x, own = in_views(mine), protocol.within(mine, 1, seed=0)
    (answer,) = protocol.examine(x, [(mine, own)], ("ridge", "linear_svm", "neighbours"))
    x -= np.concatenate(x[:, np.concatenate([own.train, own.val])]).mean(0)
    targets = np.eye(CLASSES)[mine.labels]

    def mean(model, rows, query, *, truth, ask):
        model.fit(np.concatenate(x[:, rows]), np.concatenate([truth[rows]] * 3))
        return np.mean([ask(model, view) for view in x[:, query]], 0)

    def tested(model, **how):
        found = mean(model, np.concatenate([own.train, own.val]), own.test, **how)
        return np.mean(found.argmax(1) == mine.labels[own.test])

    count, losses = 3 * len(own.train), []
    for l2 in linear.L2:
        how = {"truth": targets, "ask": linear_model.Ridge.predict}
        found = mean(linear_model.Ridge(alpha=count * l2), own.train, own.val, **how)
        losses.append(np.mean((found - targets[own.val]) ** 2))
    assert answer["ridge"]["setting"] == linear.L2[int(np.argmin(losses))]

    count += 3 * len(own.val)
    got = answer["linear_svm"]  # large intercepts cost next to nothing
    model = svm.LinearSVC(C=1 / (count * got["setting"]), intercept_scaling=100, max_iter=100_000)
    how = {"truth": mine.labels, "ask": svm.LinearSVC.decision_function}
    assert got["test"] == tested(model, **how)

    got = answer["neighbours"]
    model = neighbors.KNeighborsClassifier(got["setting"], metric="cosine")
    how = {"truth": mine.labels, "ask": lambda model, view: np.eye(CLASSES)[model.predict(view)]}
    assert got["test"] == tested(model, **how)


def test_a_linear_probe_of_views_is_asked_for_their_mean_feature():
    """The mean of linear outputs is the output of the mean; copies of a view change nothing."""
    mine = task()
    own, x, probes = protocol.within(mine, 1, seed=0), in_views(mine), ("ridge", "linear_svm")
    mean = x.copy()
    mean[:, own.test] = x[:, own.test].mean(0)
    for one, other in ((x, mean), (x[0], np.repeat(x[:1], 3, 0))):
        found = [protocol.examine(each, [(mine, own)], probes) for each in (one, other)]
        assert found[0] == found[1]


def test_a_penalty_is_chosen_by_the_loss_on_validation():
    mine = task()
    x, own = features(mine), protocol.within(mine, 1, seed=0)
    (answer,) = protocol.examine(x, [(mine, own)], ("ridge", "logistic"))
    x -= x[own.train].mean(0)
    targets, losses = np.eye(CLASSES)[mine.labels], []
    for l2 in linear.L2:
        model = linear_model.Ridge(alpha=l2 * len(own.train)).fit(x[own.train], targets[own.train])
        losses.append(np.mean((model.predict(x[own.val]) - targets[own.val]) ** 2))
    assert answer["ridge"]["setting"] == linear.L2[int(np.argmin(losses))]
    losses = []
    for l2 in linear.L2:
        model = linear_model.LogisticRegression(C=1 / (len(own.train) * l2), max_iter=1000)
        model.fit(x[own.train], mine.labels[own.train])
        losses.append(metrics.log_loss(mine.labels[own.val], model.predict_proba(x[own.val])))
    assert answer["logistic"]["setting"] == linear.L2[int(np.argmin(losses))]


def test_what_few_and_uneven_examples_choose_survives_the_refit():
    """Three of each class to train on; of the validation examples most are of one class."""
    mine = task(n=600)
    x = features(mine, noise=0.5, dimensions=20)
    rows = [np.flatnonzero(mine.labels == c) for c in range(CLASSES)]
    train = np.concatenate([own[:3] for own in rows])
    val = np.concatenate([own[3 : 3 + n] for own, n in zip(rows, (8, 2, 2), strict=True)])
    own = protocol.Examples(train, val, np.concatenate([own[20:] for own in rows]))
    (answer,) = protocol.examine(x, [(mine, own)], ("ridge", "logistic", "linear_svm", "rbf_svm"))
    # The strongest penalty is no less accurate on validation, and useless afterwards.
    both = protocol._points(x[None], mine, np.concatenate([train, val]), own.test)
    strongest = linear.classes(linear.ridge(both, linear.L2[:1]).outputs(both.query))
    assert np.mean(strongest == mine.labels[own.test]) < 0.4
    assert {name: got["test"] for name, got in answer.items() if got["test"] < 0.6} == {}


def test_several_sets_at_once_are_as_each_alone():
    tasks = [task(seed=seed) for seed in (0, 1)]
    several = [(mine, protocol.within(mine, 0.5, seed=0)) for mine in tasks]
    x, probes = features(tasks[0]), ("ridge", "logistic", "linear_svm")
    together = protocol.examine(x, several, probes)
    assert together == [protocol.examine(x, [own], probes)[0] for own in several]


def test_examples_count_with_the_weight_that_the_task_gives_them():
    mine = task()
    # What is wrong has next to no weight in training, so that it does as little harm.
    rng = np.random.default_rng(0)
    wrong = rng.random(len(mine.labels)) < 0.4
    targets = mine.targets.copy()
    targets[wrong] = np.roll(targets[wrong], 1, axis=1)
    weights = np.where(wrong, np.float32(1e-3), np.float32(1))
    graded = {"graded_labels": targets.argmax(1), "graded_weights": weights}
    doubtful = mine.with_truth(targets=targets, weights=weights, **graded)
    x, own = features(mine, noise=0.2), protocol.within(mine, 1, seed=0)
    probes = ("ridge", "logistic", "linear_svm", "rbf_svm", "class_means")
    (answer,) = protocol.examine(x, [(doubtful, own)], probes)
    for got in answer.values():
        assert got["test"] > 0.9 and got["val"] > 0.9
        assert got["test_weighted"] > 0.9


def test_validation_is_counted_as_test_is():
    """Targets name the next class: what a probe learns is not what accuracy counts."""
    mine = task()
    targets = np.roll(mine.targets, 1, axis=1)
    odd = np.arange(len(mine.ids)) % 2
    graded = {"graded_labels": targets.argmax(1) * odd, "graded_weights": odd + 0.5 * (1 - odd)}
    shifted = mine.with_truth(targets=targets, **graded)
    x, own = features(mine, noise=0.01), protocol.within(mine, 1, seed=0)
    (answer,) = protocol.examine(x, [(shifted, own)], ("class_means",))
    got, rows = answer["class_means"], own.val
    hits = targets[rows].argmax(1) == graded["graded_labels"][rows]
    assert got["val"] == 1 and got["val_accuracy"] == got["test"] == 0
    weighted = np.average(hits, weights=graded["graded_weights"][rows])
    assert got["val_weighted_accuracy"] == pytest.approx(weighted) and 0 < weighted < 1


def test_more_dimensions_than_examples_of_noise_teach_nothing():
    mine = task()
    x = np.random.default_rng(1).standard_normal((120, 200))
    (answer,) = protocol.examine(x, [(mine, protocol.within(mine, 1, seed=0))], ("logistic",))
    assert answer["logistic"]["test"] < 0.65


def test_rbf_svm_is_left_out_where_there_are_too_many_examples(monkeypatch):
    monkeypatch.setattr(protocol, "RBF_EXAMPLES", 20)
    mine = task()
    sets = [(mine, protocol.within(mine, budget, seed=0)) for budget in (1, 0.01)]
    found = [protocol.examine(features(mine), [own], ("rbf_svm",))[0] for own in sets]
    assert [list(own) for own in found] == [[], ["rbf_svm"]]


def test_the_grid_is_kornbliths():
    assert len(linear.L2) == 45
    np.testing.assert_allclose(sorted(linear.L2), np.logspace(-6, 5, 45))


def without(split):
    mine = task()
    kept = mine.splits[split][mine.labels[mine.splits[split]] != 1]
    return dataclasses.replace(mine, splits={**mine.splits, split: kept})


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: protocol.within(task(), 50, seed=0), "class '0' has 24 training examples"),
        (lambda: protocol.within(task(), 1.5, seed=0), "a budget is"),
        (lambda: protocol.within(task(), 0, seed=0), "a budget is"),
        (lambda: protocol.within(task(), "1", seed=0), "a budget is .* got '1'"),
        (lambda: protocol.within(task(), float("nan"), seed=0), "a budget is"),
        (lambda: protocol.within(without("train"), 1, seed=0), "train split .* no example of '1'"),
        (lambda: protocol.within(without("val"), 5, seed=0), "val split .* no example of '1'"),
        (lambda: protocol.within(without("test"), 0.1, seed=0), "test split .* no example of '1'"),
        (lambda: protocol.examine(np.zeros((120, 2)), [], ("logistik",)), "'logistic'"),
    ],
)
def test_what_cannot_be_is_refused(ask, words):
    with pytest.raises(UserError, match=words):
        ask()
