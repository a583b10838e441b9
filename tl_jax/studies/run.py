"""A study in its results folder: computed once, shown, kept.

`study.py` of a study has `compute(config, workdir)`, which returns the findings as plain data;
arrays and images that only the page shows stand under the key `material`, which the result does not
keep; it may have `data(config)`, which loads the task that the results folder then belongs to.
`page.py` has `write(workdir, result, **material)`, which writes the report, and
`summary(result)`, which returns a few lines for the terminal.
"""

import importlib
import pathlib
from typing import Any

from tl_jax.runs import folder, results, subject
from tl_jax.train import identity


def run(study: str, config: Any, workdir: pathlib.Path, *, name: str) -> tuple[dict, bool]:
    """Return the result of the study that `workdir` holds; if it holds none, do the study first.

    Also return whether the result was there before. `name` is what the result is called. The same
    call again resumes after an interruption.
    """

    def work() -> dict:
        findings = _part(study, "study").compute(config, workdir)
        material = findings.pop("material", {})
        own = {"name": name, "config": config.to_dict()}
        result = results.finite({**own, **findings, **results.provenance(study)})
        _part(study, "page").write(workdir, result, **material)
        return result

    load = getattr(_part(study, "study"), "data", None)
    data = None if load is None else lambda: identity.of_tasks(load(config), {})
    given = {"cache": config.cache, "data": data, "images": subject.folders_of(config)}
    return folder.finished(work, config.to_dict(), workdir, **given)


def summary(study: str, result: dict) -> str:
    """Return what the terminal says of a result."""
    return _part(study, "page").summary(result)


def _part(study: str, part: str) -> Any:
    return importlib.import_module(f"tl_jax.studies.{study}.{part}")
