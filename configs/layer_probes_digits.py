"""The study of configs/layer_probes.py on scikit-learn's digits, small enough for a try.

    python -m experiments.layer_probes --config=configs/layer_probes_digits.py

It takes 78 s on 2 CPU cores (2026-11-25), most of it compilation.
"""

from configs import layer_probes


def get_config():
    config = layer_probes.get_config()
    config.size = 32
    config.task.name = "digits"
    config.task.targets = ""
    config.budgets = (0.02, 0.1, 1.0)
    config.seeds = (0, 1)
    return config
