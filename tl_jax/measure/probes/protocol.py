"""How a probe is judged: its setting chosen on validation, refitted on both, tested once."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.data.task import SPLITS, Task
from tl_jax.errors import UserError, unknown
from tl_jax.measure.probes import distance, linear
from tl_jax.measure.probes.points import Points, in_principal_axes

# Of equally accurate settings the first is chosen, so one that smooths little stands first: what
# smooths much may answer one class once it is refitted on a few more examples.
KS = (1, 3, 5, 10, 20, 50)
RBF = tuple((penalty, width) for width in (1.0, 0.25, 4.0) for penalty in (10.0, 100.0, 1.0))
RBF_EXAMPLES = 2048  # above, scikit-learn's SVC takes longer than all other probes together
SVM_L2 = tuple(np.logspace(5, -4, 19).tolist())


class Answers(NamedTuple):
    """What G settings of a probe say of M queries."""

    classes: np.ndarray  # (G, M)
    outputs: np.ndarray | None = None  # (G, M, K) of a linear probe


class Probe(NamedTuple):
    """A kind of head, and the settings among which validation chooses.

    A linear probe's penalty is chosen by its own loss, as scikit-learn will do by default from 1.11
    on. By accuracy it must not be: a penalty that leaves next to no weights still orders the
    classes of balanced examples, and is as accurate as any; on a few more that are not balanced,
    the intercepts outweigh what it has left, and it answers the commonest class.
    """

    settings: Sequence[Any]
    answers: Callable[[Sequence[Points], Sequence[Sequence[Any]]], list[Answers]]
    loss: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None  # by which to choose

    def chosen(self, answers: Answers, labels: np.ndarray, weights: np.ndarray) -> int:
        """Return the setting's number, by what the probe says of examples (M,) and their labels."""
        if self.loss is not None and answers.outputs is not None:
            return int(np.average(self.loss(answers.outputs, labels), 1, weights).argmin())
        return int(accuracies(answers.classes, labels, weights).argmax())


def accuracies(classes: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (G,) of predictions (G, M), rounded so that equally good ones are equal."""
    return np.average(classes == labels, axis=1, weights=weights).round(9)


def _each(one: Callable[[Points, Sequence[Any]], np.ndarray]) -> Callable[..., list[Answers]]:
    return lambda sets, settings: [Answers(one(*both)) for both in zip(sets, settings, strict=True)]


def _of_paths(paths: Sequence[linear.Path], sets: Sequence[Points]) -> list[Answers]:
    outputs = [path.outputs(points.query) for path, points in zip(paths, sets, strict=True)]
    return [Answers(linear.classes(own), own) for own in outputs]


def _ridge(sets: Sequence[Points], settings: Sequence[Sequence[float]]) -> list[Answers]:
    return _of_paths(list(map(linear.ridge, sets, settings)), sets)


def _along_path(loss: str, penalties: Sequence[float]) -> Callable[..., list[Answers]]:
    def answers(sets, settings):
        if len(settings[0]) > 1:
            return _of_paths(linear.paths(loss, sets, settings), sets)
        l2 = [linear.approach(own[0], len(penalties)) for own in settings]
        return _of_paths([path.end() for path in linear.paths(loss, sets, l2)], sets)

    return answers


PROBES = {
    "ridge": Probe(linear.L2, _ridge, linear.squared_error),
    "logistic": Probe(linear.L2, _along_path("logistic", linear.L2), linear.cross_entropy),
    "linear_svm": Probe(SVM_L2, _along_path("squared_hinge", SVM_L2), linear.squared_hinge),
    "rbf_svm": Probe(RBF, _each(distance.rbf_svm)),
    "neighbours": Probe(KS, _each(distance.neighbours)),
    "class_means": Probe((None,), _each(lambda points, _: distance.class_means(points))),
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
    require_budget(budget)
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


def require_budget(budget: Any) -> None:
    """UserError unless it is a share, or a number of examples."""
    number = isinstance(budget, int | float | np.number) and not isinstance(budget, bool)
    fits = number and (0 < budget <= 1 or budget >= 2 and float(budget).is_integer())
    if not fits:
        said = "a budget is a share up to 1, or examples a class from 2 on"
        raise UserError(f"{said}; got {budget!r}")


def taught(task: Task) -> np.ndarray:
    """The class (N,) that each example is trained towards; it counts with the task's weight."""
    return task.targets.argmax(1)


def examine(
    features: np.ndarray, several: Sequence[tuple[Task, Examples]], probes: Sequence[str]
) -> list[dict[str, dict]]:
    """What the probes make of features (N, D), on several sets of examples at once.

    For each set and probe: `setting`, chosen on validation as `Probe` says, and `val`, its accuracy
    there, where each example counts with its weight in the loss; then `test` and `test_weighted`,
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
        known = [(taught(task)[own.val], task.weights[own.val]) for task, own in several]
        said = probe.answers(chosen_on, [probe.settings] * len(several))
        chosen = [probe.chosen(*own) for own in zip(said, *zip(*known, strict=True), strict=True)]
        final = probe.answers(tested_on, [[probe.settings[number]] for number in chosen])
        for place, (task, own) in enumerate(several):
            predicted = final[place].classes[0]
            graded = predicted == task.graded_labels[own.test]
            answers[place][name] = {
                "setting": probe.settings[chosen[place]],
                "val": float(accuracies(said[place].classes, *known[place])[chosen[place]]),
                "test": float((predicted == task.labels[own.test]).mean()),
                "test_weighted": float(np.average(graded, weights=task.graded_weights[own.test])),
            }
    return answers


def _points(features: np.ndarray, task: Task, rows: np.ndarray, query: np.ndarray) -> Points:
    known = {"labels": taught(task)[rows], "weights": task.weights[rows]}
    return in_principal_axes(features[rows], features[query], classes=len(task.classes), **known)
