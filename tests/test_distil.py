"""Distillation: a small network learns a large one's answers."""

import functools

import digits
import jax
import numpy as np
import pytest
import scipy.special

import tl_jax
from tl_jax import models
from tl_jax.base.architecture import Architecture
from tl_jax.base.base import Base
from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Net, Network, chain
from tl_jax.chain.places import Known, Layer
from tl_jax.errors import UserError
from tl_jax.models.layers import Conv, FullyConnected
from tl_jax.runs.teacher import logits_of
from tl_jax.train import objectives
from tl_jax.train.objective import mean
from tl_jax.train.objectives.distil import Distillation

SMALL = Network(
    chain("image", conv=Conv(4, 3, 2, activation=jax.nn.relu), fc=FullyConnected(16))
    + (Layer("head", Classifier(10)),)
)


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 0.5), (4.0, 0.9)])
def test_the_loss_is_hintons(temperature, weight):
    rng = np.random.default_rng(0)
    variables = SMALL.init(0, (1, 8, 8, 1))
    net = Net(SMALL, variables["params"], {})
    taught = rng.normal(size=(6, 10)).astype(np.float32) * 3
    weights = np.array([1, 1, 0, 2, 1, 0.5], np.float32)
    labels = np.arange(6)
    inputs = Known(image=rng.normal(size=(6, 8, 8, 1)).astype(np.float32))
    batch = {"inputs": inputs, "targets": np.eye(10, dtype=np.float32)[labels]}
    batch |= {"weights": weights, "teacher": taught}
    objective = Distillation(temperature=temperature, weight=weight)
    found = objective.loss(net, batch, (), None).terms
    z = np.asarray(net(inputs, "head"), np.float64)
    t, s = (scipy.special.softmax(x / temperature, -1) for x in (taught, z))
    gaps = (t * (np.log(t) - np.log(s))).sum(-1)
    hard = -np.log(scipy.special.softmax(z, -1))[labels, labels]
    np.testing.assert_allclose(mean(found["distil"]), gaps @ weights / weights.sum(), rtol=1e-4)
    np.testing.assert_allclose(mean(found["loss"]), hard @ weights / weights.sum(), rtol=1e-4)
    total = sum(float(mean(term) * term.scale) for term in found.values())
    expected = (1 - weight) * hard + weight * temperature**2 * gaps
    np.testing.assert_allclose(total, expected @ weights / weights.sum(), rtol=1e-4)


@functools.cache
def teacher():
    """alexnet_small with random weights."""
    name = "alexnet_small"
    architecture = Architecture(name, "own", 10)
    expects = models.family(name).preprocessing(name, "own")
    fresh = architecture.chain().init(0, expects.example)
    return Base(architecture, "test", fresh, expects)


def test_a_teachers_answers_are_its_predictions():
    task = digits.source()
    found = logits_of(teacher(), task, cache=None)
    own = teacher().predict([task.open(row) for row in range(5)])
    np.testing.assert_allclose(scipy.special.softmax(found[:5], -1), own, atol=1e-4)


def test_a_student_learns_from_the_answers_alone(tmp_path):
    truth = digits.source().truth
    targets = truth["targets"].copy()
    targets[digits.source().splits["train"]] = 0.1  # labels that say nothing
    task = digits.source().with_truth(teacher=8 * truth["targets"], targets=targets)
    network = digits.network()
    problem = digits.problem(Distillation(weight=0.9), network, task=task)
    done, *_ = digits.run(problem, digits.begun(network), tmp_path, stored=False)
    assert digits.scores(problem, done)["accuracy"] > 0.4


@pytest.mark.slow
def test_a_setting_names_the_teacher(tmp_path):
    path, task = tmp_path / "teacher.safetensors", digits.source()
    teacher().save(path)
    spec = f"distil(teacher={str(path)!r}, temperature=2.0)"
    how = {"plan": "full", "tune": {"epochs": 1}, "cache": None, "batch_size": 64}
    small = teacher().cut("pool2")
    done = tl_jax.transfer(small, task, objective=spec, **how)
    assert "train_distil" in done.history[0]
    augmented = how | {"tune": {"epochs": 1, "augment": "flip"}}
    with pytest.raises(UserError, match="leave augment= empty"):
        tl_jax.transfer(small, task, objective=spec, **augmented)
    two = tl_jax.load_task("digits", only=("1", "7"))
    with pytest.raises(UserError, match="the teacher: this .* has the classes"):
        tl_jax.transfer(small, two, objective=spec, **how)
    with pytest.raises(UserError, match="whose answers"):
        tl_jax.transfer(small, task, objective="distil", **how)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("distil(temperature=0.0)", "distil: temperature takes a number above 0"),
        ("distil(weight=2.0)", "distil: weight takes a share"),
        ("distil(teacher=3)", "teacher= takes text; got 3"),
        ("destil", "unknown objective 'destil'; did you mean 'distil'"),
    ],
)
def test_mistakes_are_told_in_a_line(spec, said):
    with pytest.raises(UserError, match=said):
        objectives.make(spec)
