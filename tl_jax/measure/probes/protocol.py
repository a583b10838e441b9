"""The protocol: choose a probe's setting on validation, refit on train and val, test once."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.data.task import SPLITS, Task
from tl_jax.errors import UserError, unknown
from tl_jax.measure.probes import distance, linear
from tl_jax.measure.probes.points import Points, in_principal_axes

# The first of equally accurate settings is chosen, so settings that smooth little stand first: one
# that smooths much may answer one class only, once it is refitted on a few more examples.
KS = (1, 3, 5, 10, 20, 50)
RBF = tuple((penalty, width) for width in (1.0, 0.25, 4.0) for penalty in (10.0, 100.0, 1.0))
RBF_EXAMPLES = 2048  # above this, scikit-learn's SVC takes longer than all other probes together
SVM_L2 = tuple(np.logspace(5, -4, 19).tolist())


class Answers(NamedTuple):
    """The answers of G settings of a probe to M queries."""

    classes: np.ndarray  # (G, M)
    outputs: np.ndarray | None = None  # (G, M, K); only linear probes have them

    def over_views(self, views: int, classes: int) -> "Answers":
        """Return the answers to M / `views` images, whose views are the queries, view by view.

        The mean of the outputs decides; without outputs a vote, where ties go to the first class.
        """
        settings, queries = self.classes.shape
        shape = (settings, views, queries // views, -1)
        if self.outputs is None:
            votes = np.eye(classes)[self.classes].reshape(shape).sum(1)
            return Answers(votes.argmax(2))
        outputs = self.outputs.reshape(shape).mean(1)
        return Answers(linear.classes(outputs), outputs)


class Probe(NamedTuple):
    """A kind of classifier, and the settings that validation chooses from.

    A linear probe's penalty is chosen by its own loss, as scikit-learn will do by default from 1.11
    on. It must not be chosen by accuracy: a penalty that leaves next to no weights still orders the
    classes of balanced examples and is as accurate as any other; but after refitting on a few more
    examples that are not balanced, the intercepts outweigh the weights, and the probe answers the
    commonest class.
    """

    settings: Sequence[Any]
    answers: Callable[[Sequence[Points], Sequence[Sequence[Any]]], list[Answers]]
    loss: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None  # chooses the setting

    def chosen(self, answers: Answers, labels: np.ndarray, weights: np.ndarray) -> int:
        """Return the number of the best setting for examples (M,) with these labels and weights."""
        if self.loss is not None and answers.outputs is not None:
            return int(np.average(self.loss(answers.outputs, labels), 1, weights).argmin())
        return int(accuracies(answers.classes, labels, weights).argmax())


def accuracies(classes: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return accuracies (G,) of predictions (G, M), rounded so that equally good ones are equal."""
    return np.average(classes == labels, axis=1, weights=weights).round(9)


def _each(one: Callable[[Points, Sequence[Any]], np.ndarray]) -> Callable[..., list[Answers]]:
    return lambda sets, settings: [Answers(one(*both)) for both in zip(sets, settings, strict=True)]


def _of_paths(paths: Sequence[linear.Path], sets: Sequence[Points]) -> list[Answers]:
    outputs = [path.outputs(points.query) for path, points in zip(paths, sets, strict=True)]
    return [Answers(linear.classes(values), values) for values in outputs]


def _ridge(sets: Sequence[Points], settings: Sequence[Sequence[float]]) -> list[Answers]:
    return _of_paths(list(map(linear.ridge, sets, settings)), sets)


def _along_path(loss: str, penalties: Sequence[float]) -> Callable[..., list[Answers]]:
    def answers(sets, settings):
        if len(settings[0]) > 1:
            return _of_paths(linear.paths(loss, sets, settings), sets)
        l2 = [linear.approach(single[0], len(penalties)) for single in settings]
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
    """The rows of a task on which a probe is trained, chosen and tested."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def within(task: Task, budget: float, *, seed: int) -> Examples:
    """Return the task's splits with train and val cut to a budget; test stays whole.

    A `budget` up to 1 is a share of each class, but leaves at least one example; from 2 on it is a
    number of training examples of each class, and val is cut in proportion. The smaller budgets of
    a seed are parts of its larger ones. UserError if a split has no example of a class, or train
    has too few.
    """
    require_budget(budget)
    task.require_classes()
    labels = taught(task)
    for split, rows in task.splits.items():
        counts = np.bincount(labels[rows], minlength=len(task.classes))
        if not counts.all():
            missing = task.classes[int(counts.argmin())]
            raise UserError(f"the {split} split of {task.name!r} has no example of {missing!r}")
        if split == "train" and counts.min() < budget:
            least = task.classes[int(counts.argmin())]
            raise UserError(
                f"class {least!r} has {counts.min()} training examples, but the budget asks for "
                f"{budget:g}: take a smaller budget, or a share up to 1"
            )
    train, val, test = (task.splits[split] for split in SPLITS)
    cut = []
    for number, rows in enumerate((train, val)):
        rng, per_class = np.random.default_rng([seed, number]), budget * len(rows) / len(train)
        parts = []
        for c in range(len(task.classes)):
            in_class = rows[labels[rows] == c]
            size = round(budget * len(in_class) if budget <= 1 else per_class)
            parts.append(rng.permutation(in_class)[: max(1, size)])
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
    """Return the class (N,) with the largest target of each example."""
    return task.targets.argmax(1)


def examine(
    features: np.ndarray, several: Sequence[tuple[Task, Examples]], probes: Sequence[str]
) -> list[dict[str, dict]]:
    """Return the results of the probes on features (N, D), for several sets of examples at once.

    With features (V, N, D) in V views of each image, as `features.of_layers` gives them, a probe
    learns from all views of the examples and answers with the mean over the views
    (`Answers.over_views`). Then `linear_svm` is the CNNaug-SVM of Razavian et al. 2014
    (arXiv:1403.6382), and with features (N, D) their CNN-SVM, with two differences. They scale
    feature vectors to length 1, in CNNaug-SVM after a signed power; here features stay as they are.
    Their views are 16, with rotations.

    A result has `setting`, chosen on validation (see `Probe`); `val`, its accuracy there, weighted
    like the loss; `val_accuracy` and `val_weighted_accuracy`, as they are counted on test; then
    `test` and `test_weighted`, accuracy and confidence-weighted accuracy after refitting on train
    and val. A probe that is left out (see `RBF_EXAMPLES`) has no result.
    UserError for an unknown probe.
    """
    for name in probes:
        if name not in PROBES:
            raise unknown("probe", name, PROBES)
    features = features if features.ndim == 3 else features[None]
    both = [np.concatenate([rows.train, rows.val]) for _, rows in several]
    chosen_on = [_points(features, task, rows.train, rows.val) for task, rows in several]
    tested_on = [
        _points(features, task, train_and_val, rows.test)
        for (task, rows), train_and_val in zip(several, both, strict=True)
    ]
    results: list[dict[str, dict]] = [{} for _ in several]
    for name in probes:
        if name == "rbf_svm" and len(features) * max(map(len, both)) > RBF_EXAMPLES:
            continue
        probe = PROBES[name]
        truth = [(taught(task)[rows.val], task.weights[rows.val]) for task, rows in several]
        on_val = _answered(probe, chosen_on, [probe.settings] * len(several), len(features))
        chosen = [probe.chosen(a, *known) for a, known in zip(on_val, truth, strict=True)]
        settings = [[probe.settings[number]] for number in chosen]
        final = _answered(probe, tested_on, settings, len(features))
        for i, (task, rows) in enumerate(several):
            by_setting, predicted = on_val[i].classes, final[i].classes[0]
            val = _tested(by_setting[chosen[i]], task, rows.val)
            test = _tested(predicted, task, rows.test)
            results[i][name] = {
                "setting": probe.settings[chosen[i]],
                "val": float(accuracies(by_setting, *truth[i])[chosen[i]]),
                **{f"val_{metric}": value for metric, value in val.items()},
                "test": test["accuracy"],
                "test_weighted": test["weighted_accuracy"],
            }
    return results


def _tested(predicted: np.ndarray, task: Task, rows: np.ndarray) -> dict[str, float]:
    """Return the accuracies of predictions (M,) of these examples, plain and by confidence."""
    graded = predicted == task.graded_labels[rows]
    return {
        "accuracy": float((predicted == task.labels[rows]).mean()),
        "weighted_accuracy": float(np.average(graded, weights=task.graded_weights[rows])),
    }


def _points(features: np.ndarray, task: Task, rows: np.ndarray, query: np.ndarray) -> Points:
    """Return the points of examples in all views; `features` are (V, N, D)."""
    truth = {"labels": taught(task)[rows], "weights": task.weights[rows]}
    return in_principal_axes(
        *(np.concatenate(features[:, own]) for own in (rows, query)),
        classes=len(task.classes),
        **{name: np.tile(array, len(features)) for name, array in truth.items()},
    )


def _answered(
    probe: Probe, sets: Sequence[Points], settings: Sequence[Sequence[Any]], views: int
) -> list[Answers]:
    answers = zip(probe.answers(sets, settings), sets, strict=True)
    return [of_views.over_views(views, points.classes) for of_views, points in answers]
