"""SimCLR on 5,000 images of Fashion-MNIST with the small AlexNet, beside which
docs/beyond/self_supervision.md sets six other objectives, random and supervised features.

    python -m experiments.pretrain --config=configs/pretrain_fashion.py --workdir=runs/simclr
    python -m experiments.layer_probes --config=configs/layer_probes_digits.py --config.size=28 \
        --config.task.name=fashion_mnist --config.base=runs/simclr --config.weights="" \
        --workdir=runs/probes_simclr

A full run takes all 51,000 images (--config.images=0) and 200 epochs or more.
"""

from configs import pretrain


def get_config():
    config = pretrain.get_config()
    config.base = "alexnet_small"
    config.task.name = "fashion_mnist"
    config.images = 5000
    config.objective = "simclr(hidden=256, width=128)"
    config.batch_size = 128
    config.tune.epochs = 15
    config.tune.learning_rate = 2e-3
    config.tune.augment = "crop(0.3)+flip+jitter(0.4, 0.4, 0, 0)"
    return config.lock()
