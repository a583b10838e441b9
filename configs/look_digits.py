"""The pictures of configs/look.py for scikit-learn's digits, in less time.

    python -m experiments.look --config=configs/look_digits.py

The images have 64 pixels a side, and t-SNE is the only map.
"""

from configs import look


def get_config():
    config = look.get_config()
    config.size = 64
    config.task.name = "digits"
    config.maps = ("tsne",)
    return config
