"""The plans that a study of one's own images chooses among, and the configs of its stages."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from tl_jax.data.tasks import options
from tl_jax.runs import settings
from tl_jax.runs.config import nested

CHEAP = ("pixels_svm", "cnn_svm", "logistic", "class_means")  # no network is trained for these
LEAST_STEPS = 60  # of a phase: few images have few steps an epoch
SPLITS = {"val": 0.2, "test": 0.25}  # where the data have no such splits themselves
SEEDS = 5  # of what is cheap: the least with which a verdict is given

_HEAD = {"epochs": 3, "learning_rate": 5e-3, "best_by": "last"}
_TUNE = {"learning_rate": 1e-3, "schedule": "one_cycle", "weight_decay": 1e-2,
         "batch_norm": "batch", "views": "flip", "best_by": "last"}  # fmt: skip
_HEAD_RATES = {"train_head": {"learning_rate": "log(1e-3, 3e-2)"}}
_TUNE_RATES = {"tune": {"learning_rate": "log(2e-4, 4e-3)"}}
# By the names that tables of scenarios have for them.
PLANS: Mapping[str, Mapping[str, Any]] = {
    "pixels_svm": {"probe": "rbf_svm", "features": "pixels"},
    "cnn_svm": {"probe": "linear_svm"},
    "logistic": {"probe": "logistic"},
    "class_means": {"probe": "class_means"},
    "head2toe": {"probe": "head2toe"},
    "head_only": {"plan": "head_only", "space": _HEAD_RATES},
    "top": {"plan": "head_then_fine_tune", "from_layer": "0.3", "space": _TUNE_RATES},
    "full": {"plan": "head_then_fine_tune", "from_layer": "0", "space": _TUNE_RATES},
    "from_scratch": {"plan": "from_scratch", "space": _TUNE_RATES},
}


class Effort(NamedTuple):
    """How much a study of one's own images takes."""

    bases: tuple[str, ...]
    size: int  # of the input, in pixels
    epochs: int  # of a phase
    draws: int  # of a plan's settings; with one they are the usual ones
    runs: int  # plans that are run, with seeds of their own each
    seeds: int = 3


QUICK = Effort(("efficientnet_lite0",), size=96, epochs=3, draws=1, runs=2)
FULL = Effort(
    ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
    size=160, epochs=6, draws=2, runs=3,
)  # fmt: skip


class Subject(NamedTuple):
    """What is studied, and how: the same in every stage."""

    task: Mapping[str, Any]  # its name and options
    effort: Effort
    cache: str


def options_of(task: str, **given: Any) -> dict[str, Any]:
    """Return the name and options of a task, with splits, and damaged files left out, where the
    task takes these options; UserError for an unknown task.
    """
    known = options(task)
    usual = {**SPLITS, "on_unreadable": "skip"}
    return {"name": task} | {k: v for k, v in usual.items() if k in known} | given


def in_grid(base: str) -> str:
    """Return what a grid calls a base: a config's keys have no dots, which paths may have."""
    return base.replace(".", "_")


def look(subject: Subject, base: str, source: str) -> ml_collections.ConfigDict:
    """The config of a look at the data, with a base that judges the labels."""
    about = _about(subject, base) | {"seed": 0, "source": {"name": source}}
    return ml_collections.ConfigDict(about)


def probes(subject: Subject, base: str) -> ml_collections.ConfigDict:
    """The config of a probe of every layer of a base, with all labels."""
    how = {"layers": (), "pool": "mean", "views": "none", "probes": ("logistic",)}
    how |= {"budgets": (1.0,), "seeds": tuple(range(SEEDS)), "cache_precision": "float32"}
    return ml_collections.ConfigDict(_about(subject, base) | how)


def grid(
    subject: Subject,
    bases: Sequence[str],
    plans: Sequence[str],
    *,
    seeds: int,
    train: int = 0,
    cut: str = "",
) -> ml_collections.ConfigDict:
    """The config of scenarios of these bases and plans, with all labels of the task.

    `train`: the number of training examples, and `cut`: the last layer that is kept (empty: the
    bottleneck), for plans that train a network.
    """
    task, effort = dict(subject.task), subject.effort
    budget = task.pop("per_class", 0)
    own = {name: dict(PLANS[name]) for name in plans}
    if effort.draws == 1:
        own = {name: {k: v for k, v in one.items() if k != "space"} for name, one in own.items()}
    return ml_collections.ConfigDict(
        {
            "tasks": {"images": task},
            "bases": {in_grid(base): _base(base, effort.size) for base in bases},
            "budgets": (budget,),
            "seeds": seeds,
            "first_seed": 0,
            "plans": own,
            "reference": plans[0],
            "draws": effort.draws,
            "metric": "weighted_accuracy",
            "least_steps": 0,
            "margin": 0.0,
            "settings": _settings(effort, train, cut),
            "cache": subject.cache,
        }
    )


def transfer(
    subject: Subject, base: str, plan: str, chosen: Mapping[str, Any], *, train: int, cut: str
) -> ml_collections.ConfigDict:
    """The config of a run of a plan, with the settings that validation chose."""
    own = {k: v for k, v in PLANS[plan].items() if k != "space"}
    usual = nested([settings.defaults(), _settings(subject.effort, train, cut), own, chosen])
    return ml_collections.ConfigDict(usual | _about(subject, base))


def _about(subject: Subject, base: str) -> dict[str, Any]:
    about: dict[str, Any] = _base(base, subject.effort.size)
    return about | {"task": dict(subject.task), "cache": subject.cache}


def _base(name: str, size: int) -> dict[str, Any]:
    return {"base": name, "weights": "", "size": size, "crop": 0.0, "channels": 0}


def _settings(effort: Effort, train: int, cut: str) -> dict[str, Any]:
    """The settings of every plan, for so many training examples (0: none is trained)."""
    steps = max(1, train // settings.TransferSettings().batch_size)
    epochs = {"epochs": max(effort.epochs, math.ceil(LEAST_STEPS / steps))}
    phases = {"train_head": _HEAD | epochs, "tune": _TUNE | epochs}
    return {**phases, "cut": cut, "cache_dtype": "float16"}
