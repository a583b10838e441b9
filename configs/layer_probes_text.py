"""Probes at every layer of MiniLM on sentences of film reviews, positive or negative.

    python -m experiments.layer_probes --config=configs/layer_probes_text.py

Another task is --config.task.name=text:mine.csv; another base, the folder of a language model or of
a finished run: --config.base=runs/language_small.
"""

from configs import layer_probes


def get_config():
    config = layer_probes.get_config().unlock()
    config.base, config.weights = "minilm_l6", ""
    config.size, config.crop = 48, 0.0  # tokens
    config.task.name = "packaged:vader_movies"
    config.task.targets = ""
    config.probes = ("ridge", "logistic", "class_means")
    config.budgets = (10.0, 100.0, 1.0)
    return config.lock()
