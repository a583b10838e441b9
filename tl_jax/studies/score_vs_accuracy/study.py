"""Scores and accuracies of candidates (bases cut at a layer), and how well they agree."""

import pathlib
import time
from typing import Any

import numpy as np
from scipy.special import softmax

from tl_jax import interrupt
from tl_jax.data.task import Task
from tl_jax.errors import UserError, takes_several, takes_whole
from tl_jax.measure import scores
from tl_jax.measure.features import of_layers
from tl_jax.plans.plan import Settings
from tl_jax.runs.journal import Journal
from tl_jax.runs.subject import base_of, outline_of, require_seeds, task_of
from tl_jax.stats import ranking
from tl_jax.stats.paired import overlap
from tl_jax.studies.score_vs_accuracy.candidates import ON_SOURCE, by_candidate
from tl_jax.studies.score_vs_accuracy.trainings import transfer

ACCURACIES = ("head", "fine_tuned")
LEAST = 3  # candidates that can be ranked


def check(config: Any) -> None:
    """Raise UserError for unknown settings, and if a base has no such cut, or no `from_layer` below
    it.
    """
    require_seeds(config.seeds)
    for phase in (config.head, config.tune):
        Settings(**phase)
    takes_whole(config.resamples, "resamples=", 0, 10**6)
    for name, own in config.bases.items():
        takes_several(own.cuts, "cuts=")
        chain, lowest = outline_of(config, **own).chain, config.from_layer
        chain.index(lowest)
        for cut in own.cuts:
            if lowest not in chain.cut(cut).names:
                raise UserError(
                    f"from_layer={lowest!r} is above the cut at {cut!r} of {name!r}: "
                    "take a lower one, or leave that cut out"
                )
    count = sum(len(own.cuts) for own in config.bases.values())
    if count < LEAST:
        raise UserError(f"a ranking takes {LEAST} candidates, bases cut at layers; got {count}")


def data(config: Any) -> dict[str, Task]:
    """Return the task that a results folder belongs to, in the splits of one seed."""
    return {"": task_of(config, 0)}


def compute(config: Any, workdir: pathlib.Path) -> dict:
    """Score and train every candidate with every seed; store each finished candidate."""
    started = time.monotonic()
    journal = Journal(workdir / "cells.jsonl")
    for seed in config.seeds:
        for name in config.bases:
            measure(config, name, seed, journal, workdir / "runs")
    rows = journal.rows()
    return {
        "candidates": rows,
        "agreement": agreements(rows, config.resamples),
        "overlap": overlap([task_of(config, seed).splits for seed in config.seeds]),
        "seconds": time.monotonic() - started,
    }


def measure(config: Any, name: str, seed: int, journal: Journal, runs: pathlib.Path) -> None:
    """Finish the candidates of one base and seed; `runs` is the folder for their trainings."""
    options = config.bases[name]
    missing = [cut for cut in options.cuts if not journal.get(base=name, cut=cut, seed=seed)]
    if not missing:
        return
    base, task = base_of(config, **options), task_of(config, seed)
    layers = [*options.cuts, *base.layers[-1:]] if base.classifies else options.cuts
    features = of_layers(base, task, layers=layers, cache=config.cache)
    source = score_predictions(features[base.layers[-1]].rows, task) if base.classifies else {}
    for cut in missing:
        interrupt.check()
        started = time.monotonic()
        rows = features[cut].rows
        row = {"dimensions": rows.shape[1], "scores": score_features(rows, task) | source}
        folder = runs / f"{name}_{cut}_{seed}"
        row |= transfer(config, base, task, rows, cut=cut, seed=seed, folder=folder)
        journal.add(row | {"seconds": time.monotonic() - started}, base=name, cut=cut, seed=seed)
        accuracies = ", ".join(f"{how} {100 * x:.1f} %" for how, x in row["accuracy"].items())
        print(f"{name} {cut} seed {seed}: {accuracies}", flush=True)


def score_features(rows: np.ndarray, task: Task) -> dict[str, float]:
    """Return the scores of features (N, D) on the training split."""
    train = task.splits["train"]
    return {k: f(rows[train], task.labels[train]) for k, f in scores.ON_FEATURES.items()}


def score_predictions(logits: np.ndarray, task: Task) -> dict[str, float]:
    """Return the scores of the base's own predictions, logits (N, Z), on the training split."""
    train = task.splits["train"]
    probabilities = softmax(np.float64(logits[train]), axis=1)
    labels = task.labels[train]
    return {
        "LEEP": scores.leep(probabilities, labels),
        "NCE": scores.nce(probabilities.argmax(1), labels),
    }


def agreements(rows: list[dict], resamples: int) -> list[dict]:
    """Return the agreement of each score with each accuracy over candidates.

    For LEEP and NCE the candidates are the bases. Intervals are cluster bootstraps: the cuts of a
    base are drawn together. `best` is the share of resamples where the score agrees best, among
    the scores that differ among a base's cuts.
    """
    entries = []
    for score in dict.fromkeys(s for row in rows for s in row["scores"]):
        having = [row for row in rows if score in row["scores"]]
        if score in ON_SOURCE:
            top = {row["base"]: row["cut"] for row in having}  # the last cut
            having = [row for row in having if top[row["base"]] == row["cut"]]
        scored = np.array(list(by_candidate(having, "scores", score).values()))
        bases = [base for base, _ in by_candidate(having)]
        for accuracy in ACCURACIES:
            reached = np.array(list(by_candidate(having, "accuracy", accuracy).values()))
            if len(scored) >= LEAST:
                agreed = ranking.agreement(
                    scores=scored, accuracies=reached, clusters=bases, resamples=resamples
                )
                entry: dict[str, Any] = {"score": score, "accuracy": accuracy}
                entry["candidates"] = len(scored)
                entry["bases"] = len(set(bases))
                entries.append(entry | {measure: list(a) for measure, a in agreed.items()})
    for accuracy in ACCURACIES:
        shares = best_shares(rows, accuracy, resamples)
        for entry in entries:
            if entry["accuracy"] == accuracy:
                entry["best"] = shares.get(entry["score"])
    return entries


def best_shares(rows: list[dict], accuracy: str, resamples: int) -> dict[str, float]:
    """Return the share of resamples where each score that differs among cuts agrees best."""
    reached = np.array(list(by_candidate(rows, "accuracy", accuracy).values()))
    bases = [base for base, _ in by_candidate(rows)]
    common = [s for s in rows[0]["scores"] if all(s in row["scores"] for row in rows)]
    scored = {
        score: np.array(list(by_candidate(rows, "scores", score).values()))
        for score in common
        if score not in ON_SOURCE
    }
    return ranking.shares_best(scored, reached, clusters=bases, resamples=resamples)
