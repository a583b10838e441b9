"""Choosing among models of an unlabelled target: scores that look at no target label.

Each is a plain function of arrays; of any of them more is better. Musgrave et al. 2022 ("Three New
Validators and a Large-Scale Benchmark Ranking for Unsupervised Domain Adaptation",
arXiv:2208.07360) compare them. What each rewards by mistake is said where it is defined.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl

from tl_jax import registry
from tl_jax.errors import UserError, takes, unknown

TINY = 1e-12
ROWS = 1024  # of a matrix of similarities at a time
FOLDS = 5
WEIGHTED = ("iwcv", "dev", "devn")  # by `density_ratio`


class Outputs(NamedTuple):
    """What a model makes of held-out examples of both domains: (n, D) features, (n, C)
    probabilities, (n,) labels.
    """

    source_features: np.ndarray
    source_probabilities: np.ndarray
    source_labels: np.ndarray
    target_features: np.ndarray
    target_probabilities: np.ndarray


def source_accuracy(*, source_probabilities: np.ndarray, source_labels: np.ndarray) -> float:
    """Return the share of source examples that are right. The target is not looked at."""
    return float(np.mean(source_probabilities.argmax(1) == source_labels))


def entropy(*, target_probabilities: np.ndarray) -> float:
    """Return minus the mean entropy of the predictions, -ln C to 0.

    Confident mistakes get the most, 0, and so does a collapse on one class.
    """
    return -float(_entropies(target_probabilities).mean())


def infomax(*, target_probabilities: np.ndarray) -> float:
    """Return the entropy of the mean prediction less the mean entropy: the mutual information of
    examples and predictions, 0 to ln C (Shi & Sha 2012, arXiv:1206.6438).

    A collapse on one class gets 0. Classes of unequal size cost.
    """
    whole = _entropies(target_probabilities.mean(0, keepdims=True))[0]
    return float(whole + entropy(target_probabilities=target_probabilities))


def bnm(*, target_probabilities: np.ndarray) -> float:
    """Return the nuclear norm of the predictions (n, C), divided by sqrt(n C) (Cui et al. 2020,
    arXiv:2003.12237).

    For n >= C it is at most 1, of certain and balanced predictions. A collapse gets 1 / sqrt(C) if
    it is certain, and 1 / C if all classes are equally likely.
    """
    singular = np.linalg.svd(np.asarray(target_probabilities, np.float64), compute_uv=False)
    return float(singular.sum() / np.sqrt(target_probabilities.size))


def snd(*, target_probabilities: np.ndarray, temperature: float = 0.05) -> float:
    """Return the soft neighbourhood density, 0 to ln(n - 1) (Saito et al. 2021, arXiv:2108.10860):
    the mean entropy of softmax(cosine / temperature) over the other examples' predictions.

    It is largest where all predictions are equal: a collapse gets the most.
    """
    rows = np.asarray(target_probabilities, np.float64)
    takes(len(rows) > 1, "snd", "two or more examples", len(rows))
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY)
    total = 0.0
    for first in range(0, len(rows), ROWS):
        part = np.arange(first, min(first + ROWS, len(rows)))
        near = rows[part] @ rows.T / temperature
        near[part - first, part] = -np.inf
        weights = np.exp(near - near.max(1, keepdims=True))
        total += _entropies(weights / weights.sum(1, keepdims=True)).sum()
    return float(total / len(rows))


def iwcv(
    *,
    source_features: np.ndarray,
    source_probabilities: np.ndarray,
    source_labels: np.ndarray,
    target_features: np.ndarray,
) -> float:
    """Return minus the source's mean cross entropy, weighted by `density_ratio` (Sugiyama et al.
    2007, JMLR 8, 985-1005).

    Right only where the domains differ in inputs alone and the source reaches all of the target.
    """
    weights = density_ratio(source_features, target_features)
    return -float(np.mean(weights * _losses(source_probabilities, source_labels)))


def dev(
    *,
    source_features: np.ndarray,
    source_probabilities: np.ndarray,
    source_labels: np.ndarray,
    target_features: np.ndarray,
) -> float:
    """Return minus the DEV risk (You et al. 2019, ICML, "Towards Accurate Model Selection in Deep
    Unsupervised Domain Adaptation"): `iwcv` with the weights as a control variate. It has no bound.
    """
    weights = density_ratio(source_features, target_features)
    return -controlled(weights, _losses(source_probabilities, source_labels))


def devn(
    *,
    source_features: np.ndarray,
    source_probabilities: np.ndarray,
    source_labels: np.ndarray,
    target_features: np.ndarray,
) -> float:
    """Return `dev` of weights divided by their maximum and shifted to the mean 1 (Musgrave et al.
    2022), which no single large weight can decide.

    Of a mean of 1 the control variate is 0: this is the mean loss under such weights.
    """
    weights = density_ratio(source_features, target_features)
    weights = weights / max(weights.max(), TINY)
    return -controlled(weights - weights.mean() + 1, _losses(source_probabilities, source_labels))


def class_ami(*, target_features: np.ndarray, target_probabilities: np.ndarray) -> float:
    """Return the adjusted mutual information of predicted classes and as many k-means clusters of
    the features (Musgrave et al. 2022): 1 if they agree, about 0 by chance and for a collapse.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score

    distinct = len(np.unique(target_features, axis=0))
    clusters = min(target_probabilities.shape[1], distinct)
    with threadpoolctl.threadpool_limits(1):
        found = KMeans(clusters, n_init=3, random_state=0).fit_predict(target_features)
    return float(adjusted_mutual_info_score(target_probabilities.argmax(1), found))


def reverse_accuracy(
    *,
    source_features: np.ndarray,
    source_labels: np.ndarray,
    target_features: np.ndarray,
    target_probabilities: np.ndarray,
) -> float:
    """Return `reverse_validation` by logistic regression on the model's own features.

    A network trained backwards from pixels asks more of the pseudo-labels, and costs a training.
    """
    pseudo = target_probabilities.argmax(1)
    return reverse_validation(
        _logistic, target_features, pseudo, inputs=source_features, labels=source_labels
    )


def reverse_validation(
    fit: Callable[[Any, np.ndarray], Callable[[Any], np.ndarray]],
    pseudo_inputs: Any,
    pseudo_labels: np.ndarray,
    *,
    inputs: Any,
    labels: np.ndarray,
) -> float:
    """Return how many source labels (n,) come back through the target (Zhong et al. 2010, ECML
    PKDD, "Cross validation framework to choose amongst models and datasets for transfer learning").

    `fit(pseudo_inputs, pseudo_labels)` trains on the target, labelled by the model that is judged,
    and returns a function from inputs to labels, which here gets the source's. A collapse gets the
    share of one class.
    """
    return float(np.mean(fit(pseudo_inputs, pseudo_labels)(inputs) == labels))


def density_ratio(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return p(target) / p(source) at each source example (n,), from features (n, D) and (m, D).

    Odds of a logistic regression of the domain on standardised features, which has not seen the
    example (five folds), times n / m. Domains that are told apart perfectly have weights near 0.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fewest = min(len(source), len(target))
    takes(fewest >= FOLDS, "density_ratio", f"{FOLDS} examples of each domain or more", fewest)
    rows = np.concatenate([source, target]).astype(np.float64)
    domain = np.repeat([0, 1], [len(source), len(target)])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    with threadpoolctl.threadpool_limits(1):
        log = cross_val_predict(model, rows, domain, cv=folds, method="decision_function")
    return np.exp(log[: len(source)].clip(-30, 30)) * len(source) / len(target)


def controlled(weights: np.ndarray, losses: np.ndarray) -> float:
    """Return mean(w l) + eta mean(w) - eta, where eta = -Cov(w l, w) / Var(w): the weighted risk
    with the least variance, as E[w] = 1. Of equal weights, eta is 0.
    """
    weighted = weights * losses
    covariance = np.cov(weighted, weights)
    eta = -covariance[0, 1] / covariance[1, 1] if covariance[1, 1] > TINY else 0.0
    return float(weighted.mean() + eta * weights.mean() - eta)


VALIDATORS: dict[str, Callable[..., float]] = {
    f.__name__: f
    for f in (
        *(source_accuracy, entropy, infomax, bnm, snd),
        *(iwcv, dev, devn, class_ami, reverse_accuracy),
    )
}


def require(name: str) -> None:
    """UserError, with the near miss, for a validator that there is not."""
    if name not in VALIDATORS:
        raise unknown("validator", name, VALIDATORS)


def score(name: str, outputs: Outputs) -> float:
    """Return what a validator gives a model; UserError for outputs that are not finite."""
    require(name)
    given = {
        field: array
        for field, array in outputs._asdict().items()
        if field in registry.parameters(VALIDATORS[name])
    }
    for field, array in given.items():
        if not np.isfinite(array).all():
            raise UserError(f"{field.replace('_', ' ')} are not finite: the model has diverged")
    return VALIDATORS[name](**given)


def _entropies(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of each row, in nats."""
    p = np.asarray(probabilities, np.float64)
    return -(p * np.log(np.maximum(p, TINY))).sum(1)


def _losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the cross entropy of each row."""
    right = np.asarray(probabilities, np.float64)[np.arange(len(labels)), labels]
    return -np.log(np.maximum(right, TINY))


def _logistic(rows: np.ndarray, labels: np.ndarray) -> Callable[[Any], Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(labels)) == 1:
        return lambda rows: np.full(len(rows), labels[0])
    with threadpoolctl.threadpool_limits(1):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        return model.fit(rows, labels).predict
