"""The study of configs/similarity.py on scikit-learn's digits, small enough to try."""

from configs import similarity


def get_config():
    config = similarity.get_config()
    config.weights = "pip:efficientnet-lite0"
    config.size = 32
    config.task.name = "digits"
    with config.unlocked():
        del config.others.lite1
    return config
