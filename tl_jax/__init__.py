"""Representation transfer in JAX: reuse a pretrained network's layers and measure what it gives.

    base = tl_jax.load_base("efficientnet_lite0")
    task = tl_jax.load_task("folder:my_photos/", seed=0)
    run = tl_jax.transfer(base, task, plan="head_then_fine_tune", from_layer=0.7)
    run.test["accuracy"], run.report, run.base.predict(images)

This is the door; `dir(tl_jax)` shows what is behind it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tl_jax.ops.cpu import xla

if TYPE_CHECKING:
    from tl_jax import models
    from tl_jax.advice.answer import Answer, advise, study
    from tl_jax.base.base import Base
    from tl_jax.base.load import load_base
    from tl_jax.chain.network import Network
    from tl_jax.chain.places import Known, Layer
    from tl_jax.data.preprocessing import Preprocessing
    from tl_jax.data.task import Task
    from tl_jax.data.tasks import load_task, register_task
    from tl_jax.errors import UserError
    from tl_jax.measure.probes.table import ProbeTable, probe
    from tl_jax.models import register_base
    from tl_jax.plans.plan import Phase, Plan, Settings
    from tl_jax.plans.strategies import register_plan
    from tl_jax.runs.transfer import Run, transfer
    from tl_jax.train.objective import Loss, Objective, Term, Turn

# Where each name is. Not imported here: programs that only show their flags do without JAX.
_DOOR = {
    "Answer": "advice.answer",
    "Base": "base.base",
    "Known": "chain.places",
    "Layer": "chain.places",
    "Loss": "train.objective",
    "Network": "chain.network",
    "Objective": "train.objective",
    "Phase": "plans.plan",
    "Plan": "plans.plan",
    "Preprocessing": "data.preprocessing",
    "ProbeTable": "measure.probes.table",
    "Run": "runs.transfer",
    "Settings": "plans.plan",
    "Task": "data.task",
    "Term": "train.objective",
    "Turn": "train.objective",
    "UserError": "errors",
    "advise": "advice.answer",
    "load_base": "base.load",
    "load_task": "data.tasks",
    "models": "",
    "probe": "measure.probes.table",
    "register_base": "models",
    "register_plan": "plans.strategies",
    "register_task": "data.tasks",
    "study": "advice.answer",
    "transfer": "runs.transfer",
}
__all__ = list(_DOOR)

xla.set_flag()  # before JAX starts its first backend


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _DOOR[name]:
        return importlib.import_module(f"tl_jax.{name}")
    return getattr(importlib.import_module(f"tl_jax.{_DOOR[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_DOOR)
