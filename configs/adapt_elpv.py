"""Defects of solar cells: labels of monocrystalline cells, none of polycrystalline ones.

    python -m experiments.adapt --config=configs/adapt_elpv.py --workers=2

Classes are of unequal size, and not of the same sizes in both: what infomax, the nuclear norm and
methods that align whole domains take for granted is wrong here.
"""

from configs import adapt

RATE = {"tune": {"learning_rate": "log(1e-4, 3e-3)"}}
LESS = {"tune": {"learning_rate": "log(3e-5, 1e-3)"}}


def get_config():
    config = adapt.get_config().unlock()
    config.base, config.size, config.crop = "efficientnet_lite0", 112, 1.0
    for domain, cells in (("source", "mono"), ("target", "poly")):
        config.tasks[domain] = {"name": "elpv", "cells": cells, "targets": "plain", "val": 0.15}
    config.settings = {"batch_size": 32}
    config.settings.tune = {"epochs": 10, "batch_norm": "batch", "views": "flip"}
    config.methods = adapt.every(RATE, LESS)
    return config.lock()
