"""Linear probes along a path of L2 penalties: ridge, logistic regression, squared-hinge SVM.

All minimise mean loss + l2 / 2 * |W|^2 over N examples and do not penalise the intercept. The first
two are the objectives of scikit-learn's Ridge, with alpha = N * l2 and one-hot targets, and of its
LogisticRegression, with C = 1 / (N * l2). The SVM has the squared hinge of LinearSVC with the same
C, but LinearSVC penalises the intercept too. For two classes the last two have one output, as in
scikit-learn. If examples have weights, N is their sum in these formulas.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.measure.probes.points import Points
from tl_jax.train.together import stacked, together

L2 = tuple(np.logspace(5, -6, 45).tolist())  # Kornblith et al. 2019 (arXiv:1805.08974), A.3
NEWTON, CONJUGATE = 50, 200  # most Newton steps for a penalty, and most CG steps in each of them
GAIN = 1e-4  # relative decrease of the objective; a step that gains less is the last one
FREE = 1e-6  # added to the intercept's curvature, which is 0 where all examples are certain
APPROACH = 12  # penalties in the path that leads to a single one
COARSE = 256  # sizes are filled up to powers of two, and above this to an eighth of one


Penalties = Sequence[float] | np.ndarray


class Path(NamedTuple):
    """The minima along G penalties, for R coordinates and K outputs (1 for two classes, else C)."""

    weights: np.ndarray  # (G, R, K)
    intercepts: np.ndarray  # (G, K)
    objectives: np.ndarray  # (G,)

    def outputs(self, query: np.ndarray) -> np.ndarray:
        """Return the outputs (G, M, K) for queries (M, R)."""
        products = np.einsum("mr,grk->gmk", query, self.weights, optimize=True)
        return products + self.intercepts[:, None]

    def end(self) -> "Path":
        """Return the path of the last penalty alone."""
        return Path(*(part[-1:] for part in self))


def classes(outputs: np.ndarray) -> np.ndarray:
    """Return the classes (G, M) that outputs (G, M, K) predict."""
    return outputs.argmax(2) if outputs.shape[2] > 1 else (outputs[..., 0] > 0).astype(np.int64)


# Losses (G, M) of outputs (G, M, K) and labels (M,), on the scale of the objective of a path.


def squared_error(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return half the squared distance to one-hot targets."""
    return ((outputs - _one_hot(outputs, labels)) ** 2).sum(2) / 2


def cross_entropy(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the cross-entropy in nats."""
    if outputs.shape[2] == 1:
        outputs = np.concatenate([np.zeros_like(outputs), outputs], axis=2)
    right = np.take_along_axis(outputs, labels[None, :, None], axis=2)[..., 0]
    return np.logaddexp.reduce(outputs, axis=2) - right


def squared_hinge(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the squared hinge summed over outputs (each is one class against the rest)."""
    side = 2 * _one_hot(outputs, labels) - 1
    return (np.maximum(1 - side * outputs, 0) ** 2).sum(2)


def _one_hot(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (M, K) of 0 and 1; a single output is that of the second class."""
    count = outputs.shape[2]
    return np.eye(count)[labels] if count > 1 else labels[:, None].astype(np.float64)


def ridge(points: Points, l2: Sequence[float]) -> Path:
    """Return least squares on one-hot targets; in principal axes a coordinate is one division."""
    weights, penalties = points.weights[:, None], np.asarray(l2)[:, None, None]
    targets = np.eye(points.classes)[points.labels]
    mean = (weights * targets).sum(0)
    products = points.train.T @ (weights * (targets - mean))
    solutions = products / (points.variances[:, None] + penalties)
    errors = points.train @ solutions - (targets - mean)
    losses = weights * errors**2 / 2
    objectives = losses.sum((1, 2)) + (penalties / 2 * solutions**2).sum((1, 2))
    return Path(solutions, np.broadcast_to(mean, (len(solutions), len(mean))), objectives)


class _Run(NamedTuple):
    """A path to compute, filled up by examples of weight 0 and coordinates that are always 0."""

    inputs: np.ndarray  # (N, R) float32, with a column of ones for the intercept
    targets: np.ndarray  # (N, K) 0 or 1
    weights: np.ndarray  # (N,); their sum is 1
    penalised: np.ndarray  # (R,) 0 for the intercept's column
    l2: np.ndarray  # (G,) from strong to weak; a repeated penalty costs nothing


def paths(loss: str, sets: Sequence[Points], l2: Sequence[Penalties]) -> list[Path]:
    """Return the path of each set for `logistic` or `squared_hinge` (one class against the rest).

    `l2` (P, G) holds G penalties from strong to weak for each of P sets. All sets are filled up to
    one size and solved in one program; each device takes its part of them.
    """
    rows = _filled(max(len(points.train) for points in sets))
    columns = _filled(1 + max(points.train.shape[1] for points in sets))
    runs = [_run(*both, rows, columns) for both in zip(sets, l2, strict=True)]
    name = "softmax" if loss == "logistic" and sets[0].classes > 2 else loss
    minima, objectives = jax.device_get(together(_path, stacked(runs), loss=name))
    ranks = [points.train.shape[1] for points in sets]
    return [
        Path(solutions[:, :rank], solutions[:, rank], objective)
        for solutions, rank, objective in zip(minima, ranks, objectives, strict=True)
    ]


def approach(l2: float, count: int) -> np.ndarray:
    """Return `count` penalties from the strongest of `L2` to `l2`; most of them are `l2` itself."""
    path = np.geomspace(max(L2[0], l2), l2, min(APPROACH, count))
    return np.concatenate([path, np.full(count - len(path), l2)])


def _run(points: Points, l2: Penalties, rows: int, columns: int) -> _Run:
    n, rank = points.train.shape
    inputs = np.zeros((rows, columns), np.float32)
    inputs[:n, :rank], inputs[:n, rank] = points.train, 1
    targets = np.zeros((rows, points.classes), np.float32)
    targets[np.arange(n), points.labels] = 1
    weights = np.zeros(rows, np.float32)
    weights[:n] = points.weights
    penalised = np.ones(columns, np.float32)
    penalised[rank] = 0
    targets = targets[:, 1:] if points.classes == 2 else targets
    return _Run(inputs, targets, weights, penalised, np.asarray(l2, np.float32))


def _filled(count: int) -> int:
    """Round up to one of few sizes, so that few programs are compiled."""
    power = 1 << max(6, (count - 1).bit_length())
    step = power // 8 if power > COARSE else power
    return -(-count // step) * step


# Losses of outputs, targets (N, K) and weights (N,). Each returns the value, the slopes (N, K), the
# diagonal of the curvature (N, K), and a function that multiplies (N, K) by the curvature.


def _logistic(outputs, targets, weights):
    side, w = 2 * targets - 1, weights[:, None]
    p = jax.nn.sigmoid(-side * outputs)
    curvature = w * p * (1 - p)
    return (w * jax.nn.softplus(-side * outputs)).sum(), -w * side * p, curvature, curvature.__mul__


def _softmax(outputs, targets, weights):
    log = jax.nn.log_softmax(outputs)
    p, w = jnp.exp(log), weights[:, None]

    def product(d):
        return w * p * (d - (p * d).sum(1, keepdims=True))

    return -(w * targets * log).sum(), w * (p - targets), w * p * (1 - p), product


def _squared_hinge(outputs, targets, weights):
    side, w = 2 * targets - 1, weights[:, None]
    missing = jnp.maximum(1 - side * outputs, 0)
    curvature = 2 * w * (missing > 0)
    return (w * missing**2).sum(), -2 * w * side * missing, curvature, curvature.__mul__


LOSSES = {"logistic": _logistic, "softmax": _softmax, "squared_hinge": _squared_hinge}


def _path(run: _Run, shared, *, loss: str):
    """Run Newton's method with conjugate gradients for one penalty after the other.

    The first guess for a penalty extrapolates the two solutions before it. In principal axes the
    Hessian is nearly diagonal, so its diagonal is a good preconditioner.
    """
    inputs, parts = run.inputs, LOSSES[loss]
    # A copy: on CPUs the product with a matrix in row order is 5 to 13 times as fast.
    turned = jax.lax.optimization_barrier(inputs.T)
    squares = jnp.square(turned)

    def minimum(before, l2):
        last, last_but_one, last_l2 = before
        penalty = (l2 * run.penalised)[:, None]
        damped = penalty + FREE * (1 - run.penalised)[:, None]

        def value(solution, outputs):
            loss = parts(outputs, run.targets, run.weights)[0]
            return loss + (penalty * solution**2).sum() / 2

        def newton(state):
            solution, outputs, step, _ = state
            _, slopes, curvatures, product = parts(outputs, run.targets, run.weights)
            gradient = turned @ slopes + penalty * solution
            diagonal = squares @ curvatures + damped
            change, _ = jax.scipy.sparse.linalg.cg(
                lambda d: turned @ product(inputs @ d) + damped * d,
                -gradient,
                tol=0.03,
                maxiter=CONJUGATE,
                M=lambda d: d / diagonal,
            )
            decrement = -(gradient * change).sum()
            moved = inputs @ change
            now = value(solution, outputs)

            def too_long(t):
                enough = now - 1e-4 * t * decrement + 1e-7 * now  # as exact as float32 is
                return (value(solution + t * change, outputs + t * moved) > enough) & (t > 1e-6)

            t = jax.lax.while_loop(too_long, lambda t: t / 2, jnp.float32(1))
            return solution + t * change, outputs + t * moved, step + 1, decrement / now

        def goes_on(state):
            return (state[2] < NEWTON) & (state[3] > GAIN)

        guess = 2 * last - last_but_one
        better = value(guess, inputs @ guess) < value(last, inputs @ last)
        start = jnp.where(better & (l2 < last_l2), guess, last)
        gain = jnp.where(l2 == last_l2, 0.0, jnp.inf)
        state = (start, inputs @ start, jnp.int32(0), gain)
        solution, outputs, _, _ = jax.lax.while_loop(goes_on, newton, state)
        return (solution, last, l2), (solution, value(solution, outputs))

    zero = jnp.zeros((inputs.shape[1], run.targets.shape[1]), jnp.float32)
    return jax.lax.scan(minimum, (zero, zero, jnp.float32(jnp.inf)), run.l2)[1]
