"""The methods of a config: each a transfer's settings, of which as many draws are tried."""

from collections.abc import Mapping
from typing import Any

from tl_jax.base.base import Base
from tl_jax.errors import UserError, unknown
from tl_jax.runs import pose, settings
from tl_jax.runs.config import nested
from tl_jax.runs.space import candidates
from tl_jax.runs.subject import outline_of
from tl_jax.studies.adapt import SOURCE_ONLY, TARGET_ONLY
from tl_jax.train import objectives

REFERENCES = (SOURCE_ONLY, TARGET_ONLY)
STARTS = ("base", SOURCE_ONLY)
OF_THE_METHOD = ("space", "start")  # what is no setting of a transfer
OF_THE_STUDY = ("seed", "cache")
# Of a phase: epochs chosen by the target's labels would be chosen by an oracle.
LAST = {"best_by": "last", "patience": 0}


def require(config: Mapping[str, Any]) -> None:
    """UserError for a method that is lacking, misspelt, or cannot be compared with the others."""
    for name in REFERENCES:
        if name not in config["methods"]:
            raise UserError(f"methods={', '.join(config['methods'])} lack {name!r}, a reference")
    outline = outline_of(config)
    own, _ = divided(config, SOURCE_ONLY, {})
    trained = outline.with_head(2, cut=own.cut, head=own.head)
    for name in config["methods"]:
        base = trained if start(config, name) == SOURCE_ONLY else outline
        for seed in config["seeds"]:
            _require_drawn(config, name, base, seed)


def _require_drawn(config: Mapping[str, Any], name: str, base: Base, seed: int) -> None:
    for values in drawn(config, name, seed):
        own, options = divided(config, name, values)
        learns_from(name, own.objective)
        if objectives.make(own.objective).answers != "classes":
            raise UserError(
                f"the method {name!r}: objective={own.objective!r} answers otherwise than with a "
                "probability of each class, which the study judges: take another"
            )
        pose.check(base, own, options)


def start(config: Mapping[str, Any], name: str) -> str:
    """Return what a method starts from; UserError for what is nothing to start from."""
    found = config["methods"][name].get("start", STARTS[0])
    if found not in STARTS:
        raise unknown(f"start of the method {name!r}", found, STARTS)
    if name in REFERENCES and found != STARTS[0]:
        raise UserError(f"the method {name!r} is a reference, and starts from the base")
    return found


def drawn(config: Mapping[str, Any], name: str, seed: int) -> list[dict[str, Any]]:
    """Return the settings of each draw, flat; UserError unless they are as many as `draws`.

    Without a space, what differs is the source-trained model that a method starts from.
    """
    space = config["methods"][name].get("space", {})
    found = candidates(space, draws=config["draws"], seed=seed, plan=name)
    count = len(found) if space or start(config, name) == SOURCE_ONLY else 1
    if count != config["draws"]:
        raise UserError(
            f"the method {name!r} has {count} settings to try instead of draws={config['draws']}: "
            "every method is tuned as often, as one with more draws has more luck; give it a space"
        )
    return found


def divided(
    config: Mapping[str, Any], name: str, values: Mapping[str, Any], *, seed: int = 0
) -> tuple[settings.TransferSettings, dict[str, Any]]:
    """Return the settings of a method's transfer, with these `values` drawn, and its plan's
    options. UserError for those that the study itself sets.
    """
    own = {k: v for k, v in config["methods"][name].items() if k not in OF_THE_METHOD}
    every = nested([config["settings"], own, values])
    if clash := [setting for setting in OF_THE_STUDY if setting in every]:
        raise UserError(f"the method {name!r}: the study itself sets {', '.join(clash)}")
    for phase in settings.PHASES:
        if clash := [setting for setting in LAST if setting in every.get(phase, {})]:
            raise UserError(
                f"the method {name!r}: leave {phase}.{clash[0]} out, every method ends with its "
                "last epoch; one chosen by labels of the target would need them"
            )
    of_study = {"seed": seed, "cache": config["cache"]}
    if start(config, name) == SOURCE_ONLY:  # the model whole, with the classifier that it has
        of_study |= {"head": "kept", "cut": ""}
    return settings.divided(nested([every, dict.fromkeys(settings.PHASES, LAST), of_study]))


def learns_from(name: str, objective: Any) -> str:
    """Return what a method trains on: "source", "target" or "both"; the reference by its name."""
    several = objectives.make(objective).judges != ""
    if name not in REFERENCES:
        return "both" if several else "target"
    if several:
        raise UserError(
            f"the method {name!r} is a reference, and trains on one task: objective={objective!r} "
            "takes several"
        )
    return name.removesuffix("_only")
