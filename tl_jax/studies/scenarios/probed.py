"""Plans that train no network: a shallow classifier on features off the shelf, or made by hand."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tl_jax.base.base import Base
from tl_jax.data import views
from tl_jax.data.task import Task
from tl_jax.errors import UserError, unknown
from tl_jax.measure import features, handmade, head2toe
from tl_jax.measure.probes import protocol

PROBES = (*protocol.PROBES, "head2toe")
OPTIONS = ("probe", "features", "layer", "views")


def require(
    config: Mapping[str, Any], name: str, plan: Mapping[str, Any], bases: Sequence[Base]
) -> None:
    """UserError for a probe, an option, features or a layer that is none."""
    for option in plan:
        if option not in OPTIONS:
            raise unknown(f"option of the plan {name!r}", option, OPTIONS)
    if plan["probe"] not in PROBES:
        raise unknown(f"probe of the plan {name!r}", plan["probe"], PROBES)
    kinds = ("base", *handmade.KINDS)
    if (kind := plan.get("features", "base")) not in kinds:
        raise unknown(f"features of the plan {name!r}", kind, kinds)
    views.numbers(plan.get("views", "none"))
    if kind != "base" and plan.get("views", "none") != "none":
        raise UserError(f"the plan {name!r}: features made by hand have no views")
    if plan["probe"] == "head2toe" and (kind != "base" or {"layer", "views"} & set(plan)):
        raise UserError(f"the plan {name!r}: head2toe takes all layers, in one view")
    for base in bases:
        if layer := plan.get("layer"):
            features.shapes_of(base, layers=[layer])


def figures(plan: Mapping[str, Any], base: Base, task: Task, cache: str) -> dict[str, Any]:
    """Return the figures of a cell whose plan is a probe, which tunes its own penalty on val."""
    examples = protocol.Examples(*(task.splits[split] for split in ("train", "val", "test")))
    if plan["probe"] == "head2toe":
        by_layer = features.of_layers(base, task, cache=pathlib.Path(cache))
        found = head2toe.fit({n: own.rows for n, own in by_layer.items()}, task, examples)
        told = {"val": found.val, "test": found.test, "test_weighted": found.test_weighted}
        count = sum(found.kept.values())
        return _told(told, {"share": found.share, "kept": found.kept}, count, task)
    rows = _rows(plan, base, task, cache)
    (answers,) = protocol.examine(rows, [(task, examples)], [plan["probe"]])
    if plan["probe"] not in answers:
        raise UserError(f"{plan['probe']} takes too long on {len(examples.train)} examples")
    answer = answers[plan["probe"]]
    return _told(answer, {"penalty": answer["setting"]}, rows.shape[-1], task)


def _told(answer: Mapping[str, Any], chosen: Any, width: int, task: Task) -> dict[str, Any]:
    metrics = {name: answer[name] for name in ("val", "test", "test_weighted")}
    parameters = (width + 1) * len(task.classes)
    return {**metrics, "chosen": chosen, "trained_parameters": parameters}


def _rows(plan: Mapping[str, Any], base: Base, task: Task, cache: str) -> np.ndarray:
    """The features (N, D) of all examples, or (V, N, D) in V views, whatever split they are in."""
    kind = plan.get("features", "base")
    if kind == "base":
        layer = plan.get("layer") or base.bottleneck
        options = {"layers": [layer], "views": plan.get("views", "none"), "cache": cache}
        return features.of_layers(base, task, **options)[layer].rows
    return handmade.features(task, kind, cache=cache)
