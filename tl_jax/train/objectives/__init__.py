"""Objectives, a file each, and those that a config can name: `OBJECTIVES`, and `TERMS` to add."""

import dataclasses
from typing import Any

from tl_jax import registry
from tl_jax.errors import UserError, takes, takes_whole
from tl_jax.train.objective import Objective
from tl_jax.train.objectives.adabn import AdaBN
from tl_jax.train.objectives.adda import ADDA
from tl_jax.train.objectives.affinity import Affinity
from tl_jax.train.objectives.averaged import Averaged
from tl_jax.train.objectives.barlow_twins import BarlowTwins
from tl_jax.train.objectives.byol import BYOL
from tl_jax.train.objectives.captions import Captions
from tl_jax.train.objectives.class_confusion import ClassConfusion
from tl_jax.train.objectives.co_tuning import CoTuning
from tl_jax.train.objectives.conditional_adversarial import ConditionalAdversarial
from tl_jax.train.objectives.contrastive import Contrastive
from tl_jax.train.objectives.coral import Coral
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.objectives.delta import Delta
from tl_jax.train.objectives.dino import DINO
from tl_jax.train.objectives.discrepancy import Discrepancy
from tl_jax.train.objectives.distil import Distillation
from tl_jax.train.objectives.domain_adversarial import DomainAdversarial
from tl_jax.train.objectives.exemplar import Exemplar
from tl_jax.train.objectives.fast_rcnn import FastRCNN
from tl_jax.train.objectives.fcos import FCOS
from tl_jax.train.objectives.feature_norm import FeatureNorm
from tl_jax.train.objectives.fix_match import FixMatch
from tl_jax.train.objectives.flex_match import FlexMatch
from tl_jax.train.objectives.gradnorm import GradNorm
from tl_jax.train.objectives.jigsaw import Jigsaw
from tl_jax.train.objectives.l2_sp import L2SP
from tl_jax.train.objectives.language_model import LanguageModel
from tl_jax.train.objectives.lwf import LearningWithoutForgetting
from tl_jax.train.objectives.margin_disparity import MarginDisparity
from tl_jax.train.objectives.masked import Masked
from tl_jax.train.objectives.mean_teacher import MeanTeacher
from tl_jax.train.objectives.mmd import JointDiscrepancy, MaximumMeanDiscrepancy
from tl_jax.train.objectives.moco import MoCo
from tl_jax.train.objectives.nuclear_norm import NuclearNorm
from tl_jax.train.objectives.ordinal import Ordinal
from tl_jax.train.objectives.pcgrad import PCGrad
from tl_jax.train.objectives.pi_model import PiModel
from tl_jax.train.objectives.prototypes import Prototypes
from tl_jax.train.objectives.pseudo_label import PseudoLabel
from tl_jax.train.objectives.regression import Regression
from tl_jax.train.objectives.rotation import Rotation
from tl_jax.train.objectives.self_training import SelfTraining
from tl_jax.train.objectives.several_labels import SeveralLabels
from tl_jax.train.objectives.shot import SHOT
from tl_jax.train.objectives.simclr import SimCLR
from tl_jax.train.objectives.simsiam import SimSiam
from tl_jax.train.objectives.slowness import Slowness
from tl_jax.train.objectives.source_only import SourceOnly
from tl_jax.train.objectives.spectral import SpectralShrinkage
from tl_jax.train.objectives.tasks import Tasks
from tl_jax.train.objectives.tent import Tent
from tl_jax.train.objectives.uncertainty import Uncertainty
from tl_jax.train.objectives.vicreg import VICReg

OBJECTIVES = {
    "adabn": AdaBN,
    "adda": ADDA,
    "affinity": Affinity,
    "averaged": Averaged,
    "barlow_twins": BarlowTwins,
    "byol": BYOL,
    "captions": Captions,
    "class_confusion": ClassConfusion,
    "co_tuning": CoTuning,
    "conditional_adversarial": ConditionalAdversarial,
    "contrastive": Contrastive,
    "coral": Coral,
    "cross_entropy": CrossEntropy,
    "delta": Delta,
    "dino": DINO,
    "discrepancy": Discrepancy,
    "distil": Distillation,
    "domain_adversarial": DomainAdversarial,
    "exemplar": Exemplar,
    "fast_rcnn": FastRCNN,
    "fcos": FCOS,
    "feature_norm": FeatureNorm,
    "fix_match": FixMatch,
    "flex_match": FlexMatch,
    "gradnorm": GradNorm,
    "jan": JointDiscrepancy,
    "jigsaw": Jigsaw,
    "language_model": LanguageModel,
    "margin_disparity": MarginDisparity,
    "masked": Masked,
    "mean_teacher": MeanTeacher,
    "mmd": MaximumMeanDiscrepancy,
    "moco": MoCo,
    "nuclear_norm": NuclearNorm,
    "ordinal": Ordinal,
    "pcgrad": PCGrad,
    "pi_model": PiModel,
    "prototypes": Prototypes,
    "pseudo_label": PseudoLabel,
    "regression": Regression,
    "rotation": Rotation,
    "self_training": SelfTraining,
    "several_labels": SeveralLabels,
    "shot": SHOT,
    "simclr": SimCLR,
    "simsiam": SimSiam,
    "slowness": Slowness,
    "source_only": SourceOnly,
    "tasks": Tasks,
    "tent": Tent,
    "uncertainty": Uncertainty,
    "vicreg": VICReg,
}

# What can be added to an objective that is a cross entropy: (net, batch) -> {name: Term}
TERMS = {"bss": SpectralShrinkage, "l2_sp": L2SP, "lwf": LearningWithoutForgetting}


# Options that are a number of features, and how many at most; others that are above 0, or from 0
# on. In every objective and term that has one of this name, it is one of these.
WIDTHS, WIDEST = ("hidden", "narrow", "prototypes", "random", "width"), 100_000
POSITIVE = ("limit", "temperature")
FROM_0 = (
    *("alpha", "ar", "beta", "covariance", "eta", "invariance", "motion", "others", "rate"),
    *("scale", "step", "tar", "variance", "weight"),
)


def make(spec: str | Objective) -> Objective:
    """The objective that a setting says: "cross_entropy(smoothing=0.1)+l2_sp+bss(0.001)", or a
    value. UserError for a name or option that there is not, for a number that it cannot be, and
    for terms added to an objective that takes none.
    """
    objective = spec if isinstance(spec, Objective) else _named(spec)
    for part in (objective, *getattr(objective, "also", ())):
        _require(part)
    return objective


def _require(part: Any) -> None:
    """UserError for an option of an objective or a term that is out of its range."""
    options = getattr(part, "__dict__", {})
    numbers = {k: v for k, v in options.items() if isinstance(v, int | float)}
    for name in filter(numbers.__contains__, WIDTHS):
        takes_whole(numbers[name], f"{name}=", 1, WIDEST)
    for name in filter(numbers.__contains__, POSITIVE):
        takes(numbers[name] > 0, f"{name}=", "a number above 0", numbers[name])
    for name in filter(numbers.__contains__, FROM_0):
        takes(numbers[name] >= 0, f"{name}=", "a number from 0 on", numbers[name])


def _named(spec: str) -> Objective:
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
