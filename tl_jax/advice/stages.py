"""The stages of a study of one's own images: each a study, or a run, in a folder of its own.

All read the same images, so what reading them has to say is said by the first.
"""

import contextlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.advice import plans
from tl_jax.advice.plans import Subject
from tl_jax.errors import UserError
from tl_jax.runs import log, transfer
from tl_jax.studies import run as studies
from tl_jax.train.identity import changed_data

LOOK, LANDMARKS, LAYERS, RUNS, MODEL = "look", "landmarks", "layers", "runs", "model"


def look(subject: Subject, workdir: pathlib.Path, *, source: str = "") -> dict:
    """Look at the task's images, labels and copies, with the first base."""
    config = plans.look(subject, subject.effort.bases[0], source)
    return _study("audit", config, workdir, LOOK)


def landmarks(subject: Subject, workdir: pathlib.Path) -> dict:
    """Measure the plans that train no network, on every base; what failed before is tried again."""
    config = plans.grid(subject, subject.effort.bases, plans.CHEAP, seeds=plans.SEEDS)
    return _study("scenarios", config, workdir, LANDMARKS, retry=True)


def probes(subject: Subject, workdir: pathlib.Path, base: str) -> dict:
    """Probe every layer of a base."""
    return _study("layer_probes", plans.probes(subject, base), workdir, LAYERS)


def runs(
    subject: Subject,
    workdir: pathlib.Path,
    base: str,
    names: Sequence[str],
    *,
    seeds: int,
    train: int,
    cut: str,
) -> dict:
    """Run these plans on a base, each as often as there are seeds; what failed is tried again."""
    config = plans.grid(subject, [base], names, seeds=seeds, train=train, cut=cut)
    return _study("scenarios", config, workdir, RUNS, retry=True)


def model(
    subject: Subject,
    workdir: pathlib.Path,
    base: str,
    plan: str,
    chosen: Mapping[str, Any],
    *,
    train: int,
    cut: str,
) -> dict:
    """Train the network that is kept: the plan with these settings, on the first seed's splits."""
    config = plans.transfer(subject, base, plan, chosen, train=train, cut=cut)
    with log.quiet("tl_jax.data"):
        result, _ = transfer.by_config(config, workdir / MODEL, name=MODEL)
    _require_same_images(workdir, MODEL)
    return result


def _study(study: str, config: Any, workdir: pathlib.Path, stage: str, **how: Any) -> dict:
    with log.quiet("tl_jax.data") if stage != LOOK else contextlib.nullcontext():
        result, _ = studies.run(study, config, workdir / stage, name=stage, **how)
    _require_same_images(workdir, stage)
    return result


def _require_same_images(workdir: pathlib.Path, stage: str) -> None:
    """UserError if a stage saw other images, or labels, than the first one did."""
    first, own = (_data(workdir / name) for name in (LOOK, stage))
    if any(first[what] != own[what] for what in ("inputs", "truth")):
        changed = "; ".join(changed_data({"": first}, {"": own})[:3])
        raise UserError(
            f"the images have changed since {workdir / LOOK} was made ({changed}): what was "
            "measured before does not hold for them; take another folder (workdir=)"
        )


def _data(folder: pathlib.Path) -> dict:
    return next(iter(json.loads((folder / "data.json").read_text()).values()))
