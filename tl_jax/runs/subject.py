"""What a config is about (`configs.defaults.subject`): a base with its weights, and a task."""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any

from tl_jax import models
from tl_jax.base.base import Base
from tl_jax.base.load import load_base, outline
from tl_jax.data.files import path_of
from tl_jax.data.layout import folder_name
from tl_jax.data.splits import SEEDS
from tl_jax.data.task import Task
from tl_jax.data.tasks import TASKS, joined, load_task
from tl_jax.errors import UserError, takes_several, takes_whole


def base_of(config: Mapping[str, Any], **changes: Any) -> Base:
    """Load the base that the config names, for the config's size, crop and channels.

    `changes` replace settings of the config.
    """
    settings = {**config, **changes}
    if stages := settings.get("language"):
        raise UserError(
            f"language models are trained first ({', '.join(stages)}) by experiments.transfer and "
            "experiments.scenarios alone: train them with experiments.language, and give base="
        )
    base = load_base(settings["base"], settings["weights"] or None)
    if settings["channels"]:
        base = base.with_channels(settings["channels"])
    return base.resized(settings["size"] or None, settings["crop"] or None)


def outline_of(config: Mapping[str, Any], **changes: Any) -> Base:
    """Return what `base_of` gives with shapes for weights, which are not read."""
    settings = {**config, **changes}
    base = outline(settings["base"], settings["weights"] or None)
    if settings["channels"]:
        preprocessing = base.preprocessing.with_channels(settings["channels"])
        shapes = base.chain.shapes(preprocessing.example)[0]
        base = dataclasses.replace(base, preprocessing=preprocessing, variables=shapes)
    return base.resized(settings["size"] or None, settings["crop"] or None)


def base_name(config: Mapping[str, Any]) -> str:
    """Return the base and what its weights are, for a page."""
    weights = "published weights" if models.is_name(config["base"]) else "its own weights"
    return f"{config['base']} ({config['weights'] or weights})"


def require_seeds(seeds: Iterable[Any]) -> None:
    """UserError unless each is a seed, and there once: twice, it would count as two."""
    takes_several(seeds, "seeds=")
    for seed in seeds:
        takes_whole(seed, "a seed", 0, SEEDS - 1)


def task_of(config: Any, seed: int) -> Task:
    """Load the task that `config.task` describes, with the splits of `seed`."""
    return named_task(config.task, seed)


def folder_of(options: Mapping[str, Any]) -> str:
    """The path of the images of `config.task`; "" for a task that is no folder of images."""
    kind, _, which = options["name"].partition(":")
    if kind in ("folder", "images"):
        return which or options.get("path") or ""
    return "" if kind in TASKS else options["name"]


def tasks_in(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The name and options of every task that a config names; of joined ones, of each part."""
    tasks = [config[key] for key in ("task", "source") if key in config]
    tasks += config.get("tasks", {}).values()
    found = []
    for options in tasks:
        kind, _, which = options["name"].partition(":")
        if kind == "joined":
            names = joined.parts(which or options.get("tasks", ""))
            found += [{**options, "name": name} for name in names]
        else:
            found.append(options)
    return found


def folders_of(config: Mapping[str, Any]) -> list[str]:
    """`folder_of` the tasks that a config names."""
    return [path for path in map(folder_of, tasks_in(config)) if path]


def task_name(options: Mapping[str, Any]) -> str:
    """What a page calls the task of `config.task`: a folder by its own name, not by its path."""
    if path := folder_of(options):
        return folder_name(path)
    kind, _, which = options["name"].partition(":")
    return kind if os.sep in which and path_of(which).is_absolute() else options["name"]


def named_task(options: Mapping[str, Any], seed: int, **more: Any) -> Task:
    """Load the task `options["name"]` with its other options; empty ones are not every task's."""
    given = {k: value for k, value in options.items() if k != "name" and value not in ("", ())}
    if not given.get("per_class"):  # no budget
        given.pop("per_class", None)
    return load_task(options["name"], seed=seed, **given, **more)
