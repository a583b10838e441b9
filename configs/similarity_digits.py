"""The study of configs/similarity.py on scikit-learn's digits, small enough for a try.

    python -m experiments.similarity --config=configs/similarity_digits.py

It compares Lite0 at 32 pixels with itself and with random weights, and takes 53 s on 2 CPU cores
with other jobs running (2026-11-25, jax 0.10.2).
"""

from configs import similarity


def get_config():
    config = similarity.get_config()
    config.weights = "pip:efficientnet-lite0"
    config.size = 32
    config.task.name = "digits"
    with config.unlocked():
        del config.others.lite1
    return config
