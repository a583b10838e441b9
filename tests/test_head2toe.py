"""Head2Toe: the group lasso beside another solver, and features that are told from noise."""

import numpy as np
import pytest
from scipy import optimize
from scipy.special import log_softmax

import tl_jax
from tl_jax.measure import head2toe
from tl_jax.measure.probes import protocol


def test_relevance_is_that_of_the_exact_group_lasso():
    """Beside L-BFGS-B on the split of W into a cone: |W_d| smoothed by 1e-9."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 6)).astype(np.float32)
    labels = (rows[:, 0] + 0.5 * rows[:, 1] + 0.3 * rng.normal(size=80) > 0).astype(int)
    targets = np.eye(2, dtype=np.float32)[labels]

    def smooth(flat):
        weights, intercept = flat[:12].reshape(6, 2), flat[12:]
        return -(targets * log_softmax(rows @ weights + intercept, 1)).sum(1).mean()

    zero = optimize.approx_fprime(np.zeros(14), smooth, 1e-6)[:12].reshape(6, 2)
    strength = head2toe.STRENGTH * np.linalg.norm(zero, axis=1).max()

    def objective(flat):
        norms = np.sqrt((flat[:12].reshape(6, 2) ** 2).sum(1) + 1e-9)
        return smooth(flat) + strength * norms.sum()

    exact = optimize.minimize(objective, np.zeros(14), method="L-BFGS-B", tol=1e-12)
    wanted = np.linalg.norm(exact.x[:12].reshape(6, 2), axis=1)
    found = head2toe.relevance(rows, targets, np.ones(80))
    np.testing.assert_allclose(found, wanted, atol=2e-2 * wanted.max())
    assert found.argsort()[::-1][:2].tolist() == [0, 1]


@pytest.fixture(scope="module")
def task():
    return tl_jax.load_task("digits", seed=0, per_class=20)


@pytest.mark.slow
def test_a_share_of_the_features_is_kept_and_noise_is_not(task):
    rng = np.random.default_rng(0)
    pixels = np.stack([np.asarray(task.image(i), np.float32).ravel() for i in range(len(task.ids))])
    layers = {"noise": 80 * rng.normal(size=(len(pixels), 400)), "pixels": pixels}
    examples = protocol.within(task, 1.0, seed=0)
    found = head2toe.fit(layers, task, examples)
    (noise, own) = found.kept["noise"] / 400, found.kept["pixels"] / 64
    assert own > 3 * noise and found.share < 1
    (everything,) = protocol.examine(
        np.concatenate(list(layers.values()), 1), [(task, examples)], ["logistic"]
    )
    assert found.test > everything["logistic"]["test"]
    assert sum(found.kept.values()) == round(found.share * 464)


def test_constant_features_are_no_fault(task):
    pixels = np.stack([np.asarray(task.image(i), np.float32).ravel() for i in range(len(task.ids))])
    layers = {"zeros": np.zeros((len(pixels), 5)), "pixels": pixels}
    found = head2toe.fit(layers, task, protocol.within(task, 1.0, seed=0), shares=(0.5,))
    assert found.kept["zeros"] == 0 and np.isfinite(found.test)
