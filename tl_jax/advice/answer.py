"""One's own images: what is advised, and what came of it. Each stage is kept as it is finished."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from tl_jax import models, report
from tl_jax.advice import knowledge, page, plans, stages
from tl_jax.advice.found import Found, Ran
from tl_jax.chain.places import IMAGE
from tl_jax.data.files import path_of
from tl_jax.errors import UserError, takes, takes_several
from tl_jax.runs import folder
from tl_jax.runs.subject import folder_of, task_name


class Answer(NamedTuple):
    """What a study of one's own images found."""

    found: Found
    said: str  # the answer in a few lines
    report: pathlib.Path  # the page to read
    model: pathlib.Path | None  # folder of the network that was kept, for `load_base`


def advise(
    task: str | os.PathLike,
    *,
    workdir: str | os.PathLike,
    quick: bool = False,
    settle: bool = False,
    source: str = "",
    tables: Sequence[str | os.PathLike] | None = None,
    bases: Sequence[str] | None = None,
    cache: str = ".cache",
    **options: Any,
) -> Answer:
    """Advise on a plan for a task, a folder of images or what else `load_task` takes by name.

    It measures the task, the plans that train no network, and every layer, and compares with
    `tables` of scenarios (None: those that come with tl_jax). With `settle` it runs the plans that
    would settle what cannot be told. `source`: a task whose distance from this one is told. `quick`
    takes one base and small images. `options` are the task's own (`per_class`, `duplicates`, ...).

    The same call goes on in `workdir` after an interruption. UserError for what is no task, and for
    images that have changed since.
    """
    subject = _subject(task, quick, bases, cache, options)
    return _answered(subject, path_of(workdir), tables, source=source, settle=settle)


def study(
    task: str | os.PathLike,
    *,
    workdir: str | os.PathLike,
    quick: bool = False,
    tables: Sequence[str | os.PathLike] | None = None,
    bases: Sequence[str] | None = None,
    cache: str = ".cache",
    **options: Any,
) -> Answer:
    """Study a task as `advise` does, run the most promising plans, and keep a network.

    `quick` takes one base, small images, and two plans instead of three.
    """
    subject = _subject(task, quick, bases, cache, options)
    return _answered(subject, path_of(workdir), tables, settle=True, keep=True)


def _subject(
    task: str | os.PathLike,
    quick: bool,
    bases: Sequence[str] | None,
    cache: str,
    options: dict[str, Any],
) -> plans.Subject:
    takes(isinstance(task, str | os.PathLike), "a study", "a folder, or a task's name", task)
    effort = plans.QUICK if quick else plans.FULL
    if bases is not None:
        takes_several([plans.in_grid(base) for base in bases], "bases=")
        if texts := [b for b in bases if models.is_name(b) and models.reads(b) != IMAGE]:
            raise UserError(
                f"{texts[0]} reads texts, and what is advised rests on tasks of images: compare "
                "plans on your texts by experiments.scenarios"
            )
        effort = effort._replace(bases=tuple(bases))
    return plans.Subject(plans.options_of(os.fspath(task), **options), effort, cache)


def _answered(
    subject: plans.Subject,
    workdir: pathlib.Path,
    tables: Sequence[str | os.PathLike] | None,
    *,
    source: str = "",
    settle: bool = False,
    keep: bool = False,
) -> Answer:
    report.require()
    paths = knowledge.tables() if tables is None else [path_of(path) for path in tables]
    grid = knowledge.learnt(paths)
    if images := folder_of(subject.task):
        folder.require_apart(images, {"workdir": workdir, "cache": subject.cache})
    look = stages.look(subject, workdir, source=source)
    landmarks = stages.landmarks(subject, workdir)
    _require_measured(landmarks["rows"])
    base = knowledge.best_base(landmarks["rows"], subject.effort.bases)
    known = knowledge.known(grid, landmarks["rows"], base, task_name(subject.task))
    layers = stages.probes(subject, workdir, base)
    found = Found(subject, look, landmarks, base, known, layers, knowledge.best_cut(layers))
    train, cut = sum(look["counts"]["train"]), found.cut.layer if found.cut.told else ""
    if settle:
        names = knowledge.candidates(known, subject.effort.runs)
        seeds = subject.effort.seeds if keep else plans.SEEDS
        runs = stages.runs(subject, workdir, base, names, seeds=seeds, train=train, cut=cut)
        found = found._replace(ran=Ran.of(runs, landmarks, base))
    if keep and found.ran:
        plan, chosen = found.ran.kept()
        model = stages.model(subject, workdir, base, plan, chosen, train=train, cut=cut)
        found = found._replace(model=model)
    path = page.write(workdir, found)
    return Answer(found, page.said(found), path, workdir / stages.MODEL if keep else None)


def _require_measured(rows: Sequence[dict]) -> None:
    """UserError, with the first error, if a plan that trains no network failed."""
    for row in rows:
        if row.get("error"):
            raise UserError(
                f"{row['plan']} from {row['base']} failed: {row['error']}; if there are too many "
                "labels, ask for fewer of each class: per_class="
            )
