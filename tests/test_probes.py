"""Probes against scikit-learn's estimators on the same features, and against hand-made cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from sklearn import linear_model, neighbors, svm

from tl_jax.measure.probes import distance, linear
from tl_jax.measure.probes.points import in_principal_axes

GRID = np.array([10.0, 1e-1, 1e-3, 1e-5])


def data(n=60, d=8, m=40, seed=0, classes=3):
    """Overlapping classes: features (n, d), labels (n,), weights (n,), queries (m, d)."""
    rng = np.random.default_rng(seed)
    means = 1.5 * rng.standard_normal((classes, d))
    labels = np.arange(n) % classes
    x = np.float32(means[labels] + 2 * rng.standard_normal((n, d)))
    weights = rng.choice([1.0, 1 / 3, 2 / 3], n)
    return x, labels, weights, np.float32(2 * rng.standard_normal((m, d)))


def wide(classes=3):
    """More dimensions than examples, one column constant, one twice there."""
    x, labels, weights, query = data(n=30, d=60, seed=1, classes=classes)
    x[:, 3] = query[:, 3] = 7.0
    x[:, 4], query[:, 4] = x[:, 5], query[:, 5]
    return x, labels, weights, query


CASES = {"tall": data(), "wide": wide(), "two classes": data(classes=2), "two, wide": wide(2)}


@pytest.fixture(params=CASES)
def case(request):
    """Features, labels, weights and queries, in float64; and the same as `Points`."""
    x, labels, weights, query = CASES[request.param]
    points = in_principal_axes(x, query, labels=labels, weights=weights, classes=labels.max() + 1)
    return np.float64(x), labels, weights, np.float64(query), points


@settings(max_examples=30, deadline=None)
@given(n=st.integers(3, 12), d=st.integers(1, 12), rank=st.integers(1, 12), seed=st.integers(0, 99))
def test_rotation_keeps_every_inner_product_and_drops_what_is_not_there(n, d, rank, seed):
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((rank, d))
    x, query = (rng.standard_normal((k, rank)) @ basis for k in (n, 5))
    weights = rng.uniform(0.5, 2, n)
    points = in_principal_axes(x, query, labels=np.zeros(n, int), weights=weights, classes=1)
    mean = np.average(x, axis=0, weights=weights)
    centred, asked = x - mean, query - mean
    assert points.train.shape[1] == np.linalg.matrix_rank(centred)
    np.testing.assert_allclose(points.train @ points.train.T, centred @ centred.T, atol=1e-8)
    np.testing.assert_allclose(points.query @ points.train.T, asked @ centred.T, atol=1e-8)
    lengths = (points.query**2).sum(1) + points.outside
    np.testing.assert_allclose(lengths, (asked**2).sum(1), atol=1e-8)
    covariance = points.train.T @ (points.weights[:, None] * points.train)
    np.testing.assert_allclose(covariance, np.diag(points.variances), atol=1e-9)


def test_ridge_is_scikit_learns(case):
    x, labels, weights, query, points = case
    path = linear.ridge(points, GRID)
    targets = np.eye(points.classes)[labels]
    for place, l2 in enumerate(GRID):
        model = linear_model.Ridge(alpha=weights.sum() * l2).fit(x, targets, weights)
        got = points.query @ path.weights[place] + path.intercepts[place]
        np.testing.assert_allclose(got, model.predict(query), rtol=1e-4, atol=1e-5)
        errors = (model.predict(x) - targets) ** 2
        objective = np.average(errors.sum(1) / 2, weights=weights)
        objective += l2 / 2 * (model.coef_**2).sum()
        np.testing.assert_allclose(path.objectives[place], objective, rtol=1e-5, atol=1e-9)


def logistic_of(x, labels, weights, l2):
    """scikit-learn's minimum, its value, and what it predicts."""
    penalty = 1 / (weights.sum() * l2)
    model = linear_model.LogisticRegression(C=penalty, tol=1e-8, max_iter=10_000)
    model.fit(x, labels, weights)
    losses = -np.log(model.predict_proba(x)[np.arange(len(x)), labels])
    value = np.average(losses, weights=weights) + l2 / 2 * (model.coef_**2).sum()
    return value, model.predict


def squared_hinge_of(x, labels, weights, l2):
    """The same of scipy's L-BFGS: LIBLINEAR penalises the intercept and ends too early."""
    sides = 2 * np.eye(labels.max() + 1)[labels] - 1
    share = weights[:, None] / weights.sum()

    def objective(flat):
        w, b = np.split(flat.reshape(-1, sides.shape[1]), [-1])
        missing = np.maximum(1 - sides * (x @ w + b), 0)
        slopes = -2 * share * sides * missing
        gradient = np.concatenate([x.T @ slopes + l2 * w, slopes.sum(0, keepdims=True)])
        return (share * missing**2).sum() + l2 / 2 * (w**2).sum(), gradient.ravel()

    begin = np.zeros((x.shape[1] + 1) * sides.shape[1])
    most = {"maxiter": 20_000, "maxfun": 50_000, "ftol": 1e-15, "gtol": 1e-11}
    found = optimize.minimize(objective, begin, jac=True, method="L-BFGS-B", options=most)
    w, b = np.split(found.x.reshape(-1, sides.shape[1]), [-1])
    # Of two classes each is the mirror image of the other, and one output is what is penalised.
    value = found.fun / 2 if len(w.T) == 2 else found.fun
    return value, lambda query: (query @ w + b).argmax(1)


# Below 1e-3 scipy's takes long to come near the minimum of what can be separated.
PEERS = {
    "logistic": (logistic_of, GRID),
    "squared_hinge": (squared_hinge_of, (10, 0.1, 1e-2, 1e-3)),
}


@pytest.mark.parametrize("loss", PEERS)
def test_paths_end_where_their_peers_do(case, loss):
    x, labels, weights, query, points = case
    peer, grid = PEERS[loss]
    (path,) = linear.paths(loss, [points], [grid])
    predicted = linear.classes(path.outputs(points.query))
    for place, l2 in enumerate(grid):
        objective, predict = peer(x, labels, weights, l2)
        assert path.objectives[place] < 1.0001 * objective + 1e-9
        assert path.objectives[place] > 0.999 * objective - 1e-9  # peers end a little early too
        assert (predicted[place] != predict(query)).sum() <= 1


LOSSES = {
    "ridge": (linear.squared_error, lambda points: linear.ridge(points, GRID)),
    "logistic": (linear.cross_entropy, lambda p: linear.paths("logistic", [p], [GRID])[0]),
    "squared_hinge": (
        linear.squared_hinge,
        lambda p: linear.paths("squared_hinge", [p], [GRID])[0],
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_penalties_add_up_to_what_a_path_minimises(case, name):
    """And its objectives are scikit-learn's and scipy's, as above."""
    _, labels, weights, _, points = case
    loss, solve = LOSSES[name]
    path = solve(points)
    mean = np.average(loss(path.outputs(points.train), labels), axis=1, weights=weights)
    penalty = np.array(GRID) / 2 * (path.weights.astype(float) ** 2).sum((1, 2))
    np.testing.assert_allclose(mean + penalty, path.objectives, rtol=2e-5, atol=1e-7)


def test_sets_together_are_as_each_alone():
    sets = []
    for n in (30, 33, 60):
        x, labels, _, query = data(n=n, seed=n)
        sets.append(in_principal_axes(x, query, labels=labels, classes=3))
    together = linear.paths("logistic", sets, [GRID] * 3)
    for path, points in zip(together, sets, strict=True):
        (alone,) = linear.paths("logistic", [points], [GRID])
        np.testing.assert_allclose(path.objectives, alone.objectives, rtol=1e-5)
        np.testing.assert_array_equal(
            *(linear.classes(own.outputs(points.query)) for own in (path, alone))
        )


def test_a_penalty_alone_is_approached_to_where_the_path_has_it():
    x, labels, weights, query = data()
    points = in_principal_axes(x, query, labels=labels, weights=weights, classes=3)
    (path,) = linear.paths("logistic", [points], [linear.L2])
    (alone,) = linear.paths("logistic", [points], [linear.approach(linear.L2[30], 45)])
    np.testing.assert_allclose(alone.objectives[-1], path.objectives[30], rtol=1e-4)
    np.testing.assert_array_equal(alone.objectives[12:], alone.objectives[-1])


def test_neighbours_are_scikit_learns(case):
    x, labels, weights, query, _ = case
    points = in_principal_axes(x, query, labels=labels, classes=labels.max() + 1)
    got = distance.neighbours(points, (7, 3, 1))
    for row, k in zip(got, (7, 3, 1), strict=True):
        model = neighbors.KNeighborsClassifier(k, metric="cosine").fit(x - x.mean(0), labels)
        np.testing.assert_array_equal(row, model.predict(query - x.mean(0)))


def test_neighbours_vote_with_their_weight():
    x, query = np.array([[1.0, 0.1], [1, 0.2], [1, 0.3], [-3, -0.6]]), np.array([[1.0, 0.2]])
    for weights, wanted in (([1, 1, 1, 1], 1), ([1, 0.2, 0.3, 1], 0)):
        points = in_principal_axes(
            x, query, labels=np.array([0, 1, 1, 0]), weights=weights, classes=2
        )
        assert distance.neighbours(points, (3,)) == [[wanted]]


def test_more_neighbours_than_examples_are_all_of_them():
    x, labels, _, query = data(n=7)
    got = distance.neighbours(in_principal_axes(x, query, labels=labels, classes=3), (50, 7))
    np.testing.assert_array_equal(got[0], got[1])
    assert (got[0] == 0).all()  # of seven, three are of the first class


def test_class_means_are_scikit_learns(case):
    x, labels, _, query, _ = case
    varied = x.std(0) > 0  # or NearestCentroid warns
    wanted = neighbors.NearestCentroid().fit(x[:, varied], labels).predict(query[:, varied])
    got = distance.class_means(in_principal_axes(x, query, labels=labels, classes=labels.max() + 1))
    np.testing.assert_array_equal(got[0], wanted)


def test_class_means_are_weighted():
    x, query = np.array([[0.0], [4], [10], [10]]), np.array([[5.5]])
    for weights, wanted in (([1, 1, 1, 1], 0), ([1, 0.01, 1, 1], 1)):
        points = in_principal_axes(
            x, query, labels=np.array([0, 0, 1, 1]), weights=weights, classes=2
        )
        assert distance.class_means(points) == [[wanted]]


def test_rbf_svm_is_scikit_learns_on_the_features_themselves(case):
    x, labels, weights, query, points = case
    squared = ((x[:, None] - x) ** 2).sum(2)
    gamma = 2.0 / (squared.sum() / (len(x) * (len(x) - 1)))
    model = svm.SVC(C=3.0, gamma=gamma).fit(x, labels, weights / weights.mean())
    got = distance.rbf_svm(points, [(3.0, 2.0)])
    np.testing.assert_array_equal(got[0], model.predict(query))


@pytest.mark.parametrize("classes", [2, 3])
def test_features_without_any_variance_give_the_commonest_class(classes):
    labels = np.array([0, 1, 1, 1, classes - 1])
    x, query = np.full((5, 4), 3.0), np.full((2, 4), 3.0)
    points = in_principal_axes(x, query, labels=labels, classes=classes)
    assert points.train.shape == (5, 0)
    for path in (
        linear.ridge(points, GRID),
        *linear.paths("logistic", [points], [GRID]),
        *linear.paths("squared_hinge", [points], [GRID]),
    ):
        np.testing.assert_array_equal(linear.classes(path.outputs(points.query)), 1)
    np.testing.assert_array_equal(distance.rbf_svm(points, [(1.0, 1.0)]), 1)
    np.testing.assert_array_equal(distance.neighbours(points, (5,)), 1)
    assert distance.class_means(points).shape == (1, 2)
