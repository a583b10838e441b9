"""The study of configs/simulation.py on scikit-learn's digits, small enough to try.

    python -m experiments.simulation --config=configs/simulation_digits.py

Drawings alone give 40 to 48 % on handwritten digits, which is worth 0.6 to 0.8 real labels a class;
beside one real label of each class they add 0.4 to 1.1 (2026-11-29, jax 0.10.2;
docs/beyond/simulation.md says more).
"""

from configs import simulation


def get_config():
    config = simulation.get_config()
    config.task.name = "digits"
    config.seeds = (0, 1, 2)
    config.pretrain.steps = 400
    config.train.steps = 150
    return config
