"""Language models that a transfer trains first: the stages of ULMFiT before the classifier."""

import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from tl_jax.base.base import Base
from tl_jax.engine import processes
from tl_jax.errors import UserError
from tl_jax.runs import language
from tl_jax.runs.subject import base_of


def ready(
    config: Mapping[str, Any], folder: pathlib.Path, *, task: Mapping[str, Any], seed: int
) -> Base:
    """Load the base that a config names, or what its `language` makes of it.

    `config["language"]` has, by name, configs of language models (`configs.language`). Each is
    trained in `folder` from the one before, and the first from the config's base; one without a
    task's name learns from all training texts of `task`, whatever its label budget.
    """
    if config.get("language") and processes.several():
        raise UserError(
            "language models are trained in one process: train them first, by "
            "experiments.language, and give the last one as base="
        )
    settings = {**config, "language": {}}
    for name, stage in config.get("language", {}).items():
        own = stage["task"] if stage["task"]["name"] else task
        own = {option: value for option, value in own.items() if option != "per_class"}
        given = {"task": own, "seed": seed, "cache": config["cache"]}
        given |= {part: settings[part] for part in ("base", "weights")}
        trained = ml_collections.ConfigDict({**stage, **given})
        language.by_config(trained, folder / name, name=name)
        settings |= {"base": str(folder / name), "weights": ""}
    return base_of(settings)
