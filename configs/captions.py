"""What every captioner has in common: Show and Tell on EfficientNet-Lite0; no task yet.

python -m experiments.caption --config=configs/captions.py --config.task.name=captions:mine.csv

The base is frozen until the LSTM is trained, then all layers learn at a small rate.
"""

from configs import defaults


def get_config():
    config = defaults.get_config().unlock()
    config.task.name = "captions"
    config.task.caption = ""  # column of the captions (default: caption)
    config.task.shared = ""  # images with the same caption: apart (in one split, default) or mixed
    config.task.least = 2  # times that a word occurs in the training captions
    config.head = "show_and_tell(features=256)"
    config.objective = "captions(beam=3, length=0.0)"
    config.plan, config.from_layer = "head_then_fine_tune", "0"
    config.dropout, config.batch_size = 0.3, 32
    config.train_head.epochs, config.train_head.learning_rate = 20, 2e-3
    config.tune.epochs, config.tune.learning_rate = 5, 1e-4
    return config
