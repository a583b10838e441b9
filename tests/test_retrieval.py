"""Image search: against scikit-learn, and against cases counted by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score

from tl_jax.errors import UserError
from tl_jax.measure import retrieval


def noise(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@given(st.integers(0, 10**6), st.integers(1, 30))
@settings(max_examples=50, deadline=None)
def test_average_precision_is_scikit_learns(seed, n):
    rng = np.random.default_rng(seed)
    relevant = rng.random((3, n)) < 0.4
    relevant[:, rng.integers(n)] = True
    wanted = [average_precision_score(row, -np.arange(n)) for row in relevant]
    np.testing.assert_allclose(retrieval.average_precision(relevant), wanted)


def test_average_precision_and_recall_by_hand():
    relevant = np.array([[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    np.testing.assert_allclose(
        retrieval.average_precision(relevant), [(1 / 2 + 2 / 4) / 2, 1, np.nan]
    )
    np.testing.assert_array_equal(retrieval.recall_at(relevant, 1), [0, 1, np.nan])
    np.testing.assert_array_equal(retrieval.recall_at(relevant, 2), [1, 1, np.nan])
    np.testing.assert_array_equal(retrieval.recall_at(relevant, 9), [1, 1, np.nan])


def test_unit_length_and_nothing():
    found = retrieval.unit([[3, 4], [0, 0]])
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]])


@pytest.mark.parametrize(("n", "d", "k"), [(200, 12, 5), (40, 300, 20)])
def test_whitening_is_scikit_learns(n, d, k):
    """Up to the sign of each axis; with more dimensions than images too."""
    gallery, queries = noise(n, d) * np.geomspace(1, 9, d), noise(7, d, seed=1)
    fitted = retrieval.whitening(gallery, k)
    theirs = PCA(k, whiten=True, svd_solver="full").fit(gallery)
    wanted = retrieval.unit(theirs.transform(queries))
    ours = retrieval.whitened(queries, fitted)
    np.testing.assert_allclose(np.abs(ours), np.abs(wanted), atol=2e-3)
    np.testing.assert_allclose(ours @ ours.T, wanted @ wanted.T, atol=2e-3)


def test_whitening_of_repeated_and_constant_features_keeps_to_their_rank():
    three = noise(30, 3)
    gallery = np.hstack([three, three, np.full((30, 2), 7, np.float32)])
    fitted = retrieval.whitening(gallery, 6)
    assert fitted.axes.shape == (8, 3)
    spread = ((gallery - fitted.mean) @ fitted.axes).std(0, ddof=1)
    np.testing.assert_allclose(spread, 1, rtol=1e-5)


@pytest.mark.parametrize("k", [0, -1, 29, 100])
def test_whitening_to_too_many_dimensions_is_refused_for_they_would_all_be_alike(k):
    with pytest.raises(UserError, match="fewer than 29 for a gallery of 30"):
        retrieval.whitening(noise(30, 50), k)


def test_whitening_of_what_is_all_the_same_is_refused():
    with pytest.raises(UserError, match="the same features"):
        retrieval.whitening(np.ones((9, 4), np.float32), 2)


def test_cosines_without_the_query_itself():
    gallery = retrieval.unit([[1, 0], [1, 1], [0, 2]])
    found = retrieval.similarities(queries=gallery[:2], gallery=gallery, own=np.array([0, 1]))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(found, [[-np.inf, half, 0], [half, -np.inf, half]], atol=1e-6)


def test_expansion_averages_the_query_with_its_nearest():
    gallery = retrieval.unit([[1, 0.2], [0.2, 1], [-1, 0]])
    query = retrieval.unit([[1, 0]])
    found = retrieval.similarities(queries=query, gallery=gallery, expand=1)
    wanted = retrieval.unit(query + gallery[:1]) @ gallery.T
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    # The query itself, where it is in the gallery, is none of its neighbours.
    own = np.array([0])
    found = retrieval.similarities(queries=gallery[:1], gallery=gallery, expand=1, own=own)
    wanted = retrieval.unit(gallery[:1] + gallery[1:2]) @ gallery.T
    assert found[0, 0] == -np.inf
    np.testing.assert_allclose(found[:, 1:], wanted[:, 1:], rtol=1e-6)


@pytest.mark.parametrize("expand", [3, 9, -1])
def test_expansion_by_more_than_there_are_is_refused(expand):
    gallery = retrieval.unit(noise(3, 4))
    with pytest.raises(UserError, match="gallery of 3"):
        retrieval.similarities(queries=gallery, gallery=gallery, expand=expand)


def test_leave_one_out_is_what_one_gets_image_by_image(monkeypatch):
    monkeypatch.setattr(retrieval, "BLOCK", 7)  # so that blocks of several sizes are met
    features, labels = retrieval.unit(noise(40, 6)), np.random.default_rng(1).integers(0, 4, 40)
    labels[0] = 4  # alone in its class: no query
    precisions, hits = [], []
    for i in range(1, 40):
        others = np.delete(np.arange(40), i)
        cosines = features[others] @ features[i]
        precisions.append(average_precision_score(labels[others] == labels[i], cosines))
        best = others[np.argsort(-cosines)]
        hits.append([(labels[best[:k]] == labels[i]).any() for k in (1, 3)])
    found = retrieval.leave_one_out(features, labels, at=(1, 3))
    assert found.queries == 39
    assert found.average_precision == pytest.approx(np.mean(precisions))
    assert list(found.recall.values()) == pytest.approx(np.mean(hits, 0))


def test_classes_apart_are_found_and_expansion_helps_those_that_overlap():
    labels = np.arange(300) % 3
    centres = 3 * np.eye(3, 8, dtype=np.float32)
    apart = retrieval.unit(centres[labels] + 0.01 * noise(300, 8))
    assert retrieval.leave_one_out(apart, labels).average_precision == pytest.approx(1)
    near = retrieval.unit(centres[labels] + 1.5 * noise(300, 8))
    plain, expanded = (retrieval.leave_one_out(near, labels, expand=n) for n in (0, 10))
    assert expanded.average_precision > plain.average_precision + 0.03


def test_classes_of_one_image_each_have_nothing_to_find():
    with pytest.raises(UserError, match="no class of the gallery has two"):
        retrieval.leave_one_out(retrieval.unit(noise(3, 2)), np.arange(3))
