"""SimCLR on scikit-learn's digits with the small AlexNet: a run of a minute, to try objectives.

    python -m experiments.pretrain --config=configs/pretrain_digits.py
    python -m experiments.pretrain --config=configs/pretrain_digits.py \
        --config.objective="vicreg(width=256, hidden=256)" --workdir=runs/vicreg
"""

from configs import pretrain


def get_config():
    config = pretrain.get_config()
    config.base = "alexnet_small"
    config.task.name = "digits"
    config.objective = "simclr(hidden=128, width=64)"
    config.batch_size = 128
    config.tune.epochs = 10
    config.tune.learning_rate = 3e-3
    config.tune.augment = "crop(0.4)+jitter(0.4, 0.4, 0, 0)"  # a digit that is mirrored is none
    return config.lock()
