"""Transferability scores: how well features or source predictions suit a task, without training.

Each score is a pure function of features (N, D) or source probabilities (N, Z) and labels (N,), and
returns one number; higher is better, except for `proxy_a_distance`. Labels are any whole numbers;
only classes that occur count. Scores are computed in float64, and are right where D > N and where
features are constant or repeated. UserError for values that are not finite, shapes that do not fit,
and fewer than two classes.
"""

import warnings

import numpy as np

from tl_jax.errors import UserError

ITERATIONS = 100  # most iterations to LogME's fixed point; usually fewer than ten suffice


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """Return the log maximum evidence of Bayesian linear regression on class indicators.

    You et al. 2021 (arXiv:2102.11005), algorithm 1, likewise without intercept and as a mean over
    classes and examples. The authors' code stops after 11 steps at a tolerance of 1 %; this one
    iterates to convergence. If the features predict the labels exactly, the evidence has no bound;
    the noise is then set to float64's precision, which gives a large number.
    """
    features, members = _checked(features, labels)
    n = len(features)
    left, spread, _ = np.linalg.svd(features, full_matrices=False)
    significant = spread > _negligible(features)
    left, s = left[:, significant], spread[significant, None] ** 2  # (N, r), (r, 1)
    indicators = members / 1.0  # (N, C)
    squares = (left.T @ indicators) ** 2  # (r, C)
    tiny = np.finfo(np.float64).eps * indicators.sum(0)
    outside = np.maximum(indicators.sum(0) - squares.sum(0), 0)  # of the features' span
    alpha = beta = np.ones(members.shape[1])  # precisions of the weights' prior and of the noise
    for _ in range(ITERATIONS):
        former = alpha / beta
        weights = np.maximum((squares * s / (former + s) ** 2).sum(0), tiny**2)
        residual = outside + (squares * (former / (former + s)) ** 2).sum(0)
        effective = (s / (former + s)).sum(0)  # number of parameters
        alpha = np.maximum(effective, tiny) / weights
        beta = np.maximum(n - effective, tiny) / np.maximum(residual, tiny)
        if np.allclose(alpha / beta, former, rtol=1e-6, atol=0):
            break
    ratio = alpha / beta
    weights = (squares * s / (ratio + s) ** 2).sum(0)
    residual = outside + (squares * (ratio / (ratio + s)) ** 2).sum(0)
    evidence = (
        n * np.log(beta / (2 * np.pi))
        - np.log1p(s / ratio).sum(0)  # directions without spread cancel
        - beta * residual
        - alpha * weights
    )
    return float(evidence.mean() / (2 * n))


def leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the log expected empirical prediction from source probabilities (N, Z): at most 0.

    Nguyen et al. 2020 (arXiv:2002.12462), equation 2.
    """
    probabilities, members = _checked(probabilities, labels)
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(1), 1, atol=1e-3):
        raise UserError(
            "source probabilities (N, Z) must not be negative, and each row must sum to 1"
        )
    joint = members.T @ probabilities / len(members)  # (C, Z)
    source = joint.sum(0)
    given_source = joint / np.where(source > 0, source, 1)
    return float(np.log((members @ given_source * probabilities).sum(1)).mean())


def nce(source: np.ndarray, labels: np.ndarray) -> float:
    """Return the negative conditional entropy of labels given source labels (N,): at most 0.

    Tran et al. 2019 (arXiv:1908.08142). The source labels are the classes that the base predicts.
    """
    _, number = np.unique(source, return_inverse=True)
    return leep(np.eye(number.max(initial=0) + 1)[number], labels)


def nleep(features: np.ndarray, labels: np.ndarray, *, energy: float = 0.8, seed: int = 0) -> float:
    """Return LEEP with a Gaussian mixture's components instead of source classes: at most 0.

    Li et al. 2021 (arXiv:2011.11200), section 3: PCA to 80 % of the energy, five components for
    each class. Covariances are diagonal along the principal axes; full ones, which public code
    uses, have more parameters than there are examples. Some of that code omits the logarithm.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    features, members = _checked(features, labels)
    left, spread = _principal(features)
    if not len(spread):
        return leep(np.ones((len(members), 1)), labels)
    share = np.cumsum(spread**2) / (spread**2).sum()
    first = slice(np.searchsorted(share, energy) + 1)
    reduced = (left * spread)[:, first] / spread[0]
    components = 5 * members.shape[1]
    if components > len(members):
        raise UserError(
            f"N-LEEP fits 5 Gaussians for each class, here {components}, and has too few examples: "
            f"{len(members)}"
        )
    mixture = GaussianMixture(components, covariance_type="diag", random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # repeated examples allow fewer
        posterior = mixture.fit(reduced).predict_proba(reduced)
    return leep(posterior, labels)


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """Return tr(cov(f)^+ cov(E[f | y])), which is from 0 to C - 1.

    Bao et al. 2019 (ICIP), with the pseudo-inverse. If D >= N - 1 and the features are in general
    position, it is C - 1 whatever the labels: see `regularised_h_score`.
    """
    features, members = _checked(features, labels)
    left, _ = _principal(features)
    return float(_between(left, members).sum())


def regularised_h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """Return (1 - a) tr(cov_a(f)^-1 cov(E[f | y])); cov_a is shrunk by a as in Ledoit & Wolf 2004.

    Ibrahim et al. 2021 (arXiv:2110.06893). Both covariances are divided by N; public code divides
    the second one by N - 1.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    features, members = _checked(features, labels)
    left, spread = _principal(features)
    if not len(spread):
        return 0.0
    a = ledoit_wolf_shrinkage(features - features.mean(0), assume_centered=True)
    variance = (1 - a) * spread**2
    shrunk = variance + a * (spread**2).sum() / features.shape[1]
    return float((variance / shrunk * _between(left, members)).sum())


def transrate(features: np.ndarray, labels: np.ndarray, *, eps: float = 1e-4) -> float:
    """Return the coding rate of the features minus the mean coding rate of the classes.

    Huang et al. 2022 (arXiv:2106.09362): R(f) - R(f | y), about the mutual information of features
    and labels. Each class has the weight of its share, as in a conditional entropy; the code in the
    paper weights classes equally, which is the same if they are balanced. The score grows with the
    scale and number of the features, so compare layers with care.
    """
    features, members = _checked(features, labels)
    centred = features - features.mean(0)
    within = sum(c.mean() * _coding_rate(centred[c], eps) for c in members.T)
    return float(_coding_rate(centred, eps) - within)


def class_separation(features: np.ndarray, labels: np.ndarray) -> float:
    """Return 1 - mean cosine distance within classes / mean distance of all pairs.

    Kornblith et al. 2021 (arXiv:2010.16402) call it R squared. Classes count equally. It is 0 if
    all examples have the same features.
    """
    features, members = _checked(features, labels)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(length > 0, length, 1)
    means = members.T @ unit / members.sum(0)[:, None]  # (C, D)
    within = 1 - (means**2).sum(1).mean()
    total = 1 - (means.mean(0) ** 2).sum()
    return float(1 - within / total) if total > len(members) * np.finfo(np.float64).eps else 0.0


def proxy_a_distance(first: np.ndarray, second: np.ndarray, *, seed: int = 0) -> float:
    """Return 2 (1 - 2 e) of two sets of features (N, D), (M, D).

    Ben-David et al. 2007 (NIPS). It is 0 if the sets are alike and 2 if they can be told apart. e
    is the balanced error of logistic regression on standardised features over five held-out folds;
    an error above 1/2 counts as 1/2.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if np.ndim(first) != 2 or np.ndim(second) != 2 or first.shape[1] != second.shape[1]:
        raise UserError(
            f"two sets of features must have the same D: {np.shape(first)}, {np.shape(second)}"
        )
    if min(len(first), len(second)) < 5:
        raise UserError("the proxy A-distance holds out a fifth: give 5 examples of each set")
    domain = np.repeat([0, 1], [len(first), len(second)])
    features, _ = _checked(np.concatenate([first, second]), domain)
    classifier = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), classifier)
    predicted = cross_val_predict(model, features, domain, cv=folds)
    return max(0.0, 2 * (2 * float(balanced_accuracy_score(domain, predicted)) - 1))


ON_FEATURES = {
    "LogME": logme,
    "N-LEEP": nleep,
    "H-score": h_score,
    "regularised H-score": regularised_h_score,
    "TransRate": transrate,
    "class separation": class_separation,
}


def _checked(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, D) as float64, and each example's class among those that occur, (N, C) bool."""
    values, labels = np.asarray(values, np.float64), np.asarray(labels)
    if values.ndim != 2 or labels.shape != values.shape[:1]:
        raise UserError(
            f"scores take features (N, D) and labels (N,); got {values.shape} and {labels.shape}"
        )
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        raise UserError(f"feature {wrong[0][1]} of example {wrong[0][0]} is not finite")
    classes = np.unique(labels)
    if len(classes) < 2:
        raise UserError(f"a score needs two classes: {len(classes)} in {len(labels)} labels")
    return values, labels[:, None] == classes


def _negligible(features: np.ndarray) -> float:
    """Return the size below which a singular value is rounding error, not a direction."""
    return max(features.shape) * np.finfo(np.float64).eps * np.linalg.norm(features)


def _principal(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return left singular vectors (N, r) and singular values (r,) of the centred features."""
    left, spread, _ = np.linalg.svd(features - features.mean(0), full_matrices=False)
    significant = spread > _negligible(features)
    return left[:, significant], spread[significant]


def _between(left: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the share (r,) of the variance of unit columns (N, r) that is between classes."""
    return ((members.T @ left) ** 2 / members.sum(0)[:, None]).sum(0)


def _coding_rate(features: np.ndarray, eps: float) -> float:
    """Return 1/2 log det(I + f' f / (N eps)) in nats."""
    spread = np.linalg.svd(features, compute_uv=False)
    return 0.5 * np.log1p(spread**2 / (len(features) * eps)).sum()
