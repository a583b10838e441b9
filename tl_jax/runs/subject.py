"""What a config is about (`configs.defaults.subject`): a base with its weights, and a task."""

from collections.abc import Mapping
from typing import Any

from tl_jax import models
from tl_jax.base.architecture import Architecture
from tl_jax.base.base import Base, load_base
from tl_jax.data.task import Task
from tl_jax.data.tasks import load_task
from tl_jax.errors import UserError


def base_of(config: Mapping[str, Any], **changes: Any) -> Base:
    """Load the base that the config names, for the config's size, crop and channels.

    `changes` replace settings of the config.
    """
    settings = {**config, **changes}
    base = named_base(settings["base"], settings["weights"], flag="--config.weights")
    base = base.with_channels(settings["channels"] or base.preprocessing.channels)
    return base.resized(settings["size"] or None, settings["crop"] or None)


def named_base(name: str, weights: str | None, *, flag: str) -> Base:
    """Load a base with the weights, or with the first published ones if none are given.

    UserError, which asks for `flag`, if no weights of the architecture have a name.
    """
    weights = weights or next(iter(models.published(name)), None)
    if weights is None:
        raise UserError(f"no weights of {name} have a name: give {flag}=FILE")
    return load_base(name, weights)


def bare_base(name: str) -> Base:
    """Return a base without weights, in its first form: enough for all that shapes tell."""
    name = models.canonical(name)
    family = models.family(name)
    architecture = Architecture(name, family.forms(name)[0])
    return Base(architecture, "", {}, family.preprocessing(name, architecture.form))


def task_of(config: Any, seed: int) -> Task:
    """Load the task that `config.task` describes, with the splits of `seed`."""
    return named_task(config.task, seed)


def named_task(options: Mapping[str, Any], seed: int, **more: Any) -> Task:
    """Load the task `options["name"]` with its other options; empty ones are not every task's."""
    given = {key: value for key, value in options.items() if key != "name" and value != ""}
    return load_task(options["name"], seed=seed, **given, **more)
