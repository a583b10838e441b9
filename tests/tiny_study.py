"""A study of scenarios of four cells that train no network."""

import pathlib
from typing import Any

from tl_jax.runs.config import load_config


def config(cache: pathlib.Path) -> Any:
    """Two plans on pixels: nearest class means, the reference, and an RBF SVM."""
    found = load_config("configs/scenarios_digits.py")
    with found.unlocked():
        found.plans = {
            name: {"probe": probe, "features": "pixels"}
            for name, probe in (("from_scratch", "class_means"), ("rbf", "rbf_svm"))
        }
        found.budgets, found.seeds, found.cache = (5,), 2, str(cache)
    return found
