"""Datasets made ready for transfer: `load_task`; a dataset is one entry of `TASKS`."""

import importlib
import inspect
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from tl_jax import registry
from tl_jax.data.boxes.classes import of_classes
from tl_jax.data.files import path_of
from tl_jax.data.folds import in_fold
from tl_jax.data.subset import ClassSubset, group
from tl_jax.data.task import Task
from tl_jax.data.tiles import tiled
from tl_jax.data.truths import with_truths
from tl_jax.errors import UserError, takes, unknown

# Name to function, or to the module and function that are imported when asked for. What follows a
# colon in the name that a user gives ('tfds:mnist', 'folder:flowers') is the function's first
# argument.
TASKS: dict[str, Any] = {
    "captions": ("tl_jax.data.tasks.captions", "captions"),
    "coco": ("tl_jax.data.tasks.boxes", "coco"),
    "composed": ("tl_jax.data.tasks.composed", "composed"),
    "corpus": ("tl_jax.data.tasks.corpora", "corpus"),
    "digits": ("tl_jax.data.tasks.arrays", "digits"),
    "elpv": ("tl_jax.data.tasks.elpv", "elpv"),
    "fashion_mnist": ("tl_jax.data.tasks.fashion", "fashion_mnist"),
    "folder": ("tl_jax.data.tasks.folder", "folder"),
    "images": ("tl_jax.data.tasks.images", "images"),
    "joined": ("tl_jax.data.tasks.joined", "joined"),
    "packaged": ("tl_jax.data.tasks.packaged", "packaged"),
    "table": ("tl_jax.data.tasks.table", "table"),
    "text": ("tl_jax.data.tasks.text", "text"),
    "told_digits": ("tl_jax.data.tasks.told_digits", "told_digits"),
    "text_folder": ("tl_jax.data.tasks.text", "text_folder"),
    "plain": ("tl_jax.data.tasks.plain", "plain"),
    "python_help": ("tl_jax.data.tasks.plain", "python_help"),
    "rendered": ("tl_jax.data.tasks.rendered", "rendered"),
    "tfds": ("tl_jax.data.tasks.tfds", "from_tfds"),
    "voc": ("tl_jax.data.tasks.boxes", "voc"),
}

WHAT = "a name, the path of a folder, a pair (images, labels) or a function"


def register_task(function: Callable[..., Task]) -> Callable[..., Task]:
    """Add a function `(..., *, seed, ...) -> Task` to the tasks, under its own name."""
    return registry.register(TASKS, "task")(function)


def load_task(
    what: Any,
    *,
    seed: int = 0,
    only: Sequence[str] = (),
    truths: Sequence[str] = (),
    folds: int = 0,
    fold: int = 0,
    tile: int = 0,
    **options: Any,
) -> Task:
    """The task that `what` says, with the splits of `seed`:

    * a name: 'digits', 'elpv', 'fashion_mnist', 'rendered', 'folder:<path>', 'table:<path>' of
      images, 'images:<path>' without labels, 'tfds:<name>', 'joined:<one>+<two>', or a registered
      one (`register_task`); of texts, 'text:<table>', 'text_folder:<path>', 'packaged:<name>'
      (which has mnist, too); of boxes, 'coco:<file>', 'voc:<folder>', 'packaged:tree_crowns',
      'composed:digits', 'composed:stamps'; of captions, 'captions:<table>', 'told_digits',
      'packaged:stamps_captions';
    * the path of a folder with one sub-folder of images a class;
    * arrays: a pair of images (N, H, W) or (N, H, W, bands), uint8, and labels (N,);
    * a function `(*, seed, ...) -> Task` of your own.

    `only`: the classes that are kept, in this order; empty: all. `truths`: further classifications
    of the same examples (`tl_jax.data.truths`), for several tasks at once. `folds` and `fold`: the
    splits of one fold of a cross-validation over all examples. `tile`: the side in pixels of tiles
    into which every image is cut (`tl_jax.data.tiles`); 0: images stay whole. `options` are those
    of the task's function, such as `val`, `test` and `per_class`. UserError for an unknown name,
    class, truth or option, and for what is wrong with the data.

    >>> task = load_task("digits", seed=0, val=0.2, test=0.2)
    >>> {split: len(rows) for split, rows in task.splits.items()}
    {'train': 1078, 'val': 360, 'test': 359}
    >>> task.open(0).size, task.classes[task.labels[0]]
    ((8, 8), '0')
    """
    takes(isinstance(only, list | tuple), "only=", "a list of classes", only)
    named = isinstance(truths, list | tuple) and all(isinstance(one, str) for one in truths)
    takes(named, "truths=", "a list of names", truths)
    if tile and isinstance(what, str | pathlib.PurePath) and "large" in _options(os.fspath(what)):
        options["large"] = True
    task = _whole(what, seed, options)
    if tile:
        task = tiled(task, tile)
    if only and task.asks == "boxes":
        task = of_classes(task, only)
    elif only:
        task = ClassSubset(task, group(task.classes, only)).alone()
    if truths:
        task = with_truths(task, truths, seed=seed)
    if folds:
        if options.get("per_class"):
            raise UserError("folds= divide all examples, and per_class= leaves some out: take one")
        share = {"val": options["val"]} if "val" in options else {}
        task = in_fold(task, folds, fold, seed=seed, **share)
    return task


def _whole(what: Any, seed: int, options: dict[str, Any]) -> Task:
    """The task, of which nothing is left out yet."""
    if isinstance(what, tuple) and len(what) == 2:
        from tl_jax.data.tasks.arrays import from_arrays

        images, labels = what
        options = {"name": "arrays", "seed": seed, **options}
        return _called("arrays", from_arrays, options, images=images, labels=labels)
    if callable(what):
        return _called(getattr(what, "__name__", "function"), what, {"seed": seed, **options})
    takes(isinstance(what, str | pathlib.PurePath), "load_task", WHAT, what)
    name = os.fspath(what)
    kind, which, load = _named(name)
    first = next(iter(inspect.signature(load).parameters.values()))
    if which and first.kind is first.KEYWORD_ONLY:
        raise UserError(f"the task {kind!r} takes nothing after a colon; got {name!r}")
    if which and str(other := options.get(first.name, which)) != which:
        what = f"the task {kind!r} is given two values of {first.name}"
        raise UserError(f"{what}, {which!r} and {str(other)!r}: leave one out")
    return _called(kind, load, {"seed": seed, **options}, **({first.name: which} if which else {}))


def options(name: str) -> list[str]:
    """The options that the task of this name takes; UserError for an unknown one."""
    return [option for option in _options(name) if option != "large"]


def _options(name: str) -> list[str]:
    return list(inspect.signature(_named(name)[2]).parameters)


def _named(name: str) -> tuple[str, str, Callable[..., Task]]:
    """Kind, what the name says more, and the function of a task."""
    kind, _, which = name.partition(":")
    if kind not in TASKS and path_of(name).is_dir():
        kind, which = "folder", name
    if kind not in TASKS and path_of(name).is_file():
        raise UserError(
            f"the task {name!r} is a file: a table of images is 'table:{name}', a table of texts "
            f"is 'text:{name}', texts without labels are 'plain:{name}'"
        )
    if kind not in TASKS and os.sep in name:
        raise UserError(f"{name!r} does not exist; give a folder that has one sub-folder a class")
    if kind not in TASKS:
        raise unknown("task", name, TASKS)
    return kind, which, _loaded(kind)


def _loaded(kind: str) -> Callable[..., Task]:
    found = TASKS[kind]
    if callable(found):
        return found
    module, function = found
    return getattr(importlib.import_module(module), function)


def _called(kind: str, load: Callable[..., Task], options: dict[str, Any], **named: Any) -> Task:
    """`load` with these; UserError for an option that it has not, and for one that it needs."""
    parameters = inspect.signature(load).parameters
    if "seed" not in parameters:
        raise UserError(f"the task {kind!r} is a function without a seed: give it (*, seed, ...)")
    for option in options:
        if option not in parameters:
            raise unknown(f"option of task {kind!r}", option, parameters)
    given = {**options, **named}
    for parameter in parameters.values():
        if parameter.default is parameter.empty and (needed := parameter.name) not in given:
            or_so = f" or {needed}=..." if needed != "name" else ""
            raise UserError(f"the task {kind!r} needs a {needed}: '{kind}:<{needed}>'{or_so}")
    task = load(**given)
    takes(isinstance(task, Task), f"the task {kind!r}", "a function that gives a Task", task)
    return task
