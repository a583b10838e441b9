"""Which caption belongs to which of Tux Paint's stamps? Lite0 beside MiniLM, by contrast (CLIP).

    python -m experiments.caption --config=configs/pairs_stamps.py
    python -m experiments.caption --config=configs/pairs_stamps.py --config.plan=head_only \\
        --workdir=runs/pairs_stamps_frozen

MiniLM stays as it is, and gives each caption a vector; two projections are learned, and then the
upper third of the image's base with them.
"""

from configs import caption_stamps


def get_config():
    config = caption_stamps.get_config().unlock()
    config.objective = "contrastive(encoder='minilm_l6')"
    config.head = "pair(features=128, text=384)"
    config.batch_size = 128
    config.train_head.epochs, config.tune.epochs = 30, 6
    return config.lock()
