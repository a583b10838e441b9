"""A study in its results folder: computed once, shown and stored.

`study.py` of a study has `compute(config, workdir)`, which returns the findings as plain data, and
under the key `material` arrays and images that only the page needs; the result leaves these out.
`check(config)` raises UserError for mistakes in the config, before data or weights are read;
`data(config)` loads the tasks that the results folder belongs to, by name.
`page.py` has `write(workdir, result, **material)`, which writes the report, and
`summary(result)`, which returns a few lines for the terminal.
"""

import importlib
import logging
import pathlib
from typing import Any

from tl_jax.runs import folder, log, results, subject
from tl_jax.train import identity

logger = logging.getLogger(__name__)


def run(
    study: str, config: Any, workdir: pathlib.Path, *, name: str, **how: Any
) -> tuple[dict, bool]:
    """Return the study's result from `workdir`; if it has none, run the study first.

    Also return whether the result was there before. `name` is the result's name. `how` are options
    of the study's `compute` that do not change what it finds; with `retry` a result with failures
    is computed again. After an interruption the same call resumes the study.
    """
    part, lines = _part(study, "study"), []

    def data() -> dict:
        tasks = part.data(config)
        lines[:] = [f"{key}: {log.described(t)}" if key else log.described(t)
                    for key, t in tasks.items()]  # fmt: skip
        return identity.of_tasks(tasks)

    def work() -> dict:
        for line in lines:
            logger.info("%s", line)
        return _shown(study, config, workdir, name, part.compute(config, workdir, **how))

    return folder.finished(
        work,
        config.to_dict(),
        workdir,
        cache=config.cache,
        check=lambda: part.check(config),
        data=data,
        images=subject.folders_of(config),
        stands=lambda result: not (how.get("retry") and results.failures(result)),
    )


def shown(study: str, config: Any, workdir: pathlib.Path, *, name: str, table: Any) -> dict:
    """Return the result that a table of the study holds, with its page in `workdir`."""
    with folder.claimed(workdir, config.to_dict()):
        return _shown(study, config, workdir, name, _part(study, "study").of_table(config, table))


def _shown(study: str, config: Any, workdir: pathlib.Path, name: str, findings: dict) -> dict:
    material = findings.pop("material", {})
    named = {"name": name, "config": config.to_dict()}
    result = results.finite({**named, **findings, **results.provenance(study)})
    _part(study, "page").write(workdir, result, **material)
    return result


def summary(study: str, result: dict) -> str:
    """Return the lines that the terminal shows for a result."""
    return _part(study, "page").summary(result)


def _part(study: str, part: str) -> Any:
    return importlib.import_module(f"tl_jax.studies.{study}.{part}")
