"""The seven steps: a pretrained base, cut, with a new head, trained on a task, judged and kept."""

import contextlib
import dataclasses
import functools
import json
import logging
import pathlib
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tl_jax.base import attribution, file
from tl_jax.base.base import Base
from tl_jax.base.load import load_base
from tl_jax.chain.variables import fingerprint, select
from tl_jax.data.files import path_of
from tl_jax.data.task import Task
from tl_jax.engine import processes
from tl_jax.engine.prefix import Inputs
from tl_jax.errors import UserError, takes
from tl_jax.plans.plan import Phase
from tl_jax.report import card, detection, page, text
from tl_jax.runs import folder, log, pose, results, settings, stages, subject
from tl_jax.runs.settings import TransferSettings
from tl_jax.train import evaluate, identity, loop
from tl_jax.train.inputs import for_plan
from tl_jax.train.objectives.detection import originals
from tl_jax.train.problem import Problem
from tl_jax.train.state import Progress

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished transfer: what came of it, and the base that it gives.

    >>> import tl_jax
    >>> base = tl_jax.load_base("efficientnet_lite0", "random:0").resized(32).cut("stage1_block1")
    >>> task = tl_jax.load_task("digits", per_class=4)
    >>> run = tl_jax.transfer(base, task, plan="full", tune={"epochs": 2}, cache=None)
    >>> [row["epoch"] for row in run.history], 0 <= run.test["accuracy"] <= 1
    ([1, 2], True)
    >>> run.base.classes == task.classes
    True
    """

    result: dict[str, Any] = dataclasses.field(repr=False)
    base: Base
    workdir: pathlib.Path

    @property
    def test(self) -> dict[str, Any]:
        """Metrics on the test split, which was looked at once, at the end."""
        return self.result["test"]

    @property
    def val(self) -> dict[str, Any]:
        """Metrics on the validation split."""
        return self.result["val"]

    @property
    def history(self) -> list[dict[str, Any]]:
        """A row an epoch."""
        lines = (self.workdir / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def report(self) -> pathlib.Path:
        """The page to read; UserError where it could not be drawn."""
        path = self.workdir / "report.html"
        if not path.exists():
            raise UserError("no report was drawn: pip install 'tl_jax[report]', then run again")
        return path


def transfer(
    base: Base,
    task: Task,
    *,
    workdir: str | pathlib.Path | None = None,
    sources: Mapping[str, Task] | None = None,
    **given: Any,
) -> Run:
    """Transfer a base to a task; return the run, whose `base` can be transferred again.

    Every setting of a config is a keyword (`tl_jax.runs.settings`): `plan`, its options
    (`from_layer`, `factor`, and `train_head` and `tune`, the phases' `Settings` or a mapping of
    those that differ), `head`, `dropout`, `seed`, `batch_size`, ... `sources`: tasks to train on by
    name, where the objective takes several; `task` is then what the run is judged by.

    The results folder `workdir` (None: a temporary one) belongs to these settings, this base and
    this task; the same call again goes on with what was interrupted, or gives the finished run.
    UserError for what does not fit; Interrupted after a signal, with everything saved, but in a
    temporary folder, which goes.

    >>> import tl_jax
    >>> base = tl_jax.load_base("efficientnet_lite0", "random:0").resized(32).cut("stage1_block1")
    >>> task = tl_jax.load_task("digits", per_class=4)
    >>> run = transfer(base, task, plan="head_only", train_head={"epochs": 2}, cache=None)
    >>> run.base.predict([task.open(0), task.open(1)]).shape
    (2, 10)
    """
    sources = {} if sources is None else sources
    takes(isinstance(base, Base), "transfer", "a base, as load_base gives one", base)
    takes(isinstance(sources, Mapping), "sources=", "tasks by name", sources)
    for one in (task, *sources.values()):
        takes(isinstance(one, Task), "transfer", "a task, as load_task gives one", one)
    takes(workdir != "", "workdir=", "a folder, or None for a temporary one", workdir)
    if workdir is None and processes.several():
        raise UserError("several processes need a folder that they share: workdir=")
    own, options = settings.divided(given)
    path = path_of(tempfile.mkdtemp(prefix="tl_jax_") if workdir is None else workdir)
    config = described(base, task, sources, own, options)
    with contextlib.ExitStack() as unfinished:
        if workdir is None:
            unfinished.callback(shutil.rmtree, path, ignore_errors=True)
        result, _ = folder.finished(
            lambda: work(base, task, path, config, own, options, sources=sources),
            config,
            path,
            cache=own.cache,
            data=lambda: identity.of_tasks({"": task, **sources}),
            images=[one.folder for one in (task, *sources.values()) if one.folder],
            needs_report=False,
        )
        run = Run(result, load_base(path), path)
        # Kept as long as the run is held, or until the program ends
        weakref.finalize(run, unfinished.pop_all().close)
    return run


def by_config(config: Any, workdir: pathlib.Path, *, name: str) -> tuple[dict[str, Any], bool]:
    """The result of a transfer as a config says, and whether it had been done before.

    `config`: a ConfigDict as of `configs.defaults`. The base is loaded if it is needed. UserError
    if the task is no longer the one that the folder belongs to.
    """
    loaded = functools.cache(lambda: subject.task_of(config, config.seed))
    own = {k: v for k, v in config.to_dict().items() if k in settings.defaults()}
    given = settings.divided(own)

    def do() -> dict[str, Any]:
        plain = config.to_dict()
        base = stages.ready(plain, workdir / "language", task=plain["task"], seed=config.seed)
        return work(base, loaded(), workdir, plain, *given, name=name)

    return folder.finished(
        do,
        config.to_dict(),
        workdir,
        cache=config.cache,
        check=lambda: pose.check(subject.outline_of(config), *given),
        data=lambda: identity.of_tasks({"": loaded()}),
        images=subject.folders_of(config),
    )


# Functions may have one, which types do not say.
# pyrefly: ignore[missing-attribute]
transfer.__signature__ = settings.signature()


def described(
    base: Base, task: Task, sources: Mapping[str, Task], own: TransferSettings, options: Any
) -> dict[str, Any]:
    """The base, the tasks' names and every setting, as JSON-able data: what a results folder
    belongs to, besides the data.
    """
    of_base = fingerprint(base.variables)[:16]
    told: dict[str, Any] = {"base": base.name, "weights": base.weights, "of_base": of_base}
    told |= {"architecture": identity.plain(base.architecture)}
    told |= {"preprocessing": base.preprocessing.fingerprint(), "task": task.name}
    if sources:
        told["sources"] = {name: one.name for name, one in sources.items()}
    every = {field.name: getattr(own, field.name) for field in dataclasses.fields(own)} | options
    return told | {name: identity.plain(value) for name, value in every.items()}


def work(
    base: Base,
    task: Task,
    workdir: pathlib.Path,
    config: dict[str, Any],
    own: TransferSettings,
    options: Mapping[str, Any],
    *,
    sources: Mapping[str, Task] = {},
    name: str = "",
) -> dict[str, Any]:
    """Do all seven steps in `workdir`; return what came of them."""
    started = time.monotonic()
    # Steps 1 to 4: a pretrained base, cut at a feature layer, with a new head.
    problem, ready, variables = pose.posed(base, task, own, options, sources)
    for one in {id(one): one for one in (problem.task, *problem.sources.values())}.values():
        logger.info("%s", log.described(one))
    # Steps 5 to 7: freeze, train the head, unfreeze, fine-tune; the test split is looked at once.
    kept = {"cache": own.cache, "dtype": own.cache_dtype, "workdir": workdir}
    inputs_for = for_plan(problem, test_views=own.test_views, **kept)
    done = trained(
        problem,
        variables,
        inputs_for,
        test_views=own.test_views,
        workdir=workdir,
        checkpoint_seconds=own.checkpoint_seconds,
        write=log.writer(workdir),
    )
    # What came of it.
    final = finished_base(problem, ready, done.variables, views=own.test_views)
    final = dataclasses.replace(final, answers=done.answers)
    of_task = problem.objective.probabilities
    probabilities = {split: of_task(found) for split, found in done.predictions.items()}
    result = results.collect(
        name=name or workdir.name,
        config=config,
        problem=problem,
        base=dataclasses.replace(final, weights=ready.weights),
        variables=done.variables,
        progress=done.progress,
        scores=done.scores,
        predictions=probabilities,
        total_seconds=time.monotonic() - started,
    )
    for setback in text.setbacks(result["plan"]["phases"]):
        logger.warning("%s", setback)
    if processes.first():
        final.save(workdir / file.NAME)
        _show(workdir, result, final, task, done, probabilities["test"])
    return result


def _show(
    workdir: pathlib.Path,
    result: dict[str, Any],
    final: Base,
    task: Task,
    done: "Trained",
    probabilities: Any,
) -> None:
    """Write the card and the page of a run."""
    if task.classes and result["test"]:
        card.write(workdir, result)
    if task.asks == "boxes":
        _write_detections(workdir, task, final.preprocessing.size, done.predictions["test"], result)
    elif page.can_be_drawn():
        shown = {"history": done.progress.history, "probabilities": probabilities}
        words = functools.partial(attribution.word_weights, final) if task.texts else None
        page.write(workdir, result=result, task=task, words=words, **shown)


def _write_detections(
    workdir: pathlib.Path, task: Task, side: int, predictions: Any, result: dict[str, Any]
) -> None:
    """Draw the page of a detector, where what draws it is installed."""
    if page.can_be_drawn():
        rows = task.splits["test"]
        found = originals(predictions, task.truth["sizes"][rows], side)
        detection.write(workdir, detections=found, task=task, examples=rows, result=result)


def finished_base(problem: Problem, ready: Base, variables: Any, *, views: str) -> Base:
    """The base that training gives: the layers of `ready`, without tails, adapters merged in."""
    whole = variables | {"params": problem.chain.combine(variables["params"])}
    found = {"variables": select(whole, ready.layers), "classes": problem.task.classes}
    return dataclasses.replace(ready, **found, views=views)


class Trained(NamedTuple):
    """What training gives."""

    variables: Any
    progress: Progress
    predictions: dict[str, Any]  # by split, (n, ...) each
    scores: dict[str, dict[str, Any]]  # every metric, by split
    answers: str  # what the head's outputs say, with what val has settled


def trained(
    problem: Problem,
    variables: Any,
    inputs_for: Callable[[Phase, Any], Inputs],
    *,
    test_views: str = "none",
    **saving: Any,
) -> Trained:
    """Train the problem's plan from `variables`, then judge it on val and test, which is looked at
    once. `saving`: see `loop.run`.
    """
    variables, progress, inputs = loop.run(problem, variables, inputs_for, **saving)
    task, found = problem.task, {}
    for split in ("val", "test"):
        rows = task.splits[split]
        found[split] = evaluate.predictions(problem, variables, inputs, rows, test_views)
    objective = problem.objective.settled(found["val"], task, task.splits["val"])
    scores = {s: objective.finish(said, task, task.splits[s]) for s, said in found.items()}
    return Trained(variables, progress, found, scores, objective.answers)


class Judged(NamedTuple):
    """What a split says of trained weights."""

    predictions: Any  # (n, ...)
    scores: dict[str, Any]  # every metric


def judged(
    problem: Problem, variables: Any, inputs: Inputs, split: str, *, test_views: str = "none"
) -> Judged:
    """Judge the weights that training has given, on the inputs of its last phase."""
    rows = problem.task.splits[split]
    found = evaluate.predictions(problem, variables, inputs, rows, test_views)
    return Judged(found, evaluate.finished(problem, rows, found))
