"""The pictures of configs/look.py for scikit-learn's digits.

    python -m experiments.look --config=configs/look_digits.py

They take less time than those of solar cells.
"""

from configs import look


def get_config():
    config = look.get_config()
    config.size = 64
    config.task.name = "digits"
    config.maps = ("tsne",)
    return config
