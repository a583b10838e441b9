"""Pictures of two coloured digits, told in words: a captioner in two minutes, with no download.

    python -m experiments.caption --config=configs/caption_small.py
    python -m experiments.predict --run=runs/caption_small picture.png
"""

from configs import captions


def get_config():
    config = captions.get_config()
    config.task.name = "told_digits"
    del config.task.least
    config.size = 96
    config.head = "show_and_tell(features=128)"
    config.train_head.epochs, config.tune.epochs = 20, 3
    return config.lock()
