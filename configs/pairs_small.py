"""Which sentence belongs to which picture of two coloured digits? By contrast, from words alone.

python -m experiments.caption --config=configs/pairs_small.py
"""

from configs import caption_small


def get_config():
    config = caption_small.get_config().unlock()
    config.objective = "contrastive"
    config.head = "pair(features=64)"
    config.plan = "head_only"
    config.batch_size = 128
    config.train_head.epochs = 40
    return config.lock()
