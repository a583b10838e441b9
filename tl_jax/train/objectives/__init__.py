"""Objectives, a file each, and those that a config can name: `OBJECTIVES`, and `TERMS` to add."""

import dataclasses
from typing import Any

from tl_jax import registry
from tl_jax.errors import UserError
from tl_jax.train.objective import Objective
from tl_jax.train.objectives.averaged import Averaged
from tl_jax.train.objectives.barlow_twins import BarlowTwins
from tl_jax.train.objectives.byol import BYOL
from tl_jax.train.objectives.co_tuning import CoTuning
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.objectives.delta import Delta
from tl_jax.train.objectives.dino import DINO
from tl_jax.train.objectives.discrepancy import Discrepancy
from tl_jax.train.objectives.domain_adversarial import DomainAdversarial
from tl_jax.train.objectives.exemplar import Exemplar
from tl_jax.train.objectives.jigsaw import Jigsaw
from tl_jax.train.objectives.l2_sp import L2SP
from tl_jax.train.objectives.language_model import LanguageModel
from tl_jax.train.objectives.lwf import LearningWithoutForgetting
from tl_jax.train.objectives.masked import Masked
from tl_jax.train.objectives.moco import MoCo
from tl_jax.train.objectives.rotation import Rotation
from tl_jax.train.objectives.simclr import SimCLR
from tl_jax.train.objectives.simsiam import SimSiam
from tl_jax.train.objectives.slowness import Slowness
from tl_jax.train.objectives.spectral import SpectralShrinkage
from tl_jax.train.objectives.tasks import PCGrad, Tasks
from tl_jax.train.objectives.vicreg import VICReg

OBJECTIVES = {
    "averaged": Averaged,
    "barlow_twins": BarlowTwins,
    "byol": BYOL,
    "co_tuning": CoTuning,
    "cross_entropy": CrossEntropy,
    "delta": Delta,
    "dino": DINO,
    "discrepancy": Discrepancy,
    "domain_adversarial": DomainAdversarial,
    "exemplar": Exemplar,
    "jigsaw": Jigsaw,
    "language_model": LanguageModel,
    "masked": Masked,
    "moco": MoCo,
    "pcgrad": PCGrad,
    "rotation": Rotation,
    "simclr": SimCLR,
    "simsiam": SimSiam,
    "slowness": Slowness,
    "tasks": Tasks,
    "vicreg": VICReg,
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
