"""From digits drawn from fonts under full domain randomisation to handwritten ones.

    python -m experiments.adapt --config=configs/adapt_fonts.py

The way back of configs/adapt_digits.py: labels of drawings cost nothing.
"""

from configs import adapt_digits


def get_config():
    config = adapt_digits.get_config().unlock()
    config.tasks.source = {"name": "rendered", "nuisance": 1.0, "val": 0.2, "test": 0.25}
    config.tasks.target = {"name": "digits", "val": 0.2, "test": 0.25}
    config.settings.tune.epochs = 8
    return config.lock()
