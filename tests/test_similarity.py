"""CKA and SVCCA against their definitions, other implementations, and what must not matter."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import CCA

from tl_jax.errors import UserError
from tl_jax.measure.similarity import linear_cka, shuffled, svcca


def layers(n=40, widths=(3, 6, 50), seed=0):
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(n, 3))
    noise = [rng.normal(size=(n, d)) for d in widths]
    return [source @ rng.normal(size=(3, d)) + 0.5 * e for d, e in zip(widths, noise, strict=True)]


def hsic(k, l_):
    """Song et al. 2012, equation 5, term by term."""
    n = len(k)
    k, l_ = k - np.diag(np.diag(k)), l_ - np.diag(np.diag(l_))
    one = np.ones(n)
    trace = np.trace(k @ l_)
    means = (one @ k @ one) * (one @ l_ @ one) / ((n - 1) * (n - 2))
    return (trace + means - 2 / (n - 2) * (one @ k @ l_ @ one)) / (n * (n - 3))


def test_one_batch_of_all_is_the_published_estimate():
    first, second = layers(), layers(seed=1)
    found = linear_cka(first, second, batch=40)
    for (i, x), (j, y) in itertools.product(enumerate(first), enumerate(second)):
        k, l_ = x @ x.T, y @ y.T
        wanted = hsic(k, l_) / np.sqrt(hsic(k, k) * hsic(l_, l_))
        assert found[i, j] == pytest.approx(wanted)


def test_the_estimator_is_the_sum_over_four_different_examples():
    """Its definition as a U-statistic: mean over ordered quadruples (Song et al. 2012, lemma 1)."""
    x, y = layers(7)[0], layers(7, seed=1)[1]
    k, l_ = x @ x.T, y @ y.T
    terms = [
        k[i, j] * (l_[i, j] + l_[q, r] - 2 * l_[i, q])
        for i, j, q, r in itertools.permutations(range(7), 4)
    ]
    assert hsic(k, l_) == pytest.approx(np.mean(terms))


def test_minibatches_estimate_what_all_examples_give():
    first = layers(1500)
    whole, parts = linear_cka(first, first, batch=1500), linear_cka(first, first, batch=64)
    np.testing.assert_allclose(parts, whole, atol=0.03)
    centred = [x - x.mean(0) for x in first]  # Kornblith et al. 2019, the biased one
    cross = [[np.linalg.norm(x.T @ y) ** 2 for y in centred] for x in centred]
    own = np.sqrt(np.diag(cross))
    np.testing.assert_allclose(whole, cross / np.outer(own, own), atol=0.03)


def test_a_layer_is_like_itself_and_unlike_noise():
    first = layers(400)
    noise = [np.random.default_rng(9).normal(size=(400, 300))]
    np.testing.assert_allclose(np.diag(linear_cka(first, first, batch=50)), 1)
    # The biased estimate says 0.4 here, only because there are as many dimensions as examples.
    assert np.abs(linear_cka(first, noise, batch=50)).max() < 0.05


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), shift=st.floats(-1e3, 1e3))
@settings(max_examples=20, deadline=None)
def test_rotation_scale_and_shift_change_nothing(seed, scale, shift):
    first, second = layers(seed=seed), layers(seed=seed + 1)
    rng = np.random.default_rng(seed)
    moved = [scale * x @ np.linalg.qr(rng.normal(size=(x.shape[1],) * 2))[0] + shift for x in first]
    for measure in (linear_cka, svcca):
        wanted = measure(first, second)
        np.testing.assert_allclose(measure(moved, second), wanted, atol=1e-6)
        np.testing.assert_allclose(measure(second, moved), wanted.T, atol=1e-6)


def test_svcca_of_all_directions_is_scikit_learns_cca():
    x, y = layers(60, (3, 5)), layers(60, (3, 4), seed=1)
    found = svcca(x[:1], y[1:], variance=1.0)[0, 0]
    u, v = CCA(3, max_iter=5000, tol=1e-12).fit_transform(x[0], y[1])
    wanted = np.mean([np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(3)])
    assert found == pytest.approx(wanted, abs=1e-6)


def test_svcca_leaves_out_directions_of_little_variance():
    rng = np.random.default_rng(0)
    strong, weak, other = rng.normal(size=(3, 200, 2))
    first, second = np.hstack([10 * strong, 0.1 * weak]), np.hstack([10 * strong, 0.1 * other])
    assert svcca([first], [second])[0, 0] == pytest.approx(1)
    assert svcca([first], [second], variance=1.0)[0, 0] < 0.7


@pytest.mark.parametrize("measure", [linear_cka, svcca])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_constant_features_are_like_nothing_and_their_copies_count_nothing(measure, value):
    x = layers()[0]
    constant = np.full((40, 2), value)
    found = measure([x, constant, np.hstack([x, constant])], [x])[:, 0]
    np.testing.assert_allclose(found, [1, np.nan, 1], atol=1e-6)


@pytest.mark.parametrize("measure", [linear_cka, svcca])
def test_bad_input_is_refused(measure):
    first = layers()
    with pytest.raises(UserError, match="the same examples"):
        measure(first, [first[0][1:]])
    with pytest.raises(UserError, match="layer 1 are not finite"):
        measure([first[0], np.full((40, 2), np.inf)], first)


def test_batches_too_small_for_the_estimator_are_refused():
    with pytest.raises(UserError, match="needs 4 examples in a batch"):
        linear_cka(layers(), layers(), batch=3)
    with pytest.raises(UserError, match="needs 4 examples in a batch; got 3"):
        linear_cka(layers(3), layers(3))


def test_batches_that_do_not_divide_the_examples_leave_none_out():
    first = layers(21)
    assert np.isfinite(linear_cka(first, first, batch=4)).all()


def test_shuffled_layers_keep_their_rows_together_and_have_nothing_in_common():
    first = layers(2000, widths=(5, 80))
    again = shuffled(first, seed=3)
    order = [np.flatnonzero((first[0] == row).all(1))[0] for row in again[0][:20]]
    np.testing.assert_array_equal(again[1][:20], first[1][order])
    assert np.abs(linear_cka(first, again)).max() < 0.02
    found = svcca(first, again)
    # Independent subspaces of p and q dimensions of n: the mean squared correlation of the smaller
    # p is q / n, so that correlations are near its root.
    assert found[0, 0] < 0.06 < 0.15 < found[0, 1] < np.sqrt(80 / 2000) + 0.02
