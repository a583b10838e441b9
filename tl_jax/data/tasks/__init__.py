"""Datasets made ready for transfer: `load_task` by name; a dataset is one entry of `TASKS`."""

import importlib
import inspect

from tl_jax.data.task import Task
from tl_jax.errors import UserError, unknown

# Name to module and function, imported when asked for. What follows a colon in the name that a user
# gives ('tfds:mnist', 'folder:flowers') is the function's first argument.
TASKS = {
    "digits": ("tl_jax.data.tasks.arrays", "digits"),
    "elpv": ("tl_jax.data.tasks.elpv", "elpv"),
    "fashion_mnist": ("tl_jax.data.tasks.fashion", "fashion_mnist"),
    "folder": ("tl_jax.data.tasks.folder", "folder"),
    "tfds": ("tl_jax.data.tasks.tfds", "from_tfds"),
}


def load_task(name: str, *, seed: int, **options) -> Task:
    """The task called 'digits', 'elpv', 'fashion_mnist', 'folder:<path>' or 'tfds:<name>'.

    `seed` fixes the splits and the budget; `options` are those of the task's function. UserError
    for an unknown name or option, and for what is wrong with the data.
    """
    kind, _, which = name.partition(":")
    if kind not in TASKS:
        raise unknown("task", name, TASKS)
    module, function = TASKS[kind]
    load = getattr(importlib.import_module(module), function)
    parameters = inspect.signature(load).parameters
    first = next(iter(parameters.values()))
    named = {first.name: which} if which else {}
    if which and first.kind is first.KEYWORD_ONLY:
        raise UserError(f"the task {kind!r} takes nothing after a colon; got {name!r}")
    for option in options:
        if option not in parameters:
            raise unknown(f"option of task {kind!r}", option, parameters)
    given = {"seed": seed, **options, **named}
    for parameter in parameters.values():
        if parameter.default is parameter.empty and (needed := parameter.name) not in given:
            or_so = f" or --config.task.{needed}=..." if needed != "name" else ""
            raise UserError(f"the task {kind!r} needs a {needed}: '{kind}:<{needed}>'{or_so}")
    return load(**given)
