"""Objectives, a file each, and `OBJECTIVES`: those that a config can name."""

from tl_jax.train.objectives.averaged import Averaged
from tl_jax.train.objectives.byol import BYOL
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.objectives.discrepancy import Discrepancy
from tl_jax.train.objectives.domain_adversarial import DomainAdversarial
from tl_jax.train.objectives.language_model import LanguageModel
from tl_jax.train.objectives.tasks import PCGrad, Tasks

OBJECTIVES = {
    "averaged": Averaged,
    "byol": BYOL,
    "cross_entropy": CrossEntropy,
    "discrepancy": Discrepancy,
    "domain_adversarial": DomainAdversarial,
    "language_model": LanguageModel,
    "pcgrad": PCGrad,
    "tasks": Tasks,
}
