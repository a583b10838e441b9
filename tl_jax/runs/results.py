"""`result.json`: what a run found, what it cost, and what one needs to run it again."""

import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
from typing import Any

import jax
import numpy as np

from tl_jax.base.base import Base
from tl_jax.data import splits, views
from tl_jax.data.boxes.truth import counted
from tl_jax.data.task import Task
from tl_jax.ops.cpu import heap, switch
from tl_jax.plans.plan import Phase
from tl_jax.stats import calibration
from tl_jax.train.identity import plain
from tl_jax.train.problem import Problem
from tl_jax.train.state import Progress, choices
from tl_jax.train.step import recipe

PACKAGES = ("tl_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn")

TRUTH = ("labels", "targets", "weights")  # of a classification, that its calibration is of
SKIPPED = 1000  # unreadable files that a result names


def collect(
    *,
    name: str,
    config: dict,
    problem: Problem,
    base: Base,
    variables: Any,
    progress: Progress,
    scores: dict[str, dict],
    predictions: dict[str, Any],
    total_seconds: float,
) -> dict[str, Any]:
    """The result as JSON-able data; `scores` are metrics and `predictions` (n, ...) by split,
    `base` is what training gave.
    """
    task = problem.task
    told = choices(problem.plan, progress, problem.objective)
    phases = [
        _phase(problem, phase, progress.rows(phase), variables) | choice | source
        for phase, choice, source in zip(problem.plan.phases, told, progress.inputs, strict=True)
    ]
    return finite(
        {
            "name": name,
            "seed": problem.seed,
            "config": config,
            "base": {
                "name": base.name,
                "weights": base.weights,
                "digest": base.digest,
                "size": base.preprocessing.size,
                "parameters": _count(base.variables["params"]),
                "layers": list(base.chain.names),
                "cut": base.architecture.cut,
                "preprocessing": base.preprocessing.described(),
            },
            "task": _task(task),
            # Training examples by name, of a run that learns from several sources.
            "sources": {name: len(one.splits["train"]) for name, one in problem.sources.items()},
            "plan": {"name": problem.plan.name, "phases": phases},
            **scores,
            "calibration": _calibration(task, predictions),
            "cost": _cost(progress, phases, total_seconds),
            **provenance("transfer"),
            "published": list(task.published),
        }
    )


def provenance(program: str) -> dict[str, Any]:
    """By what command of `experiments/`, when, with which code and on what machine."""
    return {
        "versions": versions(),
        "git": git(),
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "devices": [d.device_kind for d in jax.devices()],
            "cpu": "fast" if switch.fast() else "plain",  # the forms of operations on a CPU
        },
        "heap": {"restarted": heap.restarted()},
        "command": " ".join(["python", "-m", _module(program), *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _module(program: str) -> str:
    """The program that runs, of which this one of `experiments/` may be a part."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    outer = spec.name if spec else ""
    return outer if outer.startswith("experiments.") else f"experiments.{program}"


def finite(tree: Any) -> Any:
    """The tree with None for numbers that JSON does not have."""
    if isinstance(tree, dict):
        return {k: finite(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(v) for v in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def write_json(path: pathlib.Path, tree: Any) -> None:
    """Write all of it or nothing."""
    partial = path.with_suffix(".partial")
    partial.write_text(_lines(tree) + "\n")
    partial.replace(path)


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Return the object in a file; ValueError for any other content."""
    try:
        found = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("it holds no object")
    return found


def _lines(tree: Any, margin: str = "\n") -> str:
    """JSON, indented but for rows of plain values: a confusion matrix has a line a class, where
    one a number takes eight times the memory to write.
    """
    deeper = margin + " "
    if isinstance(tree, dict) and tree:
        parts = (f"{deeper}{json.dumps(str(k))}: {_lines(v, deeper)}" for k, v in tree.items())
        return f"{{{','.join(parts)}{margin}}}"
    if isinstance(tree, list) and any(isinstance(each, dict | list | tuple) for each in tree):
        return f"[{','.join(f'{deeper}{_lines(each, deeper)}' for each in tree)}{margin}]"
    return json.dumps(tree)


def _phase(
    problem: Problem, phase: Phase, rows: list[dict], variables: Any
) -> dict[str, Any]:
    settings, params = plain(phase.settings), variables["params"]
    # A layer that reads nothing and has no parameters is a recurrent one's first state.
    states = {one.name for one in problem.chain.layers if not (one.reads or params.get(one.name))}
    return settings | {
        "name": phase.name,
        "multipliers": {n: m for n, m in phase.multipliers.items() if n not in states},
        "views": len(views.numbers(phase.settings.views)),
        "stopped_early": len(rows) < phase.settings.epochs,
        "trained_parameters": trained_parameters(problem, phase, variables),
        "seconds": sum(r["train_seconds"] + r["compile_seconds"] for r in rows),
    }


def _task(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "asks": task.asks,
        "classes": list(task.classes),
        "sizes": {split: len(own) for split, own in task.splits.items()},
        "examples": len(task.ids),  # that splits were drawn from, or a label budget
        # Which examples: runs with the same are paired, and tell whether splits were drawn anew.
        "test_split": splits.identity(task.splits["test"]),
        "class_counts": {split: _counts(task, own) for split, own in task.splits.items()},
        "skipped": len(task.skipped),
        "skipped_files": list(task.skipped[:SKIPPED]),
    }


def _counts(task: Task, rows: np.ndarray) -> dict[str, int]:
    """How many of the examples are of each class, or have each label."""
    if not task.classes or task.asks in ("numbers", "captions"):
        return {}
    if task.asks == "boxes":
        truth = {name: array[rows] for name, array in task.truth.items()}
        found = truth["classes"][counted(truth)]  # ignored ones need not be found
        return {name: int((found == c).sum()) for c, name in enumerate(task.classes)}
    if task.asks == "labels":
        own = task.targets[rows] > 0.5
    else:
        own = task.labels[rows][:, None] == np.arange(len(task.classes))
    return dict(zip(task.classes, own.sum(0).tolist(), strict=True))


def _calibration(task: Task, predictions: dict[str, Any]) -> dict[str, Any] | None:
    """What one temperature makes of class probabilities; None where predictions are none."""
    classes = (len(task.classes),)
    probabilities = {split: np.asarray(found) for split, found in predictions.items()}
    if not task.classes or task.asks != "classes":
        return None
    if any(found.shape[1:] != classes for found in probabilities.values()):
        return None
    if not all(len(found) and np.isfinite(found).all() for found in probabilities.values()):
        return None
    truth = {
        split: {name: task.truth[name][task.splits[split]] for name in TRUTH}
        for split in probabilities
    }
    return calibration.calibrated(probabilities, truth)


def _cost(progress: Progress, phases: list[dict], total_seconds: float) -> dict[str, Any]:
    # A run that was stopped behind its last batch and then resumed has taken no step itself.
    rows = [r for r in progress.history if r["steps"]]
    last = [r for r in rows if r["phase"] == rows[-1]["phase"]]
    trained = sum(r["train_seconds"] for r in last)
    images = sum(r["images"] for r in last)
    steps = [r["train_seconds"] / r["steps"] for r in last]
    stats = jax.local_devices()[0].memory_stats() or {}
    kilobyte = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte
    return {
        "total_seconds": total_seconds,
        "compile_seconds": sum(r["compile_seconds"] for r in rows),
        "step_ms": 1e3 * statistics.median(steps) if steps else None,
        "images_per_second": images / trained if steps else None,
        "peak_memory_bytes": stats.get("peak_bytes_in_use", peak),
        "cached_bytes": sum({p["cache_key"]: p["cached_bytes"] for p in phases}.values()),
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def git() -> dict[str, Any] | None:
    """Commit of the checkout that this file is in and whether it was changed; None outside one."""

    def ask(*command: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(pathlib.Path(__file__).parent), *command],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def failures(result: dict) -> list[dict]:
    """Return the rows of a result that say with what error their cell failed."""
    return [row for row in result.get("rows", ()) if row.get("error") is not None]


def trained_parameters(problem: Problem, phase: Phase, variables: Any) -> int:
    """Return how many parameters a phase trains."""
    return _count(recipe(problem.setup, phase).of_trained(variables)["params"])


def _count(tree: Any) -> int:
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(tree))
