"""Measure probes on the features of ELPV, beside scikit-learn's estimators in a loop.

    python -m benchmarks.probes
    python -m benchmarks.probes --layers=pool --solver=newton-cholesky

Both have the same features, grids and protocol: fit each setting on train and score it on
validation, fit the best one again on both splits and test it. The best is the most accurate of
theirs, and of our linear probes the one of least loss. In long grids scikit-learn fits only every
`--every`-th setting, and its time is scaled up; ours fits all settings, and is timed after
compilation. Then the program compares the objectives that both reach at those settings.
"""

import time
import warnings

import numpy as np
from absl import flags

from benchmarks.measure import IDLE, busy_cores
from experiments import cli
from tl_jax.runs.config import load_config

_LAYERS = flags.DEFINE_list("layers", ["stage3_block1", "stage6_block3", "pool"], "Layers.")
_EVERY = flags.DEFINE_integer("every", 6, "Scikit-learn fits every n-th setting of long grids.")
_SOLVER = flags.DEFINE_string("solver", "lbfgs", "Solver of scikit-learn's LogisticRegression.")
LONG = ("logistic", "linear_svm")


def main(argv: list[str]) -> None:
    from tl_jax.measure.probes import protocol

    cli.no_arguments(argv)
    warnings.simplefilter("ignore")  # scikit-learn warns that it has not converged
    busy = busy_cores()
    task, features = subject()
    split = protocol.within(task, 1, seed=0)
    print(f"train {len(split.train)}, val {len(split.val)}, test {len(split.test)}")
    print("| layer | probe | scikit-learn, s | ours, s | ratio | test: theirs | ours |")
    print("|---" * 7 + "|")
    total = np.zeros(2)
    for layer in _LAYERS.value:
        x = np.asarray(features[layer].rows)
        for probe in protocol.PROBES:
            protocol.examine(x, [(task, split)], (probe,))
            started = time.perf_counter()
            (answer,) = protocol.examine(x, [(task, split)], (probe,))
            ours = time.perf_counter() - started
            theirs, accuracy = loop(probe, x, task, split)
            total += theirs, ours
            accuracies = f"{100 * accuracy:.2f} % | {100 * answer[probe]['test']:.2f} %"
            print(f"| {layer} | {probe} | {_times(theirs, ours)} | {accuracies} |", flush=True)
        print(f"{layer}: {agreement(x, task, split)}", flush=True)
    print(f"| all | | {_times(*total)} | | |")
    if busy > IDLE:
        print(f"machine NOT idle: {busy:.1f} cores busy before")


def _times(theirs: float, ours: float) -> str:
    return f"{theirs:.2f} | {ours:.2f} | {theirs / ours:.1f}"


def subject():
    """Return the task and the features of configs/layer_probes.py, seed 0."""
    from tl_jax.measure.features import of_layers
    from tl_jax.runs.subject import base_of, task_of

    config = load_config("configs/layer_probes.py")
    task = task_of(config, seed=0)
    return task, of_layers(base_of(config), task, layers=_LAYERS.value, cache=config.cache)


def loop(probe: str, x: np.ndarray, task, split) -> tuple[float, float]:
    """Return scikit-learn's seconds for the probe's grid and the refit, and its test accuracy."""
    from tl_jax.measure.probes import protocol

    settings = protocol.PROBES[probe].settings
    tried = settings[:: _EVERY.value] if probe in LONG else settings
    labels, weights = protocol.taught(task), task.weights
    scores, started = [], time.perf_counter()
    for setting in tried:
        model = fitted(probe, setting, x[split.train], labels[split.train], weights[split.train])
        right = predicted(model, x[split.val]) == labels[split.val]
        scores.append(np.average(right, weights=weights[split.val]))
    seconds = (time.perf_counter() - started) * len(settings) / len(tried)
    rows, started = np.concatenate([split.train, split.val]), time.perf_counter()
    model = fitted(probe, tried[int(np.argmax(scores))], x[rows], labels[rows], weights[rows])
    right = predicted(model, x[split.test]) == task.labels[split.test]
    return seconds + time.perf_counter() - started, float(right.mean())


def fitted(probe: str, setting, x: np.ndarray, labels: np.ndarray, weights: np.ndarray):
    """Fit scikit-learn's estimator with our setting, translated into its parameters."""
    from sklearn import linear_model, neighbors, svm

    weight = {"sample_weight": weights}
    if probe == "ridge":
        targets = np.eye(2)[labels]
        return linear_model.Ridge(alpha=weights.sum() * setting).fit(x, targets, **weight)
    if probe == "logistic":
        options = {"C": 1 / (weights.sum() * setting), "solver": _SOLVER.value, "max_iter": 1000}
        return linear_model.LogisticRegression(**options).fit(x, labels, **weight)
    if probe == "linear_svm":
        options = {"C": 1 / (weights.sum() * setting), "dual": False}
        return svm.LinearSVC(**options).fit(x, labels, **weight)
    if probe == "rbf_svm":
        penalty, width = setting
        return svm.SVC(C=penalty, gamma=width / (2 * x.var(0).sum())).fit(x, labels)
    if probe == "neighbours":
        return neighbors.KNeighborsClassifier(setting, metric="cosine").fit(x, labels)
    return neighbors.NearestCentroid().fit(x, labels)


def predicted(model, x: np.ndarray) -> np.ndarray:
    labels = model.predict(x)
    return labels.argmax(1) if labels.ndim == 2 else labels


def agreement(x: np.ndarray, task, split) -> str:
    """Return how far scikit-learn's objective of logistic regression on train lies from ours."""
    from tl_jax.measure.probes import linear, protocol
    from tl_jax.measure.probes.points import in_principal_axes

    penalties = list(linear.L2[:: _EVERY.value])
    labels, weights = protocol.taught(task)[split.train], task.weights[split.train]
    known = {"labels": labels, "classes": 2, "weights": weights}
    points = in_principal_axes(x[split.train], x[split.test], **known)
    (path,) = linear.paths("logistic", [points], [penalties])
    differences = []
    for l2, objective in zip(penalties, path.objectives, strict=True):
        model = fitted("logistic", l2, x[split.train], labels, weights)
        log = model.predict_log_proba(x[split.train].astype(np.float64))
        loss = -np.average(log[np.arange(len(labels)), labels], weights=weights)
        theirs = loss + l2 / 2 * (model.coef_.astype(np.float64) ** 2).sum()
        differences.append(objective - theirs)
    low, high = min(differences), max(differences)
    return f"our objective less scikit-learn's, from {low:.1e} to {high:.1e}"


if __name__ == "__main__":
    cli.run(main)
