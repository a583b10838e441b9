"""A small classifier of texts by ULMFiT's recipe, from the language model of language_small.py.

    python -m experiments.language --config=configs/language_small.py
    python -m experiments.transfer --config=configs/text_small.py --config.task.path=mine.csv

The table has columns `text` and `label`; --config.task.text and --config.task.label name others.
The head is trained first, then a recurrent layer more in each phase, from the top, each lower one
at a rate 2.6 times smaller, on slanted triangular schedules (Howard & Ruder 2018, section 3.3).
"""

from configs import defaults


def get_config():
    config = defaults.get_config()
    config.base = "runs/language_small"
    config.size = 64  # tokens
    config.task.name = "text"
    config.cut = "lstm3"
    config.head = "ulmfit"
    config.plan = "gradual_unfreezing"
    config.from_layer = "embed"
    config.by = "layer"
    config.factor = 2.6
    config.train_head.epochs = 3
    config.train_head.learning_rate = 2e-2
    config.train_head.batch_norm = "batch"
    config.tune.epochs = 1
    config.tune.learning_rate = 1e-2
    config.tune.batch_norm = "batch"
    config.tune.schedule = "slanted_triangular"
    config.dropout = 0.2
    return config.lock()
