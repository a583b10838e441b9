"""Plans that train no network: a shallow classifier on features off the shelf, or made by hand."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.base.base import Base
from tl_jax.data import views
from tl_jax.data.task import SPLITS, Task
from tl_jax.data.texts.preprocessing import TextPreprocessing
from tl_jax.errors import UserError, unknown
from tl_jax.measure import features, handmade, head2toe
from tl_jax.measure.probes import protocol

PROBES = (*protocol.PROBES, "head2toe")
OPTIONS = ("probe", "features", "layer", "views")


def require(
    config: Mapping[str, Any], name: str, plan: Mapping[str, Any], bases: Sequence[Base]
) -> None:
    """UserError for a probe, an option, features or a layer that is none, for features of images
    where bases read texts, and for a package that features need and that is not installed.
    """
    for option in plan:
        if option not in OPTIONS:
            raise unknown(f"option of the plan {name!r}", option, OPTIONS)
    if plan["probe"] not in PROBES:
        raise unknown(f"probe of the plan {name!r}", plan["probe"], PROBES)
    kinds = ("base", *handmade.KINDS)
    if (kind := plan.get("features", "base")) not in kinds:
        raise unknown(f"features of the plan {name!r}", kind, kinds)
    if kind != "base":
        handmade.require(kind)
    views.numbers(plan.get("views", "none"))
    if texts := [base.name for base in bases if isinstance(base.preprocessing, TextPreprocessing)]:
        for option, usual in (("features", "base"), ("views", "none")):
            if (value := plan.get(option, usual)) != usual:
                raise UserError(
                    f"the plan {name!r}: {option}={value} are of images, and {texts[0]} reads texts"
                )
    if kind != "base" and {"layer", "views"} & plan.keys():
        raise UserError(f"the plan {name!r}: features made by hand have no layer and no views")
    if plan["probe"] == "head2toe" and (kind != "base" or {"layer", "views"} & plan.keys()):
        raise UserError(f"the plan {name!r}: head2toe takes all layers, in one view")
    if layer := plan.get("layer"):
        for base in bases:
            features.shapes_of(base, layers=[layer])


def figures(config: Mapping[str, Any], name: str, base: Base, task: Task) -> dict[str, Any]:
    """Return the figures of a cell whose plan is a probe, which tunes its own penalty on val."""
    plan = config["plans"][name]
    examples = protocol.Examples(*(task.splits[split] for split in SPLITS))
    examined = _all_layers if plan["probe"] == "head2toe" else _one_layer
    answer, chosen, width = examined(plan, base, task, examples, config["cache"])
    return {
        "val": answer[f"val_{config['metric']}"],
        "test": answer["test"],
        "test_weighted": answer["test_weighted"],
        "chosen": chosen,
        "trained_parameters": (width + 1) * len(task.classes),
    }


class Examined(NamedTuple):
    """What a probe gives."""

    answer: Mapping[str, Any]  # see `protocol.examine`
    chosen: dict[str, Any]  # settings
    width: int  # features that it is fitted on


def _all_layers(
    plan: Mapping[str, Any], base: Base, task: Task, examples: protocol.Examples, cache: str
) -> Examined:
    by_layer = features.of_layers(base, task, cache=cache)
    rows = {layer: of_layer.rows for layer, of_layer in by_layer.items()}
    fitted = head2toe.fit(rows, task, examples)
    chosen = {"share": fitted.share, "kept": fitted.kept}
    return Examined(fitted.answer, chosen, sum(fitted.kept.values()))


def _one_layer(
    plan: Mapping[str, Any], base: Base, task: Task, examples: protocol.Examples, cache: str
) -> Examined:
    """UserError for a probe that takes too long."""
    rows, probe = _rows(plan, base, task, cache), plan["probe"]
    (answers,) = protocol.examine(rows, [(task, examples)], [probe])
    if probe not in answers:
        raise UserError(f"{probe} takes too long on {len(examples.train)} examples")
    return Examined(answers[probe], {"penalty": answers[probe]["setting"]}, rows.shape[-1])


def _rows(plan: Mapping[str, Any], base: Base, task: Task, cache: str) -> np.ndarray:
    """The features (N, D) of all examples, or (V, N, D) in V views, whatever split they are in."""
    kind = plan.get("features", "base")
    if kind == "base":
        layer = plan.get("layer") or base.bottleneck
        options = {"layers": [layer], "views": plan.get("views", "none"), "cache": cache}
        return features.of_layers(base, task, **options)[layer].rows
    return handmade.features(task, kind, cache=cache)
