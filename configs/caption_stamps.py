"""Captions of Tux Paint's stamps, 785 pictures and what they show in a few words, from Debian.

    python -m experiments.caption --config=configs/caption_stamps.py
    python -m experiments.caption --config=configs/caption_stamps.py --config.plan=head_only \\
        --workdir=runs/caption_stamps_frozen --config.task.language=de

The base is frozen until the LSTM is trained; then its upper third learns with it.
"""

from configs import captions


def get_config():
    config = captions.get_config()
    config.task.name = "packaged:stamps_captions"
    config.size, config.crop = 128, 1.0
    config.head = "show_and_tell(features=128)"
    config.from_layer = "stage6_block1"
    config.train_head.epochs, config.tune.epochs = 15, 4
    return config.lock()
