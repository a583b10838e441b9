"""Objectives, a file each, and those that a config can name: `OBJECTIVES`, and `TERMS` to add."""

import dataclasses
from typing import Any

from tl_jax import registry
from tl_jax.errors import UserError
from tl_jax.train.objective import Objective
from tl_jax.train.objectives.averaged import Averaged
from tl_jax.train.objectives.byol import BYOL
from tl_jax.train.objectives.co_tuning import CoTuning
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.objectives.delta import Delta
from tl_jax.train.objectives.discrepancy import Discrepancy
from tl_jax.train.objectives.distil import Distillation
from tl_jax.train.objectives.domain_adversarial import DomainAdversarial
from tl_jax.train.objectives.l2_sp import L2SP
from tl_jax.train.objectives.language_model import LanguageModel
from tl_jax.train.objectives.lwf import LearningWithoutForgetting
from tl_jax.train.objectives.spectral import SpectralShrinkage
from tl_jax.train.objectives.tasks import PCGrad, Tasks

OBJECTIVES = {
    "averaged": Averaged,
    "byol": BYOL,
    "co_tuning": CoTuning,
    "cross_entropy": CrossEntropy,
    "delta": Delta,
    "discrepancy": Discrepancy,
    "distil": Distillation,
    "domain_adversarial": DomainAdversarial,
    "language_model": LanguageModel,
    "pcgrad": PCGrad,
    "tasks": Tasks,
}

# What can be added to an objective that is a cross entropy: (net, batch) -> {name: Term}
TERMS = {"bss": SpectralShrinkage, "l2_sp": L2SP, "lwf": LearningWithoutForgetting}


def make(spec: str | Objective) -> Objective:
    """The objective that a setting says: "cross_entropy(smoothing=0.1)+l2_sp+bss(0.001)", or a
    value. UserError for a name or option that there is not, and for terms added to an objective
    that takes none.
    """
    if isinstance(spec, Objective):
        return spec
    first, *others = registry.summands("objective", spec)
    if first.split("(")[0] in TERMS:
        raise UserError(f"{first!r} is a term, which an objective takes: cross_entropy+{first}")
    function, options = registry.chosen("objective", first, OBJECTIVES)
    objective: Any = function(**options)
    if not others:
        return objective
    if not hasattr(objective, "also"):
        raise UserError(f"objective {first!r} takes no further terms; got {' and '.join(others)}")
    chosen = [registry.chosen("term", other, TERMS) for other in others]
    terms = tuple(function(**options) for function, options in chosen)
    return dataclasses.replace(objective, also=(*objective.also, *terms))
