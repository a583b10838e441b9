"""Objectives, a file each, and `OBJECTIVES`: those that a config can name."""

from tl_jax.train.objectives.cross_entropy import CrossEntropy

OBJECTIVES = {"cross_entropy": CrossEntropy}
