"""Probes on the features of an ELPV run, beside scikit-learn's estimators in a loop.

    python -m benchmarks.probes
    python -m benchmarks.probes --layers=pool --solver=newton-cholesky

The same features, grids and protocol: each setting fitted on train and scored on validation, the
best one fitted again on both and tested; theirs is the most accurate, ours of a linear probe the
one of least loss. Of long grids scikit-learn gets every `--every`-th setting only, and its time is
scaled up to all; ours does all. Ours is timed when everything is compiled. Then the objectives at
which both arrive, for those settings.
"""

import pathlib
import time
import warnings

import numpy as np
from absl import flags

from benchmarks.measure import IDLE, busy_cores
from experiments import cli
from tl_jax.runs.config import load_config

_LAYERS = flags.DEFINE_list("layers", ["stage3_block1", "stage6_block3", "pool"], "Layers.")
_EVERY = flags.DEFINE_integer("every", 6, "Of long grids scikit-learn gets only so many-th ones.")
_SOLVER = flags.DEFINE_string("solver", "lbfgs", "Of scikit-learn's LogisticRegression.")
LONG = ("logistic", "linear_svm")


def main(argv: list[str]) -> None:
    from tl_jax.measure.probes import protocol

    cli.no_arguments(argv)
    warnings.simplefilter("ignore")  # scikit-learn's, that it has not converged
    busy = busy_cores()
    task, features = subject()
    own = protocol.within(task, 1, seed=0)
    print(f"{len(own.train)} to train on, {len(own.val)} to choose by, {len(own.test)} to test on")
    print("| layer | probe | scikit-learn, s | ours, s | ratio | test: theirs | ours |")
    print("|---" * 7 + "|")
    total = np.zeros(2)
    for layer in _LAYERS.value:
        x = np.asarray(features[layer].rows)
        for probe in protocol.PROBES:
            protocol.examine(x, [(task, own)], (probe,))
            started = time.perf_counter()
            (answer,) = protocol.examine(x, [(task, own)], (probe,))
            ours = time.perf_counter() - started
            theirs, right = loop(probe, x, task, own)
            total += theirs, ours
            tested = f"{100 * right:.2f} % | {100 * answer[probe]['test']:.2f} %"
            print(f"| {layer} | {probe} | {_times(theirs, ours)} | {tested} |", flush=True)
        print(f"{layer}: {agreement(x, task, own)}", flush=True)
    print(f"| all | | {_times(*total)} | | |")
    if busy > IDLE:
        print(f"machine NOT idle: {busy:.1f} cores busy before")


def _times(theirs: float, ours: float) -> str:
    return f"{theirs:.2f} | {ours:.2f} | {theirs / ours:.1f}"


def subject():
    """The task and the features of configs/layer_probes.py, seed 0."""
    from tl_jax.measure.features import of_layers
    from tl_jax.runs.subject import base_of, task_of

    config = load_config("configs/layer_probes.py")
    task = task_of(config, seed=0)
    cache = pathlib.Path(config.cache)
    return task, of_layers(base_of(config), task, layers=_LAYERS.value, cache=cache)


def loop(probe: str, x: np.ndarray, task, own) -> tuple[float, float]:
    """Seconds of scikit-learn for the probe's grid and the refit, and its accuracy on test."""
    from tl_jax.measure.probes import protocol

    settings = protocol.PROBES[probe].settings
    some = settings[:: _EVERY.value] if probe in LONG else settings
    labels, weights = protocol.taught(task), task.weights
    scores, started = [], time.perf_counter()
    for setting in some:
        model = fitted(probe, setting, x[own.train], labels[own.train], weights[own.train])
        right = predicted(model, x[own.val]) == labels[own.val]
        scores.append(np.average(right, weights=weights[own.val]))
    seconds = (time.perf_counter() - started) * len(settings) / len(some)
    rows, started = np.concatenate([own.train, own.val]), time.perf_counter()
    model = fitted(probe, some[int(np.argmax(scores))], x[rows], labels[rows], weights[rows])
    right = predicted(model, x[own.test]) == task.labels[own.test]
    return seconds + time.perf_counter() - started, float(right.mean())


def fitted(probe: str, setting, x: np.ndarray, labels: np.ndarray, weights: np.ndarray):
    """scikit-learn's estimator with our setting in its own terms."""
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
    found = model.predict(x)
    return found.argmax(1) if found.ndim == 2 else found


def agreement(x: np.ndarray, task, own) -> str:
    """How far scikit-learn's objective lies from ours, of logistic regression on train."""
    from tl_jax.measure.probes import linear, protocol
    from tl_jax.measure.probes.points import in_principal_axes

    some = list(linear.L2[:: _EVERY.value])
    labels, weights = protocol.taught(task)[own.train], task.weights[own.train]
    known = {"labels": labels, "classes": 2, "weights": weights}
    points = in_principal_axes(x[own.train], x[own.test], **known)
    (path,) = linear.paths("logistic", [points], [some])
    above = []
    for l2, objective in zip(some, path.objectives, strict=True):
        model = fitted("logistic", l2, x[own.train], labels, weights)
        log = model.predict_log_proba(x[own.train].astype(np.float64))
        loss = -np.average(log[np.arange(len(labels)), labels], weights=weights)
        above.append(objective - (loss + l2 / 2 * (model.coef_.astype(np.float64) ** 2).sum()))
    return f"our objective less scikit-learn's, from {min(above):.1e} to {max(above):.1e}"


if __name__ == "__main__":
    cli.run(main)
