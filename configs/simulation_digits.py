"""The study of configs/simulation.py on scikit-learn's digits, small enough to try.

    python -m experiments.simulation --config=configs/simulation_digits.py
"""

from configs import simulation


def get_config():
    config = simulation.get_config()
    config.task.name = "digits"
    config.seeds = (0, 1, 2)
    config.pretrain.steps = 400
    config.train.steps = 150
    return config
