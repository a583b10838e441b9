"""Classifiers of texts in a language, from few labels of its own and many of another."""

import itertools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
import threadpoolctl

from tl_jax import interrupt
from tl_jax.base import file
from tl_jax.base.base import Base
from tl_jax.base.load import load_base
from tl_jax.data.packaged import LANGUAGES
from tl_jax.data.splits import budget
from tl_jax.data.task import Task
from tl_jax.data.texts.preprocessing import TextPreprocessing
from tl_jax.errors import UserError, takes_several, takes_whole, unknown
from tl_jax.measure.features import of_layers
from tl_jax.runs import language
from tl_jax.runs.journal import Journal
from tl_jax.runs.subject import base_of, require_seeds
from tl_jax.studies.languages import FEATURES, LABELS, tasks

PENALTY = 10.0  # scikit-learn's C: there are no labels to choose it by


def check(config: Any) -> None:
    """Raise UserError for unknown languages, and for seeds and budgets that are none."""
    require_seeds(config.seeds)
    takes_several(config.languages, "languages=")
    takes_several(config.budgets, "budgets=")
    for name in config.languages:
        if name not in LANGUAGES:
            raise unknown("language", name, LANGUAGES)
    if len(config.languages) < 2:
        raise UserError("languages= takes two or more: the first is where many labels are")
    for count in config.budgets:
        takes_whole(count, "a budget", 0, 1_000_000)


def data(config: Any) -> dict[str, Task]:
    """Return the task of each language."""
    return tasks.of_config(config)


def compute(config: Any, workdir: pathlib.Path) -> dict:
    """Train the language model, if there is none, and each classifier; store finished cells."""
    known = data(config)
    base = language_model(config, known, workdir)
    inputs = {
        "pieces": tf_idf(base, known),
        **standardised(base, known, layer=config.layer, cache=config.cache),
    }
    journal = Journal(workdir / "cells.jsonl")
    source, *others = config.languages
    cells = itertools.product(config.seeds, others, config.budgets, LABELS, FEATURES)
    for seed, name, count, labels, features in cells:
        key = dict(seed=seed, language=name, budget=count, labels=labels, features=features)
        first = seed == config.seeds[0]  # seeds draw labels: without any there is one answer
        if journal.get(**key) or not (count or first) or not possible(known[name], count, labels):
            continue
        interrupt.check()
        rows = {} if not count else {name: drawn(known[name], count, seed)}
        if labels != "own":
            rows[source] = known[source].splits["train"]
        journal.add(examined(inputs[features], known, rows, name), **key)
    return {
        "cells": journal.rows(),
        "base": {"name": base.name, "weights": base.weights, "words": base.architecture.words},
        "classes": list(known[source].classes),
        "sizes": {n: {s: len(rows) for s, rows in t.splits.items()} for n, t in known.items()},
        "commonest": {n: commonest(task) for n, task in known.items()},
    }


def language_model(config: Any, known: Mapping[str, Task], workdir: pathlib.Path) -> Base:
    """Return the config's base, if it has a vocabulary; else train it on texts of all languages."""
    base = base_of(config)
    if isinstance(base.preprocessing, TextPreprocessing) and base.preprocessing.tokenizer:
        return base
    folder = workdir / "language_model"
    if not (folder / file.NAME).is_file():
        folder.mkdir(exist_ok=True)
        language.work(base, tasks.together(known), folder, config.model, name="languages")
    return load_base(folder).resized(config.size)


def tf_idf(base: Base, known: Mapping[str, Task]) -> dict[str, Any]:
    """Return how often each piece is in each text, 1 + log, times log(1 / its share of the texts
    to train on), rows of length 1: sparse (N, V) a language.
    """
    expects, counts = base.preprocessing, {}
    assert isinstance(expects, TextPreprocessing)
    for name, task in known.items():
        rows = expects.rows(task.texts)
        ends = np.cumsum([0, *map(len, rows)])
        values = np.ones(ends[-1], np.float32)
        shape = (len(rows), base.architecture.words)
        counts[name] = scipy.sparse.csr_array((values, np.concatenate(rows), ends), shape=shape)
        counts[name].sum_duplicates()
    train = [counts[name][task.splits["train"]] for name, task in known.items()]
    share = sum((part > 0).sum(0) for part in train) / sum(part.shape[0] for part in train)
    idf = scipy.sparse.diags_array(np.log(1 / np.maximum(share, 1e-6)))
    found = {}
    for name, rows in counts.items():
        rows.data = 1 + np.log(rows.data)
        weighed = rows @ idf
        length = np.sqrt(weighed.multiply(weighed).sum(1))
        found[name] = scipy.sparse.diags_array(1 / np.maximum(length, 1e-9)) @ weighed
    return found


def standardised(
    base: Base, known: Mapping[str, Task], *, layer: str, cache: str | None
) -> dict[str, dict[str, np.ndarray]]:
    """Return the layer's features (N, D) a language, in units of their deviation over the texts to
    train on, less the mean of all languages ("model") or of each ("centred"); rows of length 1 or
    so.
    """
    rows = {
        name: np.array(of_layers(base, task, layers=[layer], cache=cache)[layer].rows, np.float64)
        for name, task in known.items()
    }
    train = {name: rows[name][task.splits["train"]] for name, task in known.items()}
    everything = np.concatenate(list(train.values()))
    scale = np.sqrt(everything.shape[1]) * everything.std(0)
    return {
        "model": {name: (x - everything.mean(0)) / scale for name, x in rows.items()},
        "centred": {name: (x - train[name].mean(0)) / scale for name, x in rows.items()},
    }


def possible(task: Task, count: int, labels: str) -> bool:
    """Whether there are labels at all, and each class has so many."""
    most = np.bincount(task.labels[task.splits["train"]], minlength=len(task.classes)).min()
    return count <= most and (count > 0 or labels != "own")


def drawn(task: Task, count: int, seed: int) -> np.ndarray:
    """Return training examples, `count` of each class."""
    return budget(task.splits["train"], task.labels, per_class=count, seed=seed)


def examined(
    inputs: Mapping[str, Any], known: Mapping[str, Task], rows: Mapping[str, np.ndarray], name: str
) -> dict[str, float]:
    """Return the test accuracy and macro-F1 in a language of logistic regression on the rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    parts = [inputs[one][which] for one, which in rows.items()]
    stack = scipy.sparse.vstack if scipy.sparse.issparse(parts[0]) else np.concatenate
    labels = np.concatenate([known[one].labels[which] for one, which in rows.items()])
    test = known[name].splits["test"]
    with threadpoolctl.threadpool_limits(1):
        model = LogisticRegression(C=PENALTY, max_iter=5000).fit(stack(parts), labels)
        predicted = model.predict(inputs[name][test])
    truth = known[name].labels[test]
    macro = f1_score(truth, predicted, average="macro", zero_division=0)
    return {"accuracy": float(np.mean(predicted == truth)), "macro_f1": float(macro)}


def commonest(task: Task) -> float:
    """Return the share of the commonest class of the test split."""
    labels = task.labels[task.splits["test"]]
    return float(np.bincount(labels).max() / len(labels))
