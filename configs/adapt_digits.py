"""From scikit-learn's handwritten digits to digits drawn from fonts, small enough to try.

    python -m experiments.adapt --config=configs/adapt_digits.py
"""

from configs import adapt

RATE = {"tune": {"learning_rate": "log(1e-3, 1e-2)"}}


def get_config():
    config = adapt.get_config().unlock()
    config.base, config.weights = "efficientnet_lite0", "random:0"
    config.size, config.channels = 16, 1
    config.tasks.source = {"name": "digits", "val": 0.2, "test": 0.25}
    config.tasks.target = {"name": "rendered", "nuisance": 0.25, "val": 0.2, "test": 0.25}
    config.settings = {"cut": "stage2_block1", "batch_size": 64, "dropout": 0.0}
    config.settings.tune = {"epochs": 4, "batch_norm": "batch"}
    config.methods.source_only = adapt.method("cross_entropy", RATE)
    config.methods.target_only = adapt.method("cross_entropy", RATE)
    config.draws = 2
    config.seeds = (0, 1)
    return config.lock()
