"""Few labels: episodes, what methods answer beside scikit-learn, the study and its page."""

import csv
import functools

import digits
import jax
import numpy as np
import pytest
import steps
import texts
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from test_report import Page

from experiments import cli, config_flag
from tl_jax.base.load import load_base
from tl_jax.chain import heads
from tl_jax.chain.network import Network
from tl_jax.data.tasks import load_task
from tl_jax.errors import UserError
from tl_jax.measure import features
from tl_jax.measure.few_shot import methods
from tl_jax.measure.few_shot.episodes import Episodes, drawn
from tl_jax.runs.config import load_config
from tl_jax.stats.intervals import over_episodes
from tl_jax.studies.few_shot import page
from tl_jax.train.fit import Data, Run, fit
from tl_jax.train.objectives.prototypes import Prototypes, episode

WAYS, SHOTS, QUERIES, COUNT = 3, 4, 5, 6
CLASSES = tuple("abcde")


@functools.cache
def subject() -> methods.Subject:
    """Clouds of 5 classes in 7 dimensions, far from 0; no base, which no method here asks for."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 20)
    clouds = 3 + rng.normal(size=(5, 7))[labels] + rng.normal(size=(100, 7))
    clouds = clouds.astype(np.float32)
    return methods.Subject(None, None, "", clouds, clouds.mean(0), "")


def episodes(count: int = COUNT, shots: int = SHOTS) -> Episodes:
    labels = np.repeat(np.arange(5), 20)
    sizes = {"ways": WAYS, "shots": shots, "queries": QUERIES, "count": count}
    return drawn(labels, CLASSES, CLASSES, **sizes, seed=0)


# Episodes


@given(
    sizes=st.lists(st.integers(6, 9), min_size=4, max_size=6),
    ways=st.integers(2, 3),
    shots=st.integers(1, 3),
    queries=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_support_and_queries_are_other_examples_of_the_same_classes(
    sizes, ways, shots, queries, seed
):
    names = CLASSES[: len(sizes)] + ("f",) * (len(sizes) - 5)
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    counts = {"ways": ways, "shots": shots, "queries": queries, "count": 3}
    found = drawn(labels, names, names[1:], **counts, seed=seed)
    assert found.support.shape == (3, ways, shots) and found.query.shape == (3, ways, queries)
    for both in np.concatenate(found, 2):
        assert len(set(both.ravel())) == both.size
        of_rows = labels[both]
        assert (of_rows == of_rows[:, :1]).all()
        assert len(set(of_rows[:, 0])) == ways and 0 not in of_rows
    again = drawn(labels, names, names[1:], **counts, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    fewer = found.with_shots(1)
    assert np.array_equal(fewer.query, found.query)
    assert np.array_equal(fewer.support, found.support[:, :, :1])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ways": 6}, r"needs 6 classes, and there are 5 .* take ways=5"),
        ({"ways": 1}, "ways= takes a whole number, at least 2"),
        ({"queries": 17}, "class 'a' has 20 examples.* 4 shots and 17 queries.* take queries=16"),
        ({"shots": 20}, "take fewer shots="),
    ],
)
def test_episodes_that_cannot_be_are_refused(changes, why):
    sizes = {"ways": 3, "shots": 4, "queries": 5, "count": 2} | changes
    with pytest.raises(UserError, match=why):
        drawn(np.repeat(np.arange(5), 20), CLASSES, CLASSES, **sizes, seed=0)


def test_the_interval_over_episodes_by_hand():
    mean, half = over_episodes([0.2, 0.4, 0.6, 0.8])
    assert mean == pytest.approx(0.5)
    assert half == pytest.approx(1.96 * np.sqrt(0.2 / 3) / 2)
    assert np.isnan(over_episodes([0.5])[1])


# Methods


def each(found: Episodes):
    """The rows of the support set and of the queries of each episode, and the support's classes."""
    for support, query in zip(found.support, found.query, strict=True):
        yield support.ravel(), query.ravel(), np.repeat(np.arange(WAYS), support.shape[1])


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("nearest_mean", lambda x: x),
        ("l2n", unit),
        ("cl2n", lambda x: unit(x - x.mean(0))),
    ],
)
def test_nearest_means_are_those_of_scikit_learn(name, made):
    found, x = episodes(), made(subject().features)
    answers = methods.METHODS[name](subject(), found, seed=0)
    for got, (support, query, labels) in zip(answers, each(found), strict=True):
        wanted = NearestCentroid().fit(x[support], labels).predict(x[query])
        np.testing.assert_array_equal(got, wanted)
    assert 0.5 < methods.right(answers, found).mean() / (WAYS * QUERIES) < 1


def test_a_linear_classifier_converges_to_scikit_learns():
    """One shot: a batch is then the whole support set, and steps end at the minimum."""
    found, decay = episodes(count=20, shots=1), 0.1
    options = {"epochs": 2000, "learning_rate": 0.1, "weight_decay": decay}
    x, right = subject().features - 3, []  # far from 0, the intercept would take its time
    answers = methods.linear(subject()._replace(features=x), found, seed=0, **options)
    for got, (support, query, labels) in zip(answers, each(found), strict=True):
        model = LogisticRegression(C=1 / (decay * WAYS), tol=1e-8, max_iter=10_000)
        right.append(got == model.fit(x[support], labels).predict(x[query]))
    assert np.mean(right) > 0.99  # the others lie on a border


def test_a_training_that_blows_up_answers_nothing():
    with pytest.raises(UserError, match="the loss is not finite in an episode: try a smaller"):
        methods.linear(subject(), episodes(count=2, shots=1), seed=0, learning_rate=1e38)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_batches_of_sgd_are_those_of_a_loop(name):
    """SGD with momentum and dampening 0.9 on cross entropy, one batch an epoch; as PyTorch's, but
    that it begins with a momentum of 0 and decays no bias.
    """
    found, epochs, rate, decay = episodes(count=2, shots=1), 15, 0.5, 0.01
    options = {"epochs": epochs, "learning_rate": rate, "weight_decay": decay}
    answers = methods.METHODS[name](subject(), found, seed=0, **options)
    head = Network(heads.make(name, WAYS))
    start = head.init(0, (1, 7))["params"]
    for got, (support, query, labels) in zip(answers, each(found), strict=True):
        x, params = subject().features[support], start
        momentum = jax.tree.map(np.zeros_like, params)

        def loss(params, x=x, labels=labels):
            logits = head.apply({"params": params}, x).output
            return -jax.nn.log_softmax(logits)[np.arange(WAYS), labels].mean()

        for _ in range(epochs):
            gradient = jax.grad(loss)(params)
            momentum = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, momentum, gradient)
            params = jax.tree.map(
                lambda p, m: p - rate * (m + decay * p * (p.ndim > 1)), params, momentum
            )
        wanted = head.apply({"params": params}, subject().features[query]).output.argmax(1)
        np.testing.assert_array_equal(got, wanted)


def test_cosines_with_a_vector_of_each_class():
    chain = Network(heads.make("cosine(scale=3)", 4))
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 6)).astype(np.float32)
    variables = chain.init(0, x.shape)
    mean, kernel = x.mean((1, 2)), variables["params"]["head"]["kernel"]
    lengths = np.linalg.norm(mean, axis=1)[:, None] * np.linalg.norm(kernel, axis=0)
    got = chain.apply(variables, x).output
    np.testing.assert_allclose(got, 3 * mean @ kernel / lengths, rtol=1e-5)
    with pytest.raises(UserError, match="a number above 0"):
        heads.make("cosine(scale=0)", 4)


# Prototypical networks


def test_an_episode_in_a_batch_by_hand():
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    labels = np.array([1, 0, 1, 1, 0, 0, 3, 1])  # none of class 2, one of class 3
    logits, queries = episode(x, labels, 4, 2)
    np.testing.assert_array_equal(queries, [0, 0, 0, 1, 0, 1, 0, 1])
    for number, rows in ((0, [1, 4]), (1, [0, 2]), (3, [6])):
        wanted = -((x - x[rows].mean(0)) ** 2).sum(1)
        np.testing.assert_allclose(logits[:, number], wanted, rtol=1e-5)
    assert (logits.argmax(1) != 2).all() and np.isfinite(logits).all()


def test_the_objective_is_the_papers_and_the_head_does_not_move_the_features():
    network, plain = digits.network(), "sgd(momentum=0.0, nesterov=False)"
    recipe = steps.recipe(network, Prototypes(shots=1), optimizer=plain)
    variables = digits.begun(network)
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(10), 3))
    images = rng.uniform(size=(30, 8, 8, 1)).astype(np.float32)
    truth = {"targets": np.eye(10, dtype=np.float32)[labels], "weights": np.ones(30, np.float32)}
    scored = {"labels": labels, "graded_labels": labels, "graded_weights": truth["weights"]}
    moved = steps.after(recipe, variables, [steps.batch_of(images, "image", **truth, **scored)])

    @jax.jit
    @jax.value_and_grad
    def mean_loss(params):
        found = network.apply({**variables, "params": params}, images, stop="feature").output
        logits, queries = episode(found, labels, 10, 1)
        losses = -jax.nn.log_softmax(logits)[np.arange(30), labels]
        return (losses * queries).sum() / 20

    loss, gradient = mean_loss(variables["params"])
    total, weight, _ = moved.sums["episode"]
    assert weight == 20 and float(total / weight) == pytest.approx(float(loss), rel=1e-4)
    for name in ("conv1", "conv2", "feature"):
        wanted = jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"][name], gradient[name])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            moved.params[name],
            wanted,
        )
    before, after = variables["params"]["head"], moved.params["head"]
    assert (before["Dense_0"]["kernel"] != after["Dense_0"]["kernel"]).any()


def test_a_batch_that_is_no_episode_is_refused(tmp_path):
    mine = digits.problem(Prototypes(shots=6), digits.network())
    with pytest.raises(UserError, match=r"a batch of 70; batch_size=64 is too small"):
        digits.run(mine, digits.begun(digits.network()), tmp_path)


# The study


def study(workdir, **changes):
    """The exit status of a small study of digits in this process, and its result."""
    config, found = load_config("configs/few_shot_digits.py"), {}
    with config.unlocked():
        del config.trainings.classes
    small = {"settings.tune.epochs": 2, "episodes": 12, "seeds": (0, 1), "cache": ""}
    config.update_from_flattened_dict(small | changes)

    def main(argv):
        with config_flag.naming_flags(config):
            found.update(config_flag.run("few_shot", config, workdir, "few_shot"))

    return cli.status(main, []), found


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("few_shot") / "run"
    status, result = study(workdir)
    assert status == 0
    return workdir, result


@pytest.mark.slow
def test_every_base_layer_and_method_has_a_row_and_two_intervals(done):
    workdir, result = done
    found = page.rows(result)
    assert len(found) == 3 * 2 * 5
    lines = list(csv.DictReader((workdir / "few_shot.csv").read_text().splitlines()))
    assert [float(line["accuracy"]) for line in lines] == [row.accuracy for row in found]
    for row in found:
        assert (row.over_trainings is None) == (row.base == "untrained")
        assert row.trainings == (1 if row.base == "untrained" else 2)
        assert (row.difference is None) == (row.method == "nearest_mean")
    text = Page((workdir / "report.html").read_text()).text
    assert "Few labels" in text and "5, 6, 7, 8, 9" in text
    cells = [c for c in result["cells"] if (c["training"], c["shots"]) == ("episodes", 5)]
    cells = [c["accuracies"] for c in cells if c["method"] == "cl2n"]
    row = next(r for r in found if r[:4] == ("episodes", "fc5", "cl2n", 5))
    assert row.accuracy == pytest.approx(np.mean(cells)) and 0.3 < row.accuracy < 1
    halves = [over_episodes(one)[1] for one in cells]
    assert row.over_episodes == pytest.approx(np.mean(halves))


def test_methods_of_more_episodes_are_compared_with_one_of_few():
    """By the episodes that both have; fine-tuning has the first ones only."""
    cells = [
        {"training": "untrained", "layer": "pool", "method": method, "shots": 1, "seed": 0,
         "accuracies": accuracies}
        for method, accuracies in (("fine_tune", [0.5, 0.7]), ("cl2n", [0.6, 0.9, 0.1, 0.1]))
    ]  # fmt: skip
    config = {"methods": ["fine_tune", "cl2n"]}
    found = page.rows({"cells": cells, "config": config, "trainings": {"untrained": False}})
    assert [row.difference for row in found] == [None, pytest.approx(0.15)]


@pytest.mark.slow
def test_what_is_finished_is_not_repeated(done):
    workdir, result = done
    lines = (workdir / "cells.jsonl").read_text().splitlines(keepends=True)
    (workdir / "result.json").unlink()
    (workdir / "cells.jsonl").write_text("".join(lines[:-3]))
    status, again = study(workdir)
    assert status == 0 and again["cells"] == result["cells"]
    assert (workdir / "cells.jsonl").read_text() == "".join(lines)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ways": 6}, "there are 5 to draw from (5, 6, 7, 8, 9): take --config.ways=5"),
        ({"queries": 200}, "5 shots and 200 queries needs 205: take --config.queries="),
        ({"novel_classes": ("7",)}, "give at least two classes"),
        ({"novel_classes": ("7", "0")}, "'0' is a base class and a novel one"),
        ({"novel_classes": ("7", "nine")}, "unknown class 'nine'"),
        ({"base_classes": ()}, "cl2n subtracts the mean of the base classes"),
        ({"methods": ("l2m",)}, "unknown method 'l2m'; did you mean 'l2n'"),
        ({"methods": ("fine_tune(above='conv5')",)}, "above= 'conv5'; did you mean 'conv"),
        ({"methods": ("fine_tune",)}, "unknown layer below fc5, for fine_tune: above= ''"),
        (
            {"methods": ("fine_tune(above='conv4')",), "layers": ("conv2",)},
            "unknown layer below conv2, for fine_tune(above='conv4'): above= 'conv4'",
        ),
        ({"methods": ("linear(epochs=0)",)}, "a phase needs epochs >= 1"),
        ({"methods": ("linear(learning_rate=-1.0)",)}, "a finite learning_rate > 0"),
        ({"methods": ("cosine(scale=-1.0)",)}, "scale"),
        ({"layers": ("conv9",)}, "did you mean 'conv"),
        ({"shots": (1, 1)}, "shots= takes a list of one or more, each once"),
        ({"trainings.cosines.head": "cosin"}, "unknown head 'cosin'; did you mean 'cosine'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path, capsys, changes, why):
    assert study(tmp_path / "run", **changes)[0] == 2
    assert why in capsys.readouterr().err


# Other bases


@pytest.mark.slow
def test_upper_layers_are_fine_tuned_in_each_episode(tmp_path):
    """With a head alone to train, it is the same as training that on the layer's features."""
    base = load_base("alexnet_small", "random:0")
    task = load_task("digits", per_class=5)
    found = features.of_layers(base, task, layers=["fc5"], cache=tmp_path)["fc5"].rows
    mine = methods.Subject(base, task, "fc5", found, None, str(tmp_path))
    given = task.labels, task.classes, task.classes
    several = drawn(*given, ways=3, shots=5, queries=10, count=4, seed=0)
    right = {
        above: methods.right(
            methods.fine_tune(mine, several, seed=0, above=above, most=3, learning_rate=1e-2),
            several.first(3),
        )
        for above in ("conv4", "fc5")
    }
    assert all(len(counts) == 3 and counts.mean() > 20 for counts in right.values())
    head = Network(heads.make("linear", 3))
    labels = np.repeat(np.arange(3), 5)
    for number, (support, query, _) in enumerate(each(several.first(3))):
        seeds = np.random.default_rng([0, 1]).integers(2**31, size=3)
        variables = {"params": {"head": base.with_head(3, cut="fc5").variables["params"]["head"]},
                     "batch_stats": {}}  # fmt: skip
        run = Run(variables, np.int32(seeds[number]), 1e-2, 1e-4, np.arange(15), np.ones(15))
        data = Data(found[support], np.eye(3, dtype=np.float32)[labels])
        fitted = fit(run, data, chain=head, start=None, batch_size=3, epochs=30)
        answers = head.apply(fitted.variables, found[query]).output.argmax(1)
        assert (answers == np.repeat(np.arange(3), 10)).sum() == right["fc5"][number]


def test_texts_are_classified_from_a_few_too():
    """By the mean of their words' vectors, of which some say good or bad."""
    base, task = texts.base(), texts.task()
    found = features.of_layers(base, task, layers=["embed"], cache=None)["embed"].rows
    mine = methods.Subject(base, task, "embed", found, found.mean(0), "")
    given = task.labels, task.classes, task.classes
    several = drawn(*given, ways=2, shots=15, queries=10, count=20, seed=0)
    for name in ("nearest_mean", "cl2n"):
        answers = methods.METHODS[name](mine, several, seed=0)
        assert methods.right(answers, several).mean() / 20 > 0.7
