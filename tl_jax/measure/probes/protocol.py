"""How a probe is judged: its setting chosen on validation, refitted on both, tested once."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.data.task import SPLITS, Task
from tl_jax.errors import UserError, unknown
from tl_jax.measure.probes import distance, linear
from tl_jax.measure.probes.points import Points, in_principal_axes

KS = (50, 20, 10, 5, 3, 1)
RBF = tuple((penalty, width) for width in (0.25, 1.0, 4.0) for penalty in (1.0, 10.0, 100.0))
RBF_EXAMPLES = 2048  # above, scikit-learn's SVC takes longer than all other probes together
SVM_L2 = tuple(np.logspace(2, -4, 13).tolist())

Predictions = list[np.ndarray]  # of each set of points: classes (G, M) by each of its settings


class Probe(NamedTuple):
    """A kind of head, and the settings among which validation chooses, the most regular first.

    Of equally good settings the most regular is chosen, or the middle one where they lie on a path
    of penalties. The strongest penalty of a plateau stands at its edge: refitted on other examples,
    it may be beyond it and answer one class.
    """

    settings: Sequence[Any]
    predicted: Callable[[Sequence[Points], Sequence[Sequence[Any]]], Predictions]
    on_path: bool = False

    def chosen(self, scores: np.ndarray) -> Any:
        """Return the setting of the best of `scores` (G,)."""
        best = np.flatnonzero(scores == scores.max())
        return self.settings[int(best[(len(best) - 1) // 2 if self.on_path else 0])]


def _each(one: Callable[[Points, Sequence[Any]], np.ndarray]) -> Callable[..., Predictions]:
    return lambda sets, settings: list(map(one, sets, settings))


def _along_path(loss: str, penalties: Sequence[float]) -> Probe:
    def predicted(sets, settings):
        alone = len(settings[0]) == 1
        l2 = [linear.approach(own[0], len(penalties)) for own in settings] if alone else settings
        pairs = zip(linear.paths(loss, sets, l2), sets, strict=True)
        found = [path.predicted(points.query) for path, points in pairs]
        return [own[-1:] for own in found] if alone else found

    return Probe(penalties, predicted, on_path=True)


PROBES = {
    "ridge": Probe(linear.L2, _each(lambda p, l2: linear.ridge(p, l2).predicted(p.query)), True),
    "logistic": _along_path("logistic", linear.L2),
    "linear_svm": _along_path("squared_hinge", SVM_L2),
    "rbf_svm": Probe(RBF, _each(distance.rbf_svm)),
    "neighbours": Probe(KS, _each(distance.neighbours)),
    "class_means": Probe((None,), _each(lambda p, _: distance.class_means(p))),
}


class Examples(NamedTuple):
    """Rows of a task that a probe is trained on, chosen by and tested on."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def within(task: Task, budget: float, *, seed: int) -> Examples:
    """The task's splits, train and val cut to a budget; test is whole.

    `budget`: up to 1 a share of each class, at least one example of it; from 2 on so many training
    examples a class, and as much of val in proportion. The same seed's smaller budgets are parts of
    its larger ones. UserError for a class that a split has not, or not enough of.
    """
    if not (0 < budget <= 1 or budget >= 2 and budget == int(budget)):
        raise UserError(f"a budget is a share up to 1, or examples a class from 2 on; got {budget}")
    labels = taught(task)
    for split, rows in task.splits.items():
        counts = np.bincount(labels[rows], minlength=len(task.classes))
        if not counts.all():
            missing = task.classes[int(counts.argmin())]
            raise UserError(f"the {split} split of {task.name!r} has no example of {missing!r}")
        if split == "train" and counts.min() < budget:
            least = task.classes[int(counts.argmin())]
            raise UserError(
                f"class {least!r} has {counts.min()} training examples, the budget {budget:g} a "
                "class asks for more: take a smaller one, or one up to 1, a share"
            )
    train, val, test = (task.splits[split] for split in SPLITS)
    cut = []
    for number, rows in enumerate((train, val)):
        rng, per_class = np.random.default_rng([seed, number]), budget * len(rows) / len(train)
        parts = []
        for c in range(len(task.classes)):
            own = rows[labels[rows] == c]
            size = round(budget * len(own) if budget <= 1 else per_class)
            parts.append(rng.permutation(own)[: max(1, size)])
        cut.append(np.sort(np.concatenate(parts)))
    return Examples(cut[0], cut[1], test)


def taught(task: Task) -> np.ndarray:
    """The class (N,) that each example is trained towards; it counts with the task's weight."""
    return task.targets.argmax(1)


def examine(
    features: np.ndarray, several: Sequence[tuple[Task, Examples]], probes: Sequence[str]
) -> list[dict[str, dict]]:
    """What the probes make of features (N, D), on several sets of examples at once.

    For each set and probe: `setting` and `val`, chosen by accuracy there (each example with its
    weight in the loss; of equally good settings as `Probe` says); then `test` and `test_weighted`,
    accuracy and confidence-weighted accuracy, after refitting on train and val. A probe that is
    left out (see `RBF_EXAMPLES`) is not in the answer. UserError for an unknown probe.
    """
    for name in probes:
        if name not in PROBES:
            raise unknown("probe", name, PROBES)
    both = [np.concatenate([own.train, own.val]) for _, own in several]
    chosen_on = [_points(features, task, own.train, own.val) for task, own in several]
    tested_on = [
        _points(features, task, rows, own.test)
        for (task, own), rows in zip(several, both, strict=True)
    ]
    answers: list[dict[str, dict]] = [{} for _ in several]
    for name in probes:
        if name == "rbf_svm" and max(map(len, both)) > RBF_EXAMPLES:
            continue
        probe = PROBES[name]
        found = probe.predicted(chosen_on, [probe.settings] * len(several))
        scores = [_scores(task, own.val, p) for (task, own), p in zip(several, found, strict=True)]
        chosen = [probe.chosen(own) for own in scores]
        final = probe.predicted(tested_on, [[setting] for setting in chosen])
        for place, (task, own) in enumerate(several):
            predicted = final[place][0]
            graded = predicted == task.graded_labels[own.test]
            answers[place][name] = {
                "setting": chosen[place],
                "val": float(scores[place].max()),
                "test": float((predicted == task.labels[own.test]).mean()),
                "test_weighted": float(np.average(graded, weights=task.graded_weights[own.test])),
            }
    return answers


def _points(features: np.ndarray, task: Task, rows: np.ndarray, query: np.ndarray) -> Points:
    known = {"labels": taught(task)[rows], "weights": task.weights[rows]}
    return in_principal_axes(features[rows], features[query], classes=len(task.classes), **known)


def _scores(task: Task, rows: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Accuracy of predictions (G, n), rounded so that equally good ones are equal: (G,)."""
    return np.average(predicted == taught(task)[rows], axis=1, weights=task.weights[rows]).round(9)
